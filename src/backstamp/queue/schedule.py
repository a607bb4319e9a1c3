"""The schedule: which delivery is due next. A heap in monotonic seconds, and nothing else.

Whoever is due leaves in the order of the due time, equal times in the order they came.
"""

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    """Items by due time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, item: T) -> None:
        """Put an item in."""
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, item))

    def take(self, now: float) -> T | None:
        """Take the earliest item out if it is due."""
        if self._heap and self._heap[0][0] <= now:
            return heapq.heappop(self._heap)[2]
        return None

    def next_due(self) -> float | None:
        """Return the earliest due time."""
        return self._heap[0][0] if self._heap else None

    def items(self) -> list[tuple[float, T]]:
        """Return all items with their due times, in no order."""
        return [(due, item) for due, _, item in self._heap]
