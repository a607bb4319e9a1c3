"""Permits: who may hold a connection, over all throttles of a lane, and who waits for one. Pure.

A lane that cannot have a permit stands in the line of the throttle that says no, whether that
has no more connections or its rates say later. Who stands first is called when one is given
back, and when the rate lets the next begin; whoever comes new stands behind. Nobody waits
behind a lane that is busy for ever: who holds a permit learns that others want it.
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
        self._called: AnyLane | None = None
        """Who was first in a line and may ask now; if it is kept off still, it stands there again."""

    @property
    def waiting(self) -> bool:
        """Whether any lane waits for a permit."""
        return bool(self._waiting)

    def ask(self, lane: AnyLane, now: float) -> tuple[float, Throttle | None]:
        """Take a permit for a lane that waits nowhere; return when to ask again, 0 if it has it.

        Else it waits at the throttle that is returned, and is `called` from there; at a time that is
        not never this must be seen to.
        """
        first, self._called = self._called is lane, None
        at, throttle = lane.may_begin(now)
        if at <= now or throttle is None:
            throttle = None if first else next((one for one in lane.throttles if one in self._waiting), None)
            if throttle is None:
                for one in lane.throttles:
                    one.held += 1
                return 0.0, None
            # There is something to be had, and others were here before.
            at = NEVER
        waiting = self._waiting.setdefault(throttle, OrderedDict())
        waiting[lane] = None
        if first:
            waiting.move_to_end(lane, last=False)
        lane.waits_at = throttle
        return at, throttle

    def give_back(self, lane: AnyLane) -> None:
        """End a permit of a lane."""
        for throttle in lane.throttles:
            throttle.held -= 1

    def served(self, lane: AnyLane, now: float) -> Iterator[AnyLane]:
        """Yield the lanes that may ask again now that something changed at a lane's throttles."""
        for throttle in lane.throttles:
            yield from self.called(throttle, now)

    def called(self, throttle: Throttle, now: float) -> Iterator[AnyLane]:
        """Yield those who wait at a throttle and may ask, until one is kept off by it still."""
        waiting = self._waiting.get(throttle)
        # Now, or at a time, as of a ceiling when more may be tried: who stands first must see to that.
        while waiting and throttle.may_connect(now) < NEVER:
            chosen, _ = waiting.popitem(last=False)
            if not waiting:
                del self._waiting[throttle]
            chosen.waits_at = None
            self._called = chosen
            yield chosen
            self._called = None
            waiting = self._waiting.get(throttle)
            if waiting and next(iter(waiting)) is chosen:
                return

    def wanted(self, lane: AnyLane, now: float, *, opening: bool = False) -> bool:
        """Tell whether another lane waits for what this one holds, or for the connection it would open."""
        if not self._waiting:
            return False
        for throttle in lane.throttles:
            waiting = self._waiting.get(throttle)
            if (
                waiting
                and (len(waiting) > 1 or lane.waits_at is not throttle)
                and (opening or throttle.held >= throttle.window.limit(now))
            ):
                return True
        return False

    def forget(self, lane: AnyLane) -> None:
        """Take a lane out: it has nothing to do any more. Those behind it are to be `called`."""
        if (throttle := lane.waits_at) is not None:
            lane.waits_at = None
            waiting = self._waiting[throttle]
            del waiting[lane]
            if not waiting:
                del self._waiting[throttle]

    def waits(self, lane: AnyLane) -> Throttle | None:
        """Return the throttle a lane waits at for a permit, None if it does not wait."""
        return lane.waits_at
