"""What happens again and again, told once a minute with a count. Pure.

The first time is told at once; what follows within the minute is counted, and told with the
next one behind it, or by `due` when none comes. Bounded: of too many keys the one that was
told first is forgotten, so that a flood of clients costs no memory. Times are monotonic
seconds given by the caller.
"""

from collections.abc import Iterator
from typing import Final

MINUTE: Final = 60.0

Key = tuple[str, ...]


class Tally:
    """Counts by key; `most` keys at a time."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._told: dict[Key, tuple[float, int]] = {}
        """When each was told last, and how often it came since; in the order they were told."""

    def __len__(self) -> int:
        return len(self._told)

    def count(self, key: Key, now: float) -> int:
        """Count one; return how many are to be told now: 0, or all since it was told last, with this one."""
        found = self._told.get(key)
        if found is not None:
            since, untold = found
            if now - since < MINUTE:
                self._told[key] = (since, untold + 1)
                return 0
            del self._told[key]
        elif len(self._told) >= self._most:
            del self._told[next(iter(self._told))]
        self._told[key] = (now, 0)
        return 1 if found is None else found[1] + 1

    def due(self, now: float) -> Iterator[tuple[Key, int]]:
        """Yield what was counted and not told, of those whose minute is over; those are forgotten."""
        while self._told:
            key, (since, untold) = next(iter(self._told.items()))
            if now - since < MINUTE:
                return
            del self._told[key]
            if untold:
                yield key, untold
