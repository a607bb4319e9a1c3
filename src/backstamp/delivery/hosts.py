"""Hosts that give no session, remembered for all lanes. Pure.

A dead host costs every attempt that meets it a connect timeout, and every message behind
that one its turn. So whoever meets a host that gave no session a moment ago takes the answer
of whoever met it last, and goes on to the next host at once; when the pause is over one
attempt tries it, the others wait for that one's word. Sessions that are open do not ask.
Where more are to be tried again than one attempt may, they take turns.
For whom a host is dead is part of its place: who else may have a session there must not wait.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from typing import Final

import msgspec

from backstamp.mail.outcome import Outcome

PAUSE: Final = 30.0
"""Seconds between two tries of a dead host, at most; never more than half the first wait of a message."""

SIZE: Final = 10_000
"""Dead hosts remembered; the one that was met longest ago is forgotten first."""

Place = tuple[Hashable, str, int]
"""Whose trouble it is (a source address, or a lane), and the host's address and port."""


class Dead(msgspec.Struct):
    """A host that gave no session; times are monotonic seconds."""

    outcome: Outcome
    since: float
    again: float
    """When it may be tried again."""
    gives_way: bool = False
    """Others are to be tried first: whoever meets it next goes on to them."""


class Hosts:
    """The dead ones. Times are monotonic seconds."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._dead: OrderedDict[Place, Dead] = OrderedDict()

    def __len__(self) -> int:
        return len(self._dead)

    def __iter__(self) -> Iterator[Dead]:
        """Yield the dead ones."""
        return iter(self._dead.values())

    def met(self, place: Place, now: float, pause: float) -> Outcome | None:
        """Return what a dead host did last; None if it is to be tried, by the caller."""
        dead = self._dead.get(place)
        if dead is None:
            return None
        if dead.again > now:
            return dead.outcome
        if dead.gives_way:
            dead.gives_way = False
            return dead.outcome
        # The caller's try is the only one for a while.
        dead.again = now + pause
        return None

    def answer(self, place: Place) -> Outcome | None:
        """Return what a dead host did last, without a claim to try it; None if it is not dead."""
        dead = self._dead.get(place)
        return None if dead is None else dead.outcome

    def due(self, place: Place, now: float) -> bool:
        """Tell whether `met` would have it tried."""
        dead = self._dead.get(place)
        return dead is None or (dead.again <= now and not dead.gives_way)

    def give_way(self, places: Iterable[Place]) -> None:
        """Let others be tried before these, once: an attempt had to leave them out."""
        for place in places:
            if (dead := self._dead.get(place)) is not None:
                dead.gives_way = True

    def failed(self, place: Place, outcome: Outcome, now: float, pause: float) -> bool:
        """Note that a host gave no session; tell whether that is news."""
        dead = self._dead.pop(place, None)
        self._dead[place] = Dead(
            outcome,
            now if dead is None else dead.since,
            now + pause,
            dead is not None and dead.gives_way,
        )
        if len(self._dead) > self._size:
            self._dead.popitem(last=False)
        return dead is None

    def answered(self, place: Place, now: float) -> float | None:
        """Note that a host gave a session; return for how long it had given none, if it had."""
        dead = self._dead.pop(place, None)
        return None if dead is None else now - dead.since


def pause(first_wait: float) -> float:
    """Return the pause between two tries, from a message's first wait in seconds."""
    return min(PAUSE, first_wait / 2)
