"""Keeping: what the loop knows of the files of keys, and has done to them (Q13).

A segment's keys stand in its records; before it goes they are written to a file of keys
(`queue.keeper`). At a start those files are read before the segments are, and each goes when
its last key is over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from backstamp.queue import keys
from backstamp.queue.once import Once
from backstamp.queue.recovery import KeptKeys, Problem
from backstamp.queue.segment import Segment
from backstamp.queue.store import Job, Keep
from backstamp.text import reason

_ROUNDS: Final = 3
"""How often a file is tried."""

_SLICE: Final = 4096
"""Keys noted between two turns of the loop."""

Load = Callable[[int], Awaitable[KeptKeys]]


class Keeping:
    """One queue's files of keys. `load` reads one apart from the loop; `now` is in milliseconds."""

    def __init__(
        self,
        once: Once,
        *,
        now: Callable[[], int],
        load: Load,
        submit: Callable[[Job], None],
        tell: Callable[[Problem], None],
        pause: float,
    ) -> None:
        self._once = once
        self._now = now
        self._load = load
        self._submit = submit
        self._tell = tell
        self._pause = pause
        self._files: dict[int, int] = {}
        """Files by number, and the arrival of the newest key in each."""
        self._under_way = 0
        """Writes of keys that may go to any of them."""

    async def read(self, numbers: Sequence[int]) -> None:
        """Read the files that are there; one that can never be read costs its keys, and is told."""
        for number in numbers:
            for last in range(_ROUNDS - 1, -1, -1):
                try:
                    found = await self._load(number)
                except OSError as error:
                    if last:
                        await asyncio.sleep(self._pause)
                        continue
                    what = f"keys in file {number} cannot be read: {reason(error)}"
                    self._tell(Problem(what, "who sends one of them again sends a second message"))
                else:
                    for problem in found.problems:
                        self._tell(problem)
                    self._files[number] = keys.newest(found.rows)
                    await self.note(found.rows)
                break
        self.sweep()

    async def note(self, rows: bytes) -> bytes:
        """Note keys that were read back; return those that still count."""
        living = keys.living(rows, self._now())
        for at, (key, queue_id) in enumerate(keys.rows(living), 1):
            self._once.note(key, queue_id)
            if at % _SLICE == 0:
                await asyncio.sleep(0)
        return living

    def keep(self, chosen: Sequence[Segment]) -> asyncio.Future[None]:
        """Keep the keys of sealed segments, which may go then. The future raises OSError: nothing is kept."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rows = keys.living(b"".join([segment.keys for segment in chosen]), self._now())

        def done(job: Keep) -> None:
            self._under_way -= 1
            if job.error is not None:
                if not kept.done():
                    kept.set_exception(job.error)
                return
            self._files[job.number] = max(self._files.get(job.number, 0), keys.newest(rows))
            _clear(chosen)
            if not kept.done():
                kept.set_result(None)

        if rows:
            self._under_way += 1
            self._submit(Keep(rows, (), done))
        else:
            _clear(chosen)
            kept.set_result(None)
        return kept

    def sweep(self) -> None:
        """Remove the files that hold nothing that counts."""
        if self._under_way:
            return  # the file they go to is not known yet; the next segment that goes asks again
        over = [number for number, newest in self._files.items() if newest + keys.KEY_LIFETIME <= self._now()]
        for number in over:
            del self._files[number]
        if over:
            self._submit(Keep(b"", over, lambda _: None))


def _clear(chosen: Sequence[Segment]) -> None:
    for segment in chosen:
        segment.keys.clear()
