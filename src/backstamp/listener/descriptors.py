"""File descriptors that run out: met before accept(2) has none, and told to an operator.

Nobody hears of it otherwise. libuv has a spare descriptor: it takes whoever waits and closes the
connection at once; asyncio stops accepting for a second; the relay goes on as if nobody came. So the
last ones are kept back, for the queue, for DNS and for who delivers: a client that comes then is told
421. The system gives the lowest number that is free, so a number says how many are open at least.
"""

import asyncio
import errno
import os
import resource
from collections.abc import Callable
from math import inf
from typing import Final

from backstamp.clock import Clock
from backstamp.telemetry.events import Alarm, Event

RESERVE: Final = 64
"""Descriptors that are kept back; of a small limit an eighth."""

MINUTE: Final = 60.0
"""Seconds between two alarms, and without trouble until it is told to be over."""

PROBLEM: Final = "file descriptors run out"


class Descriptors:
    """Those of this process. `limit` says how many it may have, `lowest` which one it gets next."""

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        limit: Callable[[], float] | None = None,
        lowest: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._emit = emit
        # Asked each time: an operator may raise it while the relay runs (prlimit(1)).
        self._limit = limit or _limit
        self._lowest = lowest or _lowest
        self._last: float | None = None
        """When they ran out last; None: that is over, and told."""
        self._told = -inf

    def last(self, transport: asyncio.BaseTransport) -> bool:
        """Tell whether a connection has one of the last; as below an operator is told."""
        sock = transport.get_extra_info("socket")
        # Its own number, not the next: others may be given back while it waits for its turn of the loop.
        return sock is not None and self._short(sock.fileno())

    def scarce(self) -> bool:
        """Tell whether the next one would be one of the last; once a minute an operator is told, too."""
        return self._short(self._lowest())

    def _short(self, number: float) -> bool:
        limit = self._limit()
        now = self._clock.monotonic()
        if number >= limit - min(RESERVE, limit // 8):
            self._last = now
            if now - self._told >= MINUTE:
                self._told = now
                of = f"at least {number:.0f}" if number < limit else "all"
                self._alarm(
                    f"{PROBLEM}: {of} of {limit:.0f} are open",
                    "new clients are told 421 or lose their connection; allow the process more (systemd:"
                    " LimitNOFILE, shell: ulimit -n), or lower limits.connections or"
                    " delivery.total_connections",
                )
            return True
        if self._last is not None and now - self._last >= MINUTE:
            self._last = None
            self._alarm("file descriptors ran out: there are enough again", "clients are taken")
        return False

    def _alarm(self, problem: str, action: str) -> None:
        self._emit(Alarm(time=int(self._clock.wall() * 1e6), problem=problem, action=action))


def _limit() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft


def _lowest() -> float:
    """Return the number the next descriptor would have; infinite where there is none."""
    try:
        number = os.open("/", os.O_RDONLY)
    except OSError as error:
        return inf if error.errno in (errno.EMFILE, errno.ENFILE) else 0
    os.close(number)
    return number
