"""Hosts that give no session, remembered for all lanes. Pure.

A dead host costs every attempt that meets it a connect timeout, and every message behind
that one its turn. So whoever meets a host that gave no session a moment ago takes the answer
of whoever met it last, and goes on to the next host at once; when the pause is over one
attempt tries it, the others wait for that one's word. Sessions that are open do not ask.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from backstamp.mail.outcome import Outcome

PAUSE: Final = 30.0
"""Seconds between two tries of a dead host, at most; never more than half the first wait of a message."""

SIZE: Final = 10_000
"""Dead hosts remembered; the one that was met longest ago is forgotten first."""

Host = tuple[str, int]
"""Address and port."""


class Dead(msgspec.Struct):
    """A host that gave no session; times are monotonic seconds."""

    outcome: Outcome
    since: float
    again: float
    """When it may be tried again."""


class Hosts:
    """The dead ones. Times are monotonic seconds."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._dead: OrderedDict[Host, Dead] = OrderedDict()

    def __len__(self) -> int:
        return len(self._dead)

    def __iter__(self) -> Iterator[Dead]:
        """Yield the dead ones."""
        return iter(self._dead.values())

    def get(self, host: Host) -> Dead | None:
        """Return what is remembered of a host, None if it is not dead. It may be tried or not: see `met`."""
        return self._dead.get(host)

    def met(self, host: Host, now: float, pause: float) -> Outcome | None:
        """Return what a dead host did last; None if it is to be tried, by the caller."""
        dead = self._dead.get(host)
        if dead is None:
            return None
        if dead.again > now:
            return dead.outcome
        # The caller's try is the only one for a while.
        dead.again = now + pause
        return None

    def failed(self, host: Host, outcome: Outcome, now: float, pause: float) -> bool:
        """Note that a host gave no session; tell whether that is news."""
        dead = self._dead.pop(host, None)
        self._dead[host] = Dead(outcome, now if dead is None else dead.since, now + pause)
        if len(self._dead) > self._size:
            self._dead.popitem(last=False)
        return dead is None

    def answered(self, host: Host, now: float) -> float | None:
        """Note that a host gave a session; return for how long it had given none, if it had."""
        dead = self._dead.pop(host, None)
        return None if dead is None else now - dead.since


def pause(first_wait: float) -> float:
    """Return the pause between two tries, from a message's first wait in seconds."""
    return min(PAUSE, first_wait / 2)
