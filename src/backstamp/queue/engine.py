"""What every queue engine has in common: claims, returns and reports over a ledger.

An engine adds where records live: how a message becomes durable (`_write`), how stamps do
(`_commit`) and how a message is read back (`_read`). The verbs and their contract are
those of `port.Queue`; everything here runs on the loop.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import itemgetter

import msgspec

from backstamp.clock import Clock
from backstamp.mail.content import Content
from backstamp.mail.envelope import DomainRun, Envelope, domain_runs
from backstamp.mail.release import held_until
from backstamp.mail.reply import Reply
from backstamp.queue import entry as entries
from backstamp.queue import ids, keys
from backstamp.queue.bell import Bell, Gate
from backstamp.queue.entry import SCHEDULED, Claim, Entry, Facts
from backstamp.queue.handing import Handing
from backstamp.queue.keys import KEYS_LIMIT
from backstamp.queue.ledger import Among, Debt, Ledger
from backstamp.queue.once import Once
from backstamp.queue.port import (
    DAMAGED,
    DamagedError,
    Delivery,
    Deposit,
    Flag,
    Load,
    Message,
    Owed,
    QueueRefusedError,
    Reason,
    StampNotDurableError,
    Told,
)
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Alarm, Event
from backstamp.text import reason

REPORT_AFTER = 300.0
"""Seconds after which a failure is reported though some recipients were not tried yet."""

REPORT_RETRY = 60.0
"""Seconds until a report that could not be queued is tried again."""

HOT_LIMIT = 64 * 1024 * 1024
"""Octets of accepted mail kept in memory until the first attempt."""

LARGE = 1024 * 1024
"""Octets of content up to which it is handed out whole; above, piece by piece."""

_ONCE = int(Flag.AT_MOST_ONCE)
_DOUBTED = (Stamp.DOUBT, Stamp.HELD)
_OPEN = (Stamp.TODO, *_DOUBTED)
_FLAGS = {number: Flag(number) for number in range(2 * max(Flag))}
"""Flags by their number: making one costs as much as a dozen other lookups."""

_SLICE = 4096
"""Messages looked at between two turns of the loop."""

_NOTHING = Load(b"", b"", {}, b"")


class Engine:
    """The verbs of the port that do not depend on where records live."""

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        report_after: float = REPORT_AFTER,
        hot_limit: int = HOT_LIMIT,
        large: int = LARGE,
        keys_limit: int = KEYS_LIMIT,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._report_after = report_after
        self._large = large
        self.ledger = Ledger(hot_limit=hot_limit)
        self._claimable = Bell()
        self._reportable = Bell()
        self.doubts: dict[bytes, tuple[int, ...]] = {}
        """Who was in doubt when the queue was opened: ordinals by queue id."""
        self.once = Once(lambda: int(clock.wall() * 1000), self._keys_lost, keys_limit)
        """Which keys stand for which messages."""
        self._handing = Handing()
        self.gate = Gate()
        """Closed while stamps cannot be made durable."""

    # ---- what an engine adds ----

    def _write(self, message: Message, told: Told, entered: Callable[[Entry], None]) -> None:
        """Make a message durable; call `told` with its id or the refusal, once.

        Of a durable one `entered` is called after that, with its entry in the ledger (`_entered`). What
        becomes of a message with a key is told to `once`.
        """
        raise NotImplementedError

    async def _earlier(self, message: Message) -> bytes | None:
        """Return the id of the message that stands for a submission; None: it shall be written now (Q13).

        Raises:
            QueueRefusedError: it cannot be known yet.
        """
        return await self.once.earlier(message.key) if message.key else None

    def _commit(
        self, entry: Entry, runs: Sequence[tuple[int, bytes]], reasons: Sequence[Reason]
    ) -> asyncio.Future[None]:
        """Enqueue stamps, after their reasons; `owe` is called when reasons and stamps are durable."""
        raise NotImplementedError

    def _jot(self, entry: Entry, runs: Sequence[tuple[int, bytes]]) -> None:
        """Write stamps at once and without a sync. Raises StampNotDurableError: not even that worked."""
        raise NotImplementedError

    async def read(self, entry: Entry, *, content: bool = True) -> tuple[Envelope, Content]:
        """Read a message back; `content=False`: not its content. Raises DamagedError, OSError."""
        raise NotImplementedError

    def finished(self, segment: Segment) -> None:
        """Remove a segment if nothing needs it any more."""
        raise NotImplementedError

    def segments(self) -> Sequence[Segment]:
        """Return the segments whose messages are in the ledger."""
        raise NotImplementedError

    # ---- looking ----

    def find(self, queue_id: bytes) -> Entry | None:
        """Return a message that is not finished, None if there is none of this id."""
        for segment in self.segments():
            if (entry := entries.find(segment, queue_id)) is not None:
                return entry
        return None

    async def oldest(self, limit: int, after: bytes) -> list[Entry]:
        """Return up to `limit` messages in the order of their ids, those behind the id `after`."""
        chosen: list[tuple[bytes, Entry]] = []
        for segment in self.segments():
            for start in range(0, len(segment.entries), _SLICE):
                some = segment.entries[start : start + _SLICE]
                alive = [(entry.queue_id, entry) for entry in some if entry is not None]
                chosen = heapq.nsmallest(
                    limit, [*chosen, *(one for one in alive if one[0] > after)], key=itemgetter(0)
                )
                await asyncio.sleep(0)
        return [entry for _, entry in chosen]

    async def envelope(self, entry: Entry) -> Envelope | None:
        """Return a message's envelope, None if it is finished; its record stays where it is meanwhile.

        Raises:
            DamagedError: its record does not verify.
            OSError: it cannot be read.
        """
        await self._in_place(entry)
        if entry.closed:
            return None
        segment = entry.segment
        segment.busy += 1
        try:
            envelope, _ = entry.hot or await self.read(entry, content=False)
        finally:
            self._rested(segment)
        return envelope

    def retry_times(self, entry: Entry) -> dict[int, float]:
        """Return when a message's recipients are tried next, by ordinal (seconds since the epoch)."""
        wall = self._clock.wall() - self._clock.monotonic()
        return {
            ordinal: round(wall + claim.due, 3)
            for claim in entry.deliveries
            if claim.due and claim.stage is SCHEDULED
            for ordinal in range(claim.first, claim.first + claim.count)
        }

    # ---- the port ----

    async def append(self, message: Message) -> bytes:
        """Return once the message that stands for this submission is on stable storage (Q1); its id."""
        if message.key:
            if (earlier := await self._earlier(message)) is not None:
                return earlier
            message = self._named(message)
        await self._written(message, lambda entry: self._release_all(entry, message.envelope))
        return message.queue_id

    def hand_in(self, message: Message, told: Told, settled: Callable[[], None]) -> None:
        """Begin to append a message; call back."""
        if message.key:
            self._handing.begin(self.append(message), told, settled)
            return

        def entered(entry: Entry) -> None:
            self._release_all(entry, message.envelope)
            settled()

        self._write(message, told, entered)

    def refusal(self) -> Reply | None:
        """Return why no mail is taken now: there is always room."""
        return None

    async def deposit(self, message: Message) -> Deposit:
        """Begin a message of which only the first part of the content is there."""
        raise NotImplementedError

    async def claim(self, limit: int) -> Sequence[Delivery]:
        """Wait until something is due; return at most `limit` deliveries, the earliest due first."""
        while True:
            await self.gate.passed()
            now = self._clock.monotonic()
            if taken := self.ledger.take(limit, now):
                return taken
            due = self.ledger.next_due()
            await self._claimable.wait(None if due is None else max(0.0, due - now))

    async def load(self, deliveries: Sequence[Delivery], *, content: bool = True) -> Load:
        """Begin an attempt at claims of one message: return its envelope and content, verified."""
        claims = [_claim(delivery) for delivery in deliveries]
        entry = claims[0].entry
        entry.kept = entry.facts
        if not _waiting(claims):
            # Held or removed while they waited for their turn; the record may be gone.
            return _NOTHING
        if self.gate.waiters is not None or entry.segment.copied is not None:
            await self._at_rest(entry)
            if not _waiting(claims):
                return _NOTHING
        for claim in claims:
            assert claim.entry is entry
            if not claim.loaded:
                claim.loaded = True
                entry.segment.busy += 1
        try:
            envelope, octets = entry.hot or await self.read(entry, content=content)
        except DamagedError as damage:
            await self._give_up(claims, damage)
            raise
        recipients = envelope.recipients
        facts = entry.facts
        image = entry.segment.image
        waiting = _waiting(claims)
        return Load(
            envelope.sender,
            envelope.parameters,
            {ordinal: recipients[ordinal] for ordinal in waiting},
            octets if content else b"",
            _FLAGS[facts.flags],
            tuple([ordinal for ordinal in waiting if image[facts.first + ordinal] == Stamp.DOUBT]),
        )

    async def _give_up(self, claims: Sequence[Claim], damage: DamagedError) -> None:
        """Nothing ends silently (promise 3): these recipients fail, with a report if one can be made."""
        marks = dict.fromkeys(_waiting(claims), Stamp.FAILED)
        self.alarm(str(damage), "kept in corrupt/, recipients failed")
        await self._mark(claims[0].entry, marks, [Reason(tuple(marks), DAMAGED, "", self.now())])
        for claim in claims:
            self.give_back(claim, 0.0)

    async def _at_rest(self, entry: Entry) -> None:
        """Wait until an entry may be worked on: stamps can be made durable, and it is not being moved."""
        await self.gate.passed()
        while entry.segment.copied is not None:
            await self._in_place(entry)
            await self.gate.passed()

    async def _in_place(self, entry: Entry) -> None:
        """Wait until an entry is not being moved."""
        while entry.segment.copied is not None:
            await asyncio.shield(entry.segment.copied)

    def doubt(self, delivery: Delivery, ordinals: Sequence[int]) -> Awaitable[None] | None:
        """Stamp `?`: the final dot goes out now."""
        entry = _claim(delivery).entry
        if entry.facts.flags & _ONCE:
            return self._mark(entry, dict.fromkeys(ordinals, Stamp.DOUBT))
        self._jot(entry, self.ledger.doubt(entry, ordinals))
        return None

    def answered(self, delivery: Delivery, ordinals: Sequence[int]) -> None:
        """Stamp `T` again: a reply came, and these are still to be delivered."""
        entry = _claim(delivery).entry
        marks = {ordinal: Stamp.TODO for ordinal in ordinals if entry.stamp(ordinal) is Stamp.DOUBT}
        if marks:
            # If it cannot be written the doubt stays on disk: one more name for the operator.
            with contextlib.suppress(StampNotDurableError):
                self._jot(entry, self.ledger.mark(entry, marks))

    def stamp(
        self, delivery: Delivery, marks: Mapping[int, Stamp], reasons: Sequence[Reason] = ()
    ) -> asyncio.Future[None]:
        """Enqueue stamps at once, without an await (Q4); the future ends when they are durable."""
        return self._mark(_claim(delivery).entry, marks, reasons)

    def rest(self, delivery: Delivery) -> None:
        """End an attempt though not the claim: it waits on in its lane, and may be loaded again."""
        self._rest(_claim(delivery))

    def _rest(self, claim: Claim) -> None:
        if claim.loaded:
            claim.loaded = False
            segment = claim.entry.segment
            if claim.entry.facts.flags & _ONCE:
                self._hold_doubts(claim)
            self._rested(segment)

    def give_back(self, delivery: Delivery, retry_at: float) -> None:
        """End a claim. What still waits is due at `retry_at` (seconds since the epoch)."""
        claim = _claim(delivery)
        self._rest(claim)
        # The wall clock may jump while it waits; how long it waits must not.
        due = self._clock.monotonic() + retry_at - self._clock.wall()
        if self.ledger.give_back(claim, due):
            self._claimable.ring()
        if self.ledger.report_ready:
            self._reportable.ring()

    def _hold_doubts(self, claim: Claim) -> None:
        """Who is in doubt after an attempt at at-most-once mail waits for a decision."""
        entry = claim.entry
        covered = range(claim.first, claim.first + claim.count)
        held = [ordinal for ordinal in covered if entry.stamp(ordinal) is Stamp.DOUBT]
        if held:
            # Nobody waits for it: `?` is durable already, and a start holds what it finds so.
            self._mark(entry, dict.fromkeys(held, Stamp.HELD)).add_done_callback(retrieve)

    async def claim_report(self) -> Owed:
        """Wait until a report is due and return it; exclusive until `report` or a crash."""
        while True:
            now = self._clock.monotonic()
            while (debt := self.ledger.take_report(now)) is not None:
                entry = debt.entry
                await self._at_rest(entry)
                entry.segment.busy += 1
                ordinals = debt.due()
                try:
                    envelope, content = entry.hot or await self.read(entry)
                except DamagedError as damage:
                    known = damage.envelope is not None
                    action = (
                        "kept in corrupt/, reported without it" if known else "kept in corrupt/, not reported"
                    )
                    self.alarm(str(damage), action, ids.text(entry.queue_id))
                    if damage.envelope is None:
                        # Its sender is unknown: the alarm is all the report there can be.
                        await self._close_report(debt, ordinals)
                        continue
                    envelope, content = damage.envelope, b""
                except OSError as error:
                    problem = f"a message could not be read for its report: {reason(error)}"
                    self.alarm(problem, "tried again in a minute", ids.text(entry.queue_id))
                    self._postpone(debt)
                    continue
                facts = entry.facts
                whole = isinstance(content, bytes)
                original = content if isinstance(content, bytes) else content.header
                reasons = tuple(debt.reasons)
                return Owed(facts.queue_id, facts.arrival, envelope, ordinals, reasons, original, whole)
            check = self.ledger.next_report()
            await self._reportable.wait(None if check is None else max(0.0, check - now))

    async def report(self, owed: Owed, dsn: Message | None) -> None:
        """Append the report (None: no report is wanted), then stamp its recipients `B`, durably (Q5)."""
        debt = self.ledger.debt(owed.queue_id)
        try:
            written = await self._written(dsn) if dsn is not None else None
        except QueueRefusedError:
            self.postpone_report(owed)
            raise
        await self._close_report(debt, owed.ordinals)
        if written is not None and dsn is not None:
            self._release_all(written, dsn.envelope)

    def postpone_report(self, owed: Owed) -> None:
        """End a report's claim without one: it could not be made. It is due again in a minute."""
        self._postpone(self.ledger.debt(owed.queue_id))

    # ---- what operators need (`queue.operations`) ----

    async def doubtful(self) -> list[tuple[Entry, tuple[int, ...]]]:
        """Return messages of which somebody is in doubt, and who, the oldest segment first.

        Of mail that must come at most once also those who are held: who was in doubt waits so for a
        decision. Those whose reply may still come are not named: their transaction is under way.
        """
        found: dict[Entry, tuple[int, ...]] = {}
        for queue_id, ordinals in self.doubts.items():
            if (entry := self.find(queue_id)) is not None:
                # Who was answered since then is in doubt no more.
                still = tuple(one for one in ordinals if entry.stamp(one) in _OPEN)
                found |= {entry: still} if still else {}
        for segment in self.segments():
            if not any(stamp in segment.image for stamp in _DOUBTED):
                continue
            for start in range(0, len(segment.entries), _SLICE):
                for entry in segment.entries[start : start + _SLICE]:
                    if entry is not None and (now := self._in_doubt(entry)):
                        found[entry] = tuple(sorted({*found.get(entry, ()), *now}))
                await asyncio.sleep(0)
        return list(found.items())

    def _in_doubt(self, entry: Entry) -> tuple[int, ...]:
        """Return who of a message is in doubt now, or may be held for that."""
        held = entry.ordinals(Stamp.HELD) if entry.facts.flags & _ONCE else ()
        doubted = entry.ordinals(Stamp.DOUBT)
        return held if doubted and self.under_way(entry) else held + doubted

    def under_way(self, entry: Entry) -> bool:
        """Tell whether an attempt or a report of a message is under way, or it may not leave yet (Q5)."""
        if entry.claims is None or self.ledger.reporting(entry):
            return True
        return any(claim.loaded for claim in entry.deliveries)

    def mark(
        self, entry: Entry, marks: Mapping[int, Stamp], reasons: Sequence[Reason] = ()
    ) -> asyncio.Future[None]:
        """Stamp recipients of a message that nobody is working on."""
        return self._mark(entry, marks, reasons)

    def hurry(self, entry: Entry, ordinals: Sequence[int]) -> None:
        """Make what is scheduled for some recipients of a message due now."""
        self.ledger.hurry(entry, ordinals)
        self._claimable.ring()

    def offer(self, entry: Entry, envelope: Envelope, ordinals: Sequence[int]) -> None:
        """Make some recipients of a message claimable, each in one delivery: now, or when its sender said."""
        among = Among(ordinals)
        self._release(
            entry, envelope, [run for run in domain_runs(envelope.recipients) if among(run.first, run.count)]
        )
        if held_until(envelope.parameters) <= self._clock.wall():
            self.hurry(entry, ordinals)

    # ---- parts ----

    def _postpone(self, debt: Debt) -> None:
        self._rested(debt.entry.segment)
        self.ledger.postpone(debt, self._clock.monotonic() + REPORT_RETRY)
        self._reportable.ring()

    async def _close_report(self, debt: Debt, ordinals: Sequence[int]) -> None:
        await self._mark(debt.entry, dict.fromkeys(ordinals, Stamp.BOUNCED))
        self._rested(debt.entry.segment)
        for segment in self.ledger.settle(debt):
            self.finished(segment)

    def _mark(
        self, entry: Entry, marks: Mapping[int, Stamp], reasons: Sequence[Reason] = ()
    ) -> asyncio.Future[None]:
        runs = self.ledger.mark(entry, marks)
        durable = self._commit(entry, runs, reasons)
        self.ledger.close(entry)
        return durable

    def _rested(self, segment: Segment) -> None:
        """Something that was under way in a segment has ended."""
        segment.busy -= 1
        if not segment.live and not segment.busy:
            self.finished(segment)

    def owe(self, entry: Entry, failed: Iterable[int], reasons: Sequence[Reason], pinned: Segment) -> None:
        """Note failures whose stamps, and reasons in `pinned`, are durable: reports follow `F` (Q5)."""
        self.ledger.owe(entry, failed, reasons, pinned, self._clock.monotonic() + self._report_after)
        self._reportable.ring()

    async def _written(self, message: Message, entered: Callable[[Entry], None] = lambda _: None) -> Entry:
        """Return once a message is durable and in the ledger; `entered` is called though nobody waits."""
        written: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()

        def told(outcome: bytes | Exception) -> None:
            if isinstance(outcome, Exception) and not written.done():
                written.set_exception(outcome)

        def done(entry: Entry) -> None:
            if not written.done():
                written.set_result(entry)
            entered(entry)

        self._write(message, told, done)
        return await written

    def _entered(self, segment: Segment, facts: Facts, message: Message) -> Entry:
        """Enter a message that just became durable; its deliveries follow with `_release`."""
        entry = self.ledger.enter(segment, facts)
        if message.key:
            self._key_entered(segment, message)
        # What waits for its time takes no room from what is sent now.
        if len(message.content) <= self._large and not held_until(message.envelope.parameters):
            self.ledger.keep_hot(entry, message.envelope, message.content)
        return entry

    def _named(self, message: Message) -> Message:
        """Return a message as its record shall be: it tells the key."""
        if not message.key:
            return message
        return msgspec.structs.replace(message, envelope=keys.named(message.envelope, message.key))

    def _key_entered(self, segment: Segment, message: Message) -> None:
        """The record of a message with a key became durable in a segment."""
        segment.keys += message.key + message.queue_id
        self.once.settle(message.key, message.queue_id)

    def _keys_lost(self, count: int) -> None:
        self.alarm(
            f"more keys came in a day than are remembered: the oldest {count} are forgotten",
            "who sends one of them again sends a second message",
        )

    def _release_all(self, entry: Entry, envelope: Envelope) -> None:
        """Make all deliveries of a message claimable."""
        self._release(entry, envelope, domain_runs(envelope.recipients))

    def _release(self, entry: Entry, envelope: Envelope, runs: Sequence[DomainRun]) -> None:
        """Make deliveries of a message claimable: now, or when its sender said (RFC 4865)."""
        wait = held_until(envelope.parameters) - self._clock.wall() if envelope.parameters else 0.0
        if wait > 0:
            self.ledger.release_later(entry, runs, envelope, self._clock.monotonic() + wait)
        else:
            self.ledger.release(entry, runs, envelope)
        self._claimable.ring()

    def wake(self) -> None:
        """Something may be claimable."""
        self._claimable.ring()

    def alarm(self, problem: str, action: str, queue_id: str = "") -> None:
        """Tell what an operator must see."""
        self._emit(Alarm(time=self.now(), problem=problem, action=action, queue_id=queue_id))

    def now(self) -> int:
        """Return the time, in microseconds since the epoch."""
        return int(self._clock.wall() * 1e6)


def _waiting(claims: Sequence[Claim]) -> list[int]:
    """Return the ordinals still to be delivered of some claims."""
    if len(claims) == 1:
        return claims[0].ordinals()
    return [ordinal for claim in claims for ordinal in claim.ordinals()]


def _claim(delivery: Delivery) -> Claim:
    """Return the claim behind a handle: only what an engine gave out can come back to it."""
    assert isinstance(delivery, Claim)
    return delivery


def retrieve(future: asyncio.Future[None]) -> None:
    """Look at a future nobody waits for, so that its error is not reported as forgotten."""
    if not future.cancelled():
        future.exception()
