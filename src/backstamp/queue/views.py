"""Looking at the queue: the running one through its ledger, a stopped one through the fold."""

from collections.abc import Sequence

from backstamp.queue import ids, reader, recovery
from backstamp.queue.engine import Engine
from backstamp.queue.entry import Entry
from backstamp.queue.files import Files
from backstamp.queue.fold import Fold
from backstamp.queue.port import DamagedError
from backstamp.queue.view import MessageView, of_found, view


class LedgerView:
    """The running queue, oldest first. It reads envelopes back where they are no longer in memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, limit: int, after: str | None) -> Sequence[MessageView]:
        """Return up to `limit` messages, those behind the queue id `after`."""
        start = ids.parse(after) if after else b""
        chosen = await self._engine.oldest(limit, start)
        found = [await self._view(entry) for entry in chosen if not entry.closed]
        return [one for one in found if one is not None]

    async def show(self, queue_id: str) -> MessageView | None:
        """Return one message, None where it is not queued (any more)."""
        try:
            entry = self._engine.find(ids.parse(queue_id))
        except ValueError:
            return None
        return None if entry is None else await self._view(entry)

    async def _view(self, entry: Entry) -> MessageView | None:
        facts = entry.facts
        try:
            envelope = await self._engine.envelope(entry)
        except DamagedError:
            return None
        stamps = [entry.stamp(ordinal) for ordinal in range(facts.recipients)]
        return view(
            facts.queue_id, facts.arrival, facts.size, envelope, stamps, self._engine.retry_times(entry)
        )


def stopped(files: Files, root: str) -> list[MessageView]:
    """Return every message of a queue directory that is not final, oldest first; nothing is changed.

    Raises:
        OSError: it is no queue directory, or cannot be read.
    """
    directory = f"{root}/{recovery.PARTITION}"
    fold = Fold()
    views = []
    for number in recovery.readable(files, root):
        views += [of_found(found) for found in fold.take(reader.scan(files, directory, number)).open]
    return sorted(views, key=lambda message: message.queue_id)
