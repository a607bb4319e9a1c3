"""Once: of submissions with one key one is queued; whoever comes meanwhile waits for its outcome.

Whoever is told None by `earlier` writes, and says by `settle` what became of it, also where
nobody waits for it any more: what is under way may still become durable. Used on the loop.
"""

import asyncio
from collections.abc import Callable

from backstamp.queue.keys import KEYS_LIMIT, Index


class Once:
    """The keys of one queue. `lost` is told of keys that are let go of before their time."""

    def __init__(self, now: Callable[[], int], lost: Callable[[int], None], limit: int = KEYS_LIMIT) -> None:
        self.index = Index(limit)
        self._now = now
        """Milliseconds since the epoch."""
        self._lost = lost
        self._pending: dict[bytes, asyncio.Future[None]] = {}

    async def earlier(self, key: bytes) -> bytes | None:
        """Return the id of the message that stands for a key; None: the caller's shall, and it writes now."""
        while True:
            if (known := self.index.find(key, self._now())) is not None:
                return known
            if (first := self._pending.get(key)) is None:
                self._pending[key] = asyncio.get_running_loop().create_future()
                return None
            await asyncio.shield(first)

    def settle(self, key: bytes, queue_id: bytes | None) -> None:
        """A message with a key is durable, or (None) was not written."""
        if queue_id is not None:
            self.note(key, queue_id)
        if (pending := self._pending.pop(key, None)) is not None:
            pending.set_result(None)

    def note(self, key: bytes, queue_id: bytes) -> None:
        """A key was read back, or became durable."""
        if lost := self.index.add(key, queue_id, self._now()):
            self._lost(lost)
