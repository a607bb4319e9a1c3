"""Permits: who may hold a connection, over all throttles of a lane, and who waits for one. Pure.

A lane that cannot have a permit stands in the line of the throttle that says no, whether that
has no more connections or its rates say later. Who stands first is called when one is given
back, and when the rate lets the next begin; whoever comes new stands behind. Nobody waits
behind a lane that is busy for ever: who holds a permit learns that others want it.
"""

from collections.abc import Iterator
from typing import Final

from backstamp.delivery.lines import AnyLane, Lines
from backstamp.delivery.throttle import Throttle

NEVER: Final = float("inf")


class Permits:
    """The permits of all lanes. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.lines = Lines()
        self._called: AnyLane | None = None
        """Who was first in a line and may ask now; if it is kept off still, it stands there again."""

    @property
    def waiting(self) -> bool:
        """Whether any lane waits for a permit."""
        return bool(self.lines)

    def ask(self, lane: AnyLane, now: float) -> tuple[float, Throttle | None]:
        """Take a permit for a lane that waits nowhere; return when to ask again, 0 if it has it.

        Else it waits at the throttle that is returned, and is `called` from there; at a time that is
        not never this must be seen to.
        """
        first, self._called = self._called is lane, None
        at, throttle = lane.may_begin(now)
        if at <= now or throttle is None:
            lines = () if first or not self.lines else lane.throttles
            throttle = next((one for one in lines if self.lines.first(one) is not None), None)
            if throttle is None:
                for one in lane.throttles:
                    one.held += 1
                return 0.0, None
            # There is something to be had, and others were here before.
            at = NEVER
        self.lines.stand(lane, throttle, first=first)
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
        # Now, or at a time, as of a ceiling when more may be tried: who stands first must see to that.
        while (chosen := self.lines.first(throttle)) is not None and throttle.may_connect(now) < NEVER:
            self.lines.leave(chosen)
            self._called = chosen
            yield chosen
            self._called = None
            if self.lines.first(throttle) is chosen:
                return

    def wanted(self, lane: AnyLane, now: float, *, opening: bool = False) -> bool:
        """Tell whether another lane waits for what this one holds, or for the connection it would open."""
        if not self.lines:
            return False
        for throttle in lane.throttles:
            others = self.lines.first(throttle, but=lane) is not None
            if others and (opening or throttle.held >= throttle.window.limit(now)):
                return True
        return False

    def forget(self, lane: AnyLane) -> None:
        """Take a lane out: it has nothing to do any more. Those behind it are to be `called`."""
        self.lines.leave(lane)

    def waits(self, lane: AnyLane) -> Throttle | None:
        """Return the throttle a lane waits at for a permit, None if it does not wait."""
        return self.lines.at(lane)
