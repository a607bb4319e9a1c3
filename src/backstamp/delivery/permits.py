"""Permits: who may hold a connection, over all throttles of a lane, and who waits for one. Pure.

A lane that cannot have a permit waits at the throttle that says no; what is given back there
goes to the lane that has waited longest. Nobody waits behind a lane that is busy for ever:
who holds a permit learns that others want it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from backstamp.delivery.lane import Lane
from backstamp.delivery.throttle import Throttle

NEVER: Final = float("inf")

AnyLane = Lane[Any]


class Permits:
    """The permits of all lanes. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: dict[Throttle, OrderedDict[AnyLane, None]] = {}

    @property
    def waiting(self) -> bool:
        """Whether any lane waits for a permit."""
        return bool(self._waiting)

    def ask(self, lane: AnyLane, now: float) -> tuple[float, Throttle | None]:
        """Take a permit for a lane; return when to ask again, 0 if it has it.

        Never: it waits at the throttle that is returned, and is `served` from there.
        """
        at, throttle = lane.may_connect(now)
        if at <= now or throttle is None:
            for one in lane.throttles:
                one.held += 1
            return 0.0, None
        if at == NEVER:
            self._waiting.setdefault(throttle, OrderedDict())[lane] = None
            lane.waits_at = throttle
        return at, throttle

    def give_back(self, lane: AnyLane) -> None:
        """End a permit of a lane."""
        for throttle in lane.throttles:
            throttle.held -= 1

    def served(self, lane: AnyLane, now: float) -> Iterator[AnyLane]:
        """Yield the lanes that may ask again now that something changed at a lane's throttles."""
        for throttle in lane.throttles:
            waiting = self._waiting.get(throttle)
            while waiting and throttle.held < throttle.window.limit(now):
                chosen, _ = waiting.popitem(last=False)
                chosen.waits_at = None
                if not waiting:
                    del self._waiting[throttle]
                yield chosen

    def wanted(self, lane: AnyLane) -> bool:
        """Tell whether another lane waits for what this one holds."""
        if not self._waiting:
            return False
        for throttle in lane.throttles:
            waiting = self._waiting.get(throttle)
            if waiting and (len(waiting) > 1 or lane.waits_at is not throttle):
                return True
        return False

    def forget(self, lane: AnyLane) -> None:
        """Take a lane out: it has nothing to do any more."""
        if (throttle := lane.waits_at) is not None:
            lane.waits_at = None
            waiting = self._waiting[throttle]
            del waiting[lane]
            if not waiting:
                del self._waiting[throttle]

    def waits(self, lane: AnyLane) -> Throttle | None:
        """Return the throttle a lane waits at for a permit, None if it does not wait."""
        return lane.waits_at
