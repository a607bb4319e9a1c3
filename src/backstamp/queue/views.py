"""Looking at the queue: the running one through its ledger, a stopped one through the fold."""

from collections.abc import Callable, Sequence

from backstamp.mail.envelope import Envelope, Flow, Recipient
from backstamp.queue import ids, operations, reader, recovery
from backstamp.queue.engine import Engine
from backstamp.queue.entry import CLAIMED, ENDED, Entry
from backstamp.queue.files import Files
from backstamp.queue.fold import Fold, Found
from backstamp.queue.port import DamagedError, Flag
from backstamp.queue.stamps import Stamp
from backstamp.queue.view import (
    Acted,
    DeliveryView,
    DoubtView,
    MessageView,
    Opened,
    doubts,
    named,
    of_found,
    view,
)
from backstamp.telemetry.events import Event, Operated
from backstamp.text import reason


class LedgerView:
    """The running queue, oldest first. It reads envelopes back where they are no longer in memory."""

    def __init__(self, engine: Engine, emit: Callable[[Event], None]) -> None:
        self._engine = engine
        self._emit = emit

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

    async def open(self, queue_id: str) -> Opened | None:
        """Return one message with its deliveries, None where it is not queued (any more)."""
        message = await self.show(queue_id)
        entry = None if message is None else self._engine.find(ids.parse(queue_id))
        if message is None or entry is None:
            return None
        times = self._engine.retry_times(entry)
        alive = [claim for claim in entry.deliveries if claim.stage is not ENDED and claim.waiting]
        debt = self._engine.ledger.owed(entry)
        return Opened(
            message,
            alive[0].flow if alive else Flow(b""),
            bool(entry.facts.flags & Flag.AT_MOST_ONCE),
            bool(entry.facts.flags & Flag.REPORT),
            tuple(
                DeliveryView(claim, (*claim.ordinals(),), times.get(claim.first), claim.stage is CLAIMED)
                for claim in alive
            ),
            () if debt is None else tuple(debt.reasons),
            self._engine.ledger.reporting(entry),
            self._engine.gate.waiters is not None,
        )

    async def act(self, verb: str, queue_id: str, recipients: Sequence[str] | None) -> Acted | None:
        """Carry out an operator's verb (`operations.VERBS`); None where there is no such message.

        Raises:
            ValueError: an address is none of its recipients'.
            BusyError: an attempt or a report of the message is under way.
            StampNotDurableError: the queue closed before it was durable.
            DamagedError: its record does not verify.
            OSError: it cannot be read.
        """
        before = await self.show(queue_id)
        entry = self._engine.find(ids.parse(queue_id)) if before is not None else None
        if before is None or entry is None:
            return None
        chosen = range(len(before.recipients)) if recipients is None else named(before, recipients)
        changed = await operations.act(self._engine, verb, entry, chosen)
        names = tuple(before.recipients[ordinal].address for ordinal in changed)
        if names:
            self._emit(
                Operated(time=self._engine.now(), queue_id=before.queue_id, verb=verb, recipients=names)
            )
        return Acted(names, None if entry.closed else await self._view(entry))

    async def doubts(self) -> Sequence[DoubtView]:
        """Return who is in doubt since the start, or since a reply never came, oldest message first."""
        found = []
        for entry, doubted in await self._engine.doubtful():
            if (message := await self._view(entry)) is not None:
                found += doubts(message, doubted)
        return sorted(found, key=lambda one: one.queue_id)

    async def _view(self, entry: Entry) -> MessageView | None:
        facts = entry.facts
        problem = ""
        try:
            envelope = await self._engine.envelope(entry)
        except DamagedError as error:
            envelope, problem = error.envelope or _unknown(facts.recipients), str(error)
        except OSError as error:
            envelope, problem = _unknown(facts.recipients), f"the record cannot be read: {reason(error)}"
        if envelope is None:
            return None
        stamps = [entry.stamp(ordinal) for ordinal in range(facts.recipients)]
        return view(
            facts.queue_id,
            facts.arrival,
            facts.size,
            envelope,
            stamps,
            self._engine.retry_times(entry),
            problem,
        )


def _unknown(recipients: int) -> Envelope:
    """Return what is known of a message whose record cannot be read: how many it is for."""
    return Envelope(b"", (Recipient(b""),) * recipients)


def stopped_doubts(files: Files, root: str) -> list[DoubtView]:
    """Return who is in doubt in a queue directory, oldest message first; nothing is changed.

    Of mail that must come at most once also those who are held: a start holds who was in doubt.

    Raises:
        FormatError: it is a queue of another version, or none.
        OSError: it cannot be read.
    """
    found = []
    for message in _open(files, root):
        doubted = set(message.doubts)
        if message.header.flags & Flag.AT_MOST_ONCE:
            doubted.update(message.ordinals(Stamp.HELD))
        found += doubts(of_found(message), sorted(doubted))
    return sorted(found, key=lambda one: one.queue_id)


def _open(files: Files, root: str) -> list[Found]:
    recovery.check_format(files, root)
    directory = f"{root}/{recovery.PARTITION}"
    fold = Fold()
    found = []
    for number in recovery.readable(files, root):
        found += fold.take(reader.scan(files, directory, number)).open
    return found


def stopped(files: Files, root: str) -> list[MessageView]:
    """Return every message of a queue directory that is not final, oldest first; nothing is changed.

    Raises:
        FormatError: it is a queue of another version, or none.
        OSError: it cannot be read.
    """
    return sorted(map(of_found, _open(files, root)), key=lambda message: message.queue_id)
