"""Rates: which lane sends next where several share a rate of messages. Pure.

Lanes whose sessions are open and that a rate keeps off stand in the line of the throttle that
says no. Whoever finds that the next may go lets those go who stood there before it.
"""

from collections import OrderedDict
from typing import Any

from backstamp.delivery.lane import Lane
from backstamp.delivery.throttle import Throttle

AnyLane = Lane[Any]


class Rates:
    """The lines of all rates of messages."""

    def __init__(self) -> None:
        self._lines: dict[Throttle, OrderedDict[AnyLane, None]] = {}

    def stand(self, lane: AnyLane, now: float) -> None:
        """Let a lane that is kept off stand in the line of the throttle that says so: last, if it is new."""
        throttle = lane.slowest(now)
        if lane.stands_at is throttle or throttle is None:
            return
        self.leave(lane)
        self._lines.setdefault(throttle, OrderedDict())[lane] = None
        lane.stands_at = throttle

    def before(self, lane: AnyLane) -> AnyLane | None:
        """Return a lane that goes before this one, None if it is its turn."""
        if self._lines:
            for throttle in lane.learners:
                first = next(iter(self._lines.get(throttle, ())), lane)
                if first is not lane:
                    return first
        return None

    def leave(self, lane: AnyLane) -> None:
        """Take a lane out: it goes, or has nothing to send."""
        if (throttle := lane.stands_at) is not None:
            lane.stands_at = None
            line = self._lines[throttle]
            del line[lane]
            if not line:
                del self._lines[throttle]
