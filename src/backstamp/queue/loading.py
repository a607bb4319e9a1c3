"""Reading back what the process before left, in the background: segment by segment, the oldest first.

Mail is taken and delivered meanwhile. Reports come last, when every segment was read and it
is known which failures they cover (Q5), and whose reasons stand where. A segment that cannot
be read now is tried again; one that never can costs nothing but its own mail, and is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from backstamp.clock import Clock
from backstamp.mail.release import held_until
from backstamp.queue import ids
from backstamp.queue.engine import Engine
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.fold import Fold, Found
from backstamp.queue.port import Flag
from backstamp.queue.recovery import Loaded
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Event, InDoubt, Recovered
from backstamp.text import reason

_SLICE: Final = 256
"""Messages entered between two turns of the loop."""

_ROUNDS: Final = 3
"""How often a segment is tried."""

_REPORT: Final = int(Flag.REPORT)

Load = Callable[[int, Fold, bool], Awaitable[Loaded]]
"""Reads a segment; with True, what cannot be read now is an error, because it will be tried again."""

FirstDue = Callable[[float, float, float], float]
"""now, begin of life (seconds since the epoch), chance from [0, 1) → when to try what a start found."""


class Tally(msgspec.Struct):
    """What was read back."""

    segments: dict[int, Segment]
    owing: list[tuple[Entry, tuple[int, ...]]]
    reports: list[tuple[Entry, Found, float]]
    proving: set[int]
    """Segments that hold reasons or reports."""
    messages: int = 0
    recipients: int = 0


class Loading:
    """One start. `load` reads a segment apart from the loop; `added` is told of each, `note` of its keys."""

    def __init__(
        self,
        engine: Engine,
        load: Load,
        added: Callable[[Segment], None],
        note: Callable[[bytes], Awaitable[bytes]],
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        first_due: FirstDue,
        pause: float,
    ) -> None:
        self._engine = engine
        self._load = load
        self._added = added
        self._note = note
        self._clock = clock
        self._emit = emit
        self._first_due = first_due
        self._pause = pause
        self._fold = Fold()
        self._tally = Tally({}, [], [], set())

    async def run(self, numbers: Sequence[int]) -> None:
        """Read all there is."""
        engine, tally = self._engine, self._tally
        started = self._clock.monotonic()
        left = list(numbers)
        for last in range(_ROUNDS - 1, -1, -1):
            left = [number for number in left if not await self._segment(number, patient=bool(last))]
            if not left:
                break
            await asyncio.sleep(self._pause if last else 0)
        await self._settle_reports(whole=not left)
        for entry, message, due in tally.reports:
            engine.ledger.release_later(entry, message.runs, message.envelope, due)
        engine.wake()
        for number, segment in tally.segments.items():
            if left and number in tally.proving:
                continue  # what could not be read may owe a report that is made, or its reason stands, here
            segment.pins -= 1
            engine.finished(segment)
        self._emit(
            Recovered(
                time=engine.now(),
                segments=len(numbers),
                messages=tally.messages,
                recipients=tally.recipients,
                duration=self._clock.monotonic() - started,
            )
        )

    async def _segment(self, number: int, *, patient: bool) -> bool:
        """Read one segment and enter what is open in it; return whether it could be read."""
        engine = self._engine
        try:
            loaded = await self._load(number, self._fold, patient)
        except OSError as error:
            if not patient:
                engine.alarm(
                    f"segment {number} cannot be read: {reason(error)}",
                    "its mail, and reports of earlier failures, wait for the next start; see fsck",
                )
            return False
        segment = self._tally.segments[number] = loaded.segment
        # Until all is read nobody knows whose reasons stand in it.
        segment.pins += 1
        if loaded.judged.proves:
            self._tally.proving.add(number)
        self._added(segment)
        segment.keys += await self._note(loaded.judged.keys)
        for problem in loaded.problems:
            engine.alarm(problem.text, problem.action, problem.queue_id)
        left = loaded.judged.open
        left.reverse()
        while left:
            # The oldest first, and each let go of at once: freeing a whole segment's takes a while.
            for message in [left.pop() for _ in range(min(_SLICE, len(left)))]:
                self._enter(segment, message)
            engine.wake()
            await asyncio.sleep(0)
        return True

    def _enter(self, segment: Segment, message: Found) -> None:
        """Enter what the process before left; it is tried when its time comes."""
        header = message.header
        facts = Facts.of(header)
        ledger, tally = self._engine.ledger, self._tally
        entry = ledger.enter(segment, facts)
        if message.doubts:
            self._doubt(message)
        wall = self._clock.wall()
        chance = int.from_bytes(header.queue_id[-4:], "big") / 2**32
        release = held_until(message.envelope.parameters)
        # Its life begins when it may leave (RFC 4865).
        begins = max(header.arrival / 1e6, release)
        first = release if release > wall else self._first_due(wall, begins, chance)
        due = self._clock.monotonic() + first - wall
        if header.flags & _REPORT:
            tally.reports.append((entry, message, due))
        else:
            ledger.release_later(entry, message.runs, message.envelope, due)
        if Stamp.FAILED in message.stamps:
            tally.owing.append((entry, message.ordinals(Stamp.FAILED)))
        tally.messages += 1
        tally.recipients += sum(run.count for run in message.runs)

    def _doubt(self, message: Found) -> None:
        queue_id = message.header.queue_id
        self._engine.doubts[queue_id] = message.doubts
        for ordinal in message.doubts:
            address = message.envelope.recipients[ordinal].address
            self._emit(
                InDoubt(
                    time=self._engine.now(),
                    queue_id=ids.text(queue_id),
                    recipient=address.decode("utf-8", "backslashreplace"),
                    mx="",
                    reply="",
                )
            )

    async def _settle_reports(self, *, whole: bool) -> None:
        """Stamp `B` where a report is on its way, durably; owe the rest with the reasons that were kept.

        Where not the whole queue could be read, the rest waits for the next start: its report may be there.
        """
        engine, fold, found = self._engine, self._fold, self._tally.segments
        closed = []
        for entry, failed in self._tally.owing:
            queue_id = entry.queue_id
            # Of those that were found: who fails meanwhile has a report to come.
            if reported := fold.reported(queue_id, failed):
                closed.append(engine.mark(entry, dict.fromkeys(reported, Stamp.BOUNCED)))
            rest = tuple([one for one in failed if one not in reported])
            if not rest or not whole:
                continue
            kept = [reasons for reasons in fold.reasons.get(queue_id, ()) if reasons.segment in found]
            for reasons in kept:
                engine.owe(entry, rest, reasons.reasons, found[reasons.segment])
            if not kept:
                engine.owe(entry, rest, (), entry.segment)
        for durable in closed:
            await durable
