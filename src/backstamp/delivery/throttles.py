"""All throttles by name, and one over all connections: made when needed, kept while they know something."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from backstamp.clock import Clock
from backstamp.delivery.lane import Way
from backstamp.delivery.router import Bound
from backstamp.delivery.throttle import Learned, Throttle
from backstamp.policy.destination import DestinationPolicy

BOUND: Final = 20_000
"""Throttles that are kept, if none of them keeps anybody back."""


class Throttles:
    """The throttles of one dispatcher."""

    def __init__(self, connections: int, learned: Iterable[Learned], clock: Clock) -> None:
        self._clock = clock
        self.all = Throttle("all", DestinationPolicy(connections=connections), learns=False)
        """The one over all connections."""
        self.resize(connections)
        self.known: OrderedDict[str, Throttle] = OrderedDict()
        self.remembered = {one.key: one for one in learned}
        """What was learned of destinations that had no mail since the start, or none of late."""

    def resize(self, connections: int) -> None:
        """Allow so many connections together."""
        self.all.window.most = connections
        self.all.window.size = connections

    def learned(self) -> list[Learned]:
        """Return what destinations taught and is to be remembered over a restart."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        found = (throttle.learned(now, wall) for throttle in self.known.values())
        known = [one for one in found if one is not None]
        for key in [key for key, one in self.remembered.items() if not one.holds(wall)]:
            del self.remembered[key]
        return [*self.remembered.values(), *known]

    def of(self, bound: Bound, way: Way) -> tuple[Throttle, ...]:
        """Return a lane's throttles, that of all last."""
        return (*(self._throttle(name, policy) for name, policy in bound.limits(way)), self.all)

    def _throttle(self, key: str, policy: DestinationPolicy) -> Throttle:
        throttle = self.known.get(key)
        if throttle is not None:
            throttle.adopt(policy)
            self.known.move_to_end(key)
            return throttle
        throttle = self.known[key] = Throttle(key, policy)
        if (known := self.remembered.pop(key, None)) is not None:
            throttle.recall(known, self._clock.monotonic(), self._clock.wall())
        for _ in range(min(2, len(self.known) - BOUND)):
            self._put_away(next(iter(self.known.values())))
        return throttle

    def _put_away(self, oldest: Throttle) -> None:
        """Forget a throttle, but for what was learned. One that is needed or keeps somebody back stays."""
        now = self._clock.monotonic()
        if not oldest.idle(now):
            self.known.move_to_end(oldest.key)
            return
        del self.known[oldest.key]
        if (learned := oldest.learned(now, self._clock.wall())) is not None:
            self.remembered[oldest.key] = learned
