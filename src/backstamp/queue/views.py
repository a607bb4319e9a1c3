"""Looking at the queue: the running one through its ledger, a stopped one through the fold."""

import heapq
from collections.abc import Sequence

from backstamp.mail.envelope import Envelope
from backstamp.queue import ids, reader, recovery
from backstamp.queue.engine import Engine
from backstamp.queue.files import Files
from backstamp.queue.fold import Fold
from backstamp.queue.ledger import Entry
from backstamp.queue.port import DamagedError
from backstamp.queue.view import MessageView, of_found, view


class LedgerView:
    """The running queue, oldest first. It reads envelopes back where they are no longer in memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, limit: int, after: str | None) -> Sequence[MessageView]:
        """Return up to `limit` messages, those behind the queue id `after`."""
        start = ids.parse(after) if after else b""
        entries = self._engine.ledger.entries
        chosen = heapq.nsmallest(limit, (queue_id for queue_id in entries if queue_id > start))
        found = [await self._view(entries[queue_id]) for queue_id in chosen if queue_id in entries]
        return [one for one in found if one is not None]

    async def show(self, queue_id: str) -> MessageView | None:
        """Return one message, None where it is not queued (any more)."""
        try:
            entry = self._engine.ledger.entries.get(ids.parse(queue_id))
        except ValueError:
            return None
        return None if entry is None else await self._view(entry)

    async def _view(self, entry: Entry) -> MessageView | None:
        try:
            envelope, _ = entry.hot or await self._engine.read(entry)
        except DamagedError:
            return None
        stamps = [entry.stamp(ordinal) for ordinal in range(entry.count)]
        times = {
            ordinal: claim.retry_at
            for claim in self._engine.ledger.scheduled()
            if claim.entry is entry
            for ordinal in range(claim.first, claim.first + claim.count)
        }
        return view(entry.queue_id, entry.arrival, entry.size, envelope, stamps, times)


def stopped(files: Files, root: str) -> list[MessageView]:
    """Return every message of a queue directory that is not final, oldest first; nothing is changed.

    Raises:
        OSError: it is no queue directory, or cannot be read.
    """
    directory = f"{root}/{recovery.PARTITION}"
    fold = Fold()
    envelopes: dict[tuple[int, int], Envelope] = {}
    for number in recovery.readable(files, root):
        found = reader.scan(files, directory, number)
        recovery.feed(fold, found)
        envelopes.update({(number, record.header.offset): record.envelope for record in found.records})
    views = [of_found(found, envelopes[found.segment, found.header.offset]) for found in fold.open()]
    return sorted(views, key=lambda message: message.queue_id)
