"""Handing in without a task of one's own: a task in between, where there is something to wait for.

Nearly all mail is written at once, and its engine calls back (`port.Intake.hand_in`). What has to
wait before (for an earlier submission of the same key) waits here.
"""

import asyncio
from collections.abc import Awaitable, Callable

from backstamp.queue.port import Told


class Handing:
    """The tasks of one queue."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, append: Awaitable[bytes], told: Told, settled: Callable[[], None]) -> None:
        """Await an `append`, and call back as `hand_in` does."""
        task = asyncio.get_running_loop().create_task(_carry(append, told, settled), name="hand in")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _carry(append: Awaitable[bytes], told: Told, settled: Callable[[], None]) -> None:
    try:
        stands = await append
    except Exception as error:
        told(error)
        return
    told(stands)
    settled()
