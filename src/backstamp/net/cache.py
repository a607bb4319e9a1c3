"""A cache with a time to live and one question at a time: what the resolver remembers.

Concurrent askers of one key share one question; an asker who goes away does not take the
question along. Bounded: what was not asked for the longest goes first.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """Values by key, each until its time."""

    def __init__(self, now: Callable[[], float], *, size: int) -> None:
        self._now = now
        self._size = size
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[V]] = {}

    def peek(self, key: str) -> V | None:
        """Return the value of a key if it is known and still good."""
        kept = self._kept.get(key)
        if kept is None or kept[0] <= self._now():
            return None
        self._kept.move_to_end(key)
        return kept[1]

    async def get(self, key: str, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """Return the value of a key; `ask` gives value and time to live (seconds) where it is not known."""
        known = self.peek(key)
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask))
            # Not in the task itself: one that is cancelled before it begins runs no line of it.
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: str, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        value, seconds = await ask()
        self._kept.pop(key, None)
        if len(self._kept) >= self._size:
            self._kept.popitem(last=False)
        self._kept[key] = (self._now() + seconds, value)
        return value

    async def close(self) -> None:
        """End the questions under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
