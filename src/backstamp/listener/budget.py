"""Memory for contents on their way in, of all sessions together: who finds none waits.

A session takes what its message may need before it reads the content, and gives it back when
the message is in the queue. Who waits does not read from its socket, so TCP holds the client
back; nobody is refused. Waiting is in order: a large request is not overtaken by small ones.

A client may say no SIZE or too small a one; then its session needs more while it holds some,
which could end with all of them waiting for each other. Therefore a part of the budget
(`SPARE`) is for those only, and they go first: each asks once, for the whole that any message can
need, and that is no more than the spare. Whoever was given it needs nothing further, so it
comes back (the banker's algorithm), and there is always one who can go on.
"""

import asyncio
from collections import deque
from typing import Final

SPARE: Final = 2 * 1024 * 1024
"""Octets in memory that one message can need at most; and those kept back for who must grow."""

LEAST: Final = 2 * SPARE
"""The smallest budget that makes sense: one message, and the spare."""

UNKNOWN: Final = 128 * 1024
"""What is taken for a message of which nothing is known: few are larger, and those grow."""

SMALLEST: Final = 4096
"""What is taken at least: an empty message costs memory, too."""


def share(declared: int | None) -> int:
    """Return the octets a message takes before its content is read; `declared` is MAIL's SIZE, if given.

    To SIZE an eighth is added: clients count line ends, and the dots they double, as they like
    (RFC 1870 §3 counts CRLFs, and no dots).
    """
    if declared is None:
        return UNKNOWN
    return min(SPARE, max(SMALLEST, declared + declared // 8))


class Hold:
    """What one message holds. It must be released, once or more often."""

    __slots__ = ("_budget", "octets")

    def __init__(self, budget: "Budget", octets: int) -> None:
        self._budget = budget
        self.octets = octets

    async def grow(self, octets: int) -> None:
        """Hold so many in all, at most `SPARE`; wait until they are there. Once for each hold.

        A cancelled wait leaves the hold as it was.
        """
        more = min(octets, SPARE) - self.octets
        if more > 0:
            await self._budget.more(self, more)

    def release(self) -> None:
        """Give everything back."""
        octets, self.octets = self.octets, 0
        self._budget.give(octets)


class Budget:
    """Octets that are there for contents; `limit` at least `LEAST`. Of one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, LEAST)
        self._free = self.limit
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._growing: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def used(self) -> int:
        """Octets held now."""
        return self.limit - self._free

    @property
    def waiting(self) -> int:
        """Sessions that wait now."""
        return len(self._waiting) + len(self._growing)

    def take(self, octets: int) -> Hold | None:
        """Take octets (at most `SPARE` are needed) at once; None if others wait or there are too few."""
        octets = min(octets, SPARE)
        if self._waiting or self._growing or self._free - octets < SPARE:
            return None
        self._free -= octets
        return Hold(self, octets)

    async def wait(self, octets: int) -> Hold:
        """Take octets as `take` does, waiting until they are there. A cancelled wait takes nothing."""
        octets = min(octets, SPARE)
        if (hold := self.take(octets)) is None:
            await self._turn(self._waiting, octets)
            hold = Hold(self, octets)
        return hold

    async def more(self, hold: Hold, octets: int) -> None:
        """Add octets to a hold (see `Hold.grow`)."""
        if not self._growing and self._free >= octets:
            self._free -= octets
        else:
            await self._turn(self._growing, octets)
        hold.octets += octets

    def give(self, octets: int) -> None:
        """Take octets back, and let those go on for whom there are enough now."""
        self._free += octets
        self._wake()

    def resize(self, limit: int) -> None:
        """Change the limit; what is held beyond a smaller one comes back by and by."""
        limit = max(limit, LEAST)
        self._free += limit - self.limit
        self.limit = limit
        self._wake()

    async def _turn(self, queue: deque[tuple[asyncio.Future[None], int]], octets: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append((turn, octets))
        try:
            await turn
        except asyncio.CancelledError:
            # Cancelled in the very turn of the loop in which the octets came: it has them.
            if turn.done() and not turn.cancelled():
                self.give(octets)
            else:
                self._wake()  # it stood before others; one that needs less may be among them
            raise

    def _wake(self) -> None:
        for queue, kept in ((self._growing, 0), (self._waiting, SPARE)):
            while queue:
                turn, octets = queue[0]
                if not turn.done():  # else cancelled
                    if self._free - octets < kept:
                        return
                    self._free -= octets
                    turn.set_result(None)
                queue.popleft()
