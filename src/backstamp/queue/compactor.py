"""Compaction at work: now and then a look, a copy apart from the loop, and the messages move.

Whoever wants to work on a message that is being copied waits. Once the copy stands, entries
are given their new place, a few at a time; then their sources go, before the copy ever may.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backstamp.queue import compaction
from backstamp.queue.compaction import Copied
from backstamp.queue.draft import UndecidedError
from backstamp.queue.engine import Engine
from backstamp.queue.segment import Segment
from backstamp.queue.store import Job, Removal
from backstamp.text import reason

_SLICE: Final = 256
"""Messages moved between two turns of the loop."""


class Compactor:
    """Keeps the bound on the disk's use.

    `copy` copies what is open in some segments, apart from the loop, when `keep` has kept their keys;
    `added` and `dropped` are told of the new one and of the old; `undecided` of a copy that nobody can
    tell to count.
    """

    def __init__(
        self,
        engine: Engine,
        copy: Callable[[Sequence[Segment]], "asyncio.Future[Copied]"],
        *,
        keep: Callable[[Sequence[Segment]], "asyncio.Future[None]"],
        sealed: Callable[[], Iterable[Segment]],
        added: Callable[[Segment], None],
        dropped: Callable[[Segment], None],
        submit: Callable[[Job], None],
        undecided: Callable[[UndecidedError], None],
        segment_size: int,
    ) -> None:
        self._engine = engine
        self._copy = copy
        self._keep = keep
        self._sealed = sealed
        self._added = added
        self._dropped = dropped
        self._submit = submit
        self._undecided = undecided
        self._segment_size = segment_size
        self._unreadable: set[int] = set()
        """Numbers of segments with a record that does not verify."""

    async def run(self, period: float) -> None:
        """Look again after every `period` seconds."""
        while True:
            await asyncio.sleep(period)
            looking = asyncio.ensure_future(self.compact())
            try:
                await asyncio.shield(looking)
            except OSError:
                continue  # told; the next look tries again
            except asyncio.CancelledError:
                # Half a move is none: whoever closes the queue waits for it.
                await asyncio.wait([looking])
                raise

    async def compact(self) -> bool:
        """Copy what is open in some segments into one, if the bound asks for it; tell whether it did.

        Raises:
            OSError: the copy could not be written; everything is as it was.
        """
        sealed = [segment for segment in self._sealed() if segment.number not in self._unreadable]
        chosen = compaction.choose(sealed, self._segment_size)
        if not chosen:
            return False
        moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for segment in chosen:
            segment.copied = moved
        done = False
        try:
            # From the copy's name on its sources count no more: their keys must stand elsewhere (Q13).
            await self._keep(chosen)
            await self._move(chosen, await self._copy(chosen))
            done = True
        except UndecidedError as error:
            # Their messages are not touched any more: the next start takes the copy, or the sources.
            self._undecided(error)
            return False
        except compaction.UnreadableError as error:
            self._unreadable.update(segment.number for segment in chosen)
            self._engine.alarm(str(error), "it is looked at when it is sent, or by fsck")
        except OSError as error:
            self._engine.alarm(
                f"segments could not be compacted: {reason(error)}", "they stay, and are tried again"
            )
            _let_go(chosen, moved)
            raise
        _let_go(chosen, moved)
        return done

    async def _move(self, chosen: Sequence[Segment], copied: Copied) -> None:
        target = copied.segment
        self._added(target)
        # It goes after its sources: without it they would count again.
        target.pins += len(chosen)
        for at, (entry, place) in enumerate(zip(copied.entries, copied.places, strict=True)):
            self._engine.ledger.move(entry, target, place.offset, place.first)
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        for segment in chosen:
            self._dropped(segment)
            self._submit(Removal(segment, lambda job: self._removed(job, target)))

    def _removed(self, job: Removal, target: Segment) -> None:
        if job.error is not None:
            self._engine.alarm(
                f"segment {job.segment.number} could not be removed: {job.error}",
                f"it was copied to segment {target.number}; the next start removes it",
            )
            return
        target.pins -= 1
        self._engine.finished(target)


def _let_go(chosen: Sequence[Segment], moved: asyncio.Future[None]) -> None:
    for segment in chosen:
        segment.copied = None
    moved.set_result(None)
