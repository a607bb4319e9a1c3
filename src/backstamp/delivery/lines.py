"""Lines: lanes that wait at throttles, in the order in which they came; each in one at a time. Pure."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from backstamp.delivery.lane import Lane
from backstamp.delivery.throttle import Throttle

AnyLane = Lane[Any]


class Lines:
    """The lines for one thing that lanes wait for, by the throttle that keeps them off."""

    def __init__(self) -> None:
        self._lines: dict[Throttle, OrderedDict[AnyLane, None]] = {}
        self._places: dict[AnyLane, Throttle] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._lines)

    def __iter__(self) -> Iterator[tuple[Throttle, tuple[AnyLane, ...]]]:
        """Yield every line: for people and tests."""
        return ((throttle, tuple(line)) for throttle, line in self._lines.items())

    def at(self, lane: AnyLane) -> Throttle | None:
        """Return the throttle a lane waits at, None if it does not wait."""
        return self._places.get(lane)

    def first(self, throttle: Throttle, *, but: AnyLane | None = None) -> AnyLane | None:
        """Return who stands first at a throttle, `but` one; None if nobody does."""
        return next((one for one in self._lines.get(throttle, ()) if one is not but), None)

    def before(self, lane: AnyLane) -> int:
        """Return how many stand before a lane; 0 if it does not wait. It walks the line: for people."""
        throttle = self._places.get(lane)
        return 0 if throttle is None else [*self._lines[throttle]].index(lane)

    def stand(self, lane: AnyLane, throttle: Throttle, *, first: bool = False) -> None:
        """Let a lane wait at a throttle: where it stands, if it does; else last, or `first`."""
        if self._places.get(lane) is throttle:
            return
        self.leave(lane)
        line = self._lines.setdefault(throttle, OrderedDict())
        line[lane] = None
        if first:
            line.move_to_end(lane, last=False)
        self._places[lane] = throttle

    def leave(self, lane: AnyLane) -> None:
        """Take a lane out, if it waits."""
        if (throttle := self._places.pop(lane, None)) is not None:
            line = self._lines[throttle]
            del line[lane]
            if not line:
                del self._lines[throttle]
