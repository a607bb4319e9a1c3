"""The event log: one JSON object a line, or readable text for a person.

`emit` counts and appends to a list; a thread encodes and writes what gathered, many lines
in one call. A reader that does not read must not stop the relay: beyond a bound events are
dropped, counted, and the number told in a later line.
"""

import os
import select
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from backstamp.telemetry import lines
from backstamp.telemetry.events import Alarm, Event
from backstamp.telemetry.metrics import Metrics

PERIOD: Final = 0.05
"""Seconds events gather before they are written."""

BOUND: Final = 200_000
"""Events kept for a reader that is behind."""


class EventLog:
    """Writes events to a descriptor, which stays the caller's."""

    def __init__(self, descriptor: int, *, text: bool, metrics: Metrics) -> None:
        self._descriptor = descriptor
        self._encode: Callable[[Event], bytes] = lines.text if text else lines.json
        self._metrics = metrics
        self._events: list[Event] = []
        self._wake = threading.Event()
        self._closing = False
        self._torn = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Count an event and have it written. Never blocks."""
        self._metrics.count(event)
        events = self._events
        if len(events) >= BOUND:
            self._metrics.dropped += 1
            return
        events.append(event)
        if len(events) == 1:
            self._wake.set()

    def close(self) -> None:
        """Write what is left; waits at most a few seconds for a reader that is behind."""
        self._closing = True
        self._wake.set()
        self._thread.join(5)

    def _run(self) -> None:
        told = 0
        pause = threading.Event()
        events = self._events
        while not (self._closing and not events):
            if not events:
                self._wake.wait()
                self._wake.clear()
            if not self._closing:
                pause.wait(PERIOD)
            # The list stays the same object: what is appended meanwhile stands behind what is taken.
            batch = events[: len(events)]
            del events[: len(batch)]
            lines = [*map(self._encode, batch)]
            lost = self._metrics.lost
            if lost > told and batch:
                lines.append(self._encode(_told(batch[-1].time, lost - told)))
            written = self._write(lines)
            # Nobody reads any more, or there is no room; the relay goes on, the count says so.
            self._metrics.unwritten += max(0, len(batch) - written)
            if written > len(batch):
                told = lost
                self._metrics.told += 1

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write lines; return how many are written whole, from the first on."""
        # A line that broke off ends here: it must not take the next one with it.
        whole = b"\n" if self._torn else b""
        octets = memoryview(whole + b"".join(lines))
        at = 0
        try:
            while at < len(octets):
                try:
                    at += os.write(self._descriptor, octets[at:])
                except BlockingIOError:  # somebody who shares it wants it so
                    select.select((), (self._descriptor,), ())
        except OSError:
            pass
        ends = [*accumulate(map(len, lines), initial=len(whole))]
        if at:
            self._torn = at not in ends
        return bisect_right(ends, at) - 1 if at >= len(whole) else 0


def _told(time: int, count: int) -> Event:
    return Alarm(time=time, problem=f"{count} events were lost", action="whoever reads them is too slow")
