"""The local engine: segments on this machine's disk, group commit, recovery at start.

The loop side hands jobs to the commit thread and enters what became durable into the
ledger. A message is entered, and its client told 250, only in the call that announces its
sync (Q1). A stamp's job is enqueued in the turn that asks for it (Q4); one that fails is
handed over again until it is durable (Q8). What the process before left is read in the
background: mail is taken and delivered meanwhile.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec

from backstamp.clock import Clock
from backstamp.mail.envelope import Envelope
from backstamp.mail.reply import Reply
from backstamp.queue import compaction, ids, recovery
from backstamp.queue.committer import Committer, Sink
from backstamp.queue.draft import UndecidedError
from backstamp.queue.engine import HOT_LIMIT, REPORT_AFTER, Engine, retrieve
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.files import Files
from backstamp.queue.fold import Fold, Found
from backstamp.queue.port import (
    DamagedError,
    Deposit,
    Flag,
    Message,
    QueueRefusedError,
    Reason,
    StampNotDurableError,
)
from backstamp.queue.record import (
    HEADER_SIZE,
    Damage,
    Kind,
    checksum,
    decode_envelope,
    decode_header,
    encode_reasons,
)
from backstamp.queue.segment import CAPACITY, Segment, jot
from backstamp.queue.spool import Spool
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import SEGMENT_SIZE, Append, Job, Marks, Probe, Removal, Sealed, Store
from backstamp.queue.trouble import LOCAL, Trouble
from backstamp.telemetry.events import Alarm, Event, InDoubt, Recovered, Resumed

TOO_MANY = Reply(452, "4.5.3 Too many recipients")

_SLICE = 256
"""Messages entered between two turns of the loop."""

FirstDue = Callable[[float, float, float], float]
"""now, arrival (seconds since the epoch), chance from [0, 1) → when to try what a start found waiting."""


MakeCommitter = Callable[[Sink, Callable[[BaseException], None]], "Commits"]
"""What makes the committer; crash tests commit in the loop's own turn."""


class Commits(Protocol):
    """What the engine asks of a committer."""

    def submit(self, job: Job) -> None:
        """Hand over a job; never blocks."""
        ...

    async def close(self) -> None:
        """Commit what was handed over, seal, and end."""
        ...


class LocalSettings(msgspec.Struct, frozen=True):
    """Bounds of the local engine: octets and seconds."""

    segment_size: int = SEGMENT_SIZE
    hot_limit: int = HOT_LIMIT
    report_after: float = REPORT_AFTER
    reserve: int = 0
    """Octets of free space below which no new mail is taken; delivery goes on."""
    compact: float = 1.0
    """Seconds between two looks whether segments should be compacted; 0: never."""
    probe: float = 1.0
    """Seconds between probe writes while the disk fails, and at least between two looks at the free space."""


class LocalQueue(Engine):
    """The queue on disk. Make it with `open_queue`."""

    def __init__(
        self,
        files: Files,
        root: str,
        lock: int,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        settings: LocalSettings,
    ) -> None:
        super().__init__(
            clock=clock, emit=emit, report_after=settings.report_after, hot_limit=settings.hot_limit
        )
        self._files = files
        self._root = root
        self._lock = lock
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        self._segments: set[Segment] = set()
        self._committer: Commits
        self._trouble = Trouble()
        self._troubled: tuple[float, str] | None = None
        """Since when the queue does not do all it should (monotonic), and why."""
        self._undone: dict[Marks, None] = {}
        """Stamps that could not be made durable yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._looked = float("-inf")
        self._dead: str | None = None
        self._closing = False
        self.broken: asyncio.Future[None] = self._loop.create_future()
        """Fails if the commit thread dies: nothing can be acknowledged any more, the process must end."""
        self._numbers: Callable[[], int]
        self._salt: Callable[[], bytes]
        self._compacting: asyncio.Task[None] | None = None
        self._uncompactable: set[Segment] = set()
        self.recovering: asyncio.Task[None]
        """Ends when everything that was on disk at the start is in the ledger."""

    def health(self) -> str | None:
        """Return what keeps the queue from taking mail or from sending it, None while all is well."""
        self._look()
        return self.problem

    @property
    def problem(self) -> str | None:
        """What kept it when last looked at."""
        if self._dead is not None:
            return self._dead
        trouble = self._trouble
        if trouble.stuck:
            return "stamps cannot be made durable"
        return trouble.reason or ("there is less free space than the reserve" if trouble.short else None)

    # ---- life ----

    def _begin(
        self, numbers: Sequence[int], store: Store, first_due: FirstDue, committer: MakeCommitter
    ) -> None:
        """Start the commit thread, and reading what is there."""
        self._committer = committer(store, self._died)
        self.recovering = self._loop.create_task(self._recover(numbers, first_due), name="recover")
        self.recovering.add_done_callback(self._recovered)

    async def _recover(self, numbers: Sequence[int], first_due: FirstDue) -> None:
        """Read segment by segment; reports come last, when it is known which failures they cover (Q5)."""
        started = self._clock.monotonic()
        fold = Fold()
        owing: list[Entry] = []
        reports: list[tuple[Entry, Found, float]] = []
        found: dict[int, Segment] = {}
        messages = recipients = 0
        for number in numbers:
            try:
                loaded = await self._loop.run_in_executor(
                    self._readers, recovery.load, self._files, self._root, number, fold
                )
            except OSError as error:
                self._alarm(
                    f"segment {number} cannot be read: {error}", "its mail waits for the next start; see fsck"
                )
                continue
            segment = found[number] = loaded.segment
            # Until all is read nobody knows whose reasons stand in it.
            segment.pins += 1
            self._segments.add(segment)
            for problem in loaded.problems:
                self._alarm(problem.text, problem.action, problem.queue_id)
            left = loaded.judged.open
            left.reverse()
            while left:
                # The oldest first, and each let go of at once: freeing a whole segment's takes a while.
                for message in [left.pop() for _ in range(min(_SLICE, len(left)))]:
                    entry, due = self._enter_found(segment, message, first_due)
                    if message.header.flags & Flag.REPORT:
                        reports.append((entry, message, due))
                    else:
                        self.ledger.release_later(entry, message.runs, due)
                    if Stamp.FAILED in message.stamps:
                        owing.append(entry)
                    messages += 1
                    recipients += sum(run.count for run in message.runs)
                self._claimable.ring()
                await asyncio.sleep(0)
        await self._settle_reports(fold, owing, found)
        for entry, message, due in reports:
            self.ledger.release_later(entry, message.runs, due)
        self._claimable.ring()
        for segment in found.values():
            segment.pins -= 1
            self._finished(segment)
        self._emit(
            Recovered(
                time=self.now(),
                segments=len(numbers),
                messages=messages,
                recipients=recipients,
                duration=self._clock.monotonic() - started,
            )
        )

    def _enter_found(self, segment: Segment, message: Found, first_due: FirstDue) -> tuple[Entry, float]:
        """Enter what the process before left; return when it is to be tried."""
        header = message.header
        facts = Facts(
            header.queue_id,
            header.arrival,
            header.offset,
            header.content_length,
            header.envelope_length,
            header.first_stamp,
            header.recipients,
            header.flags,
        )
        entry = self.ledger.enter(segment, facts)
        entry.kept = None
        if message.doubts:
            self.doubts[header.queue_id] = message.doubts
        for ordinal in message.doubts:
            self._emit(
                InDoubt(
                    time=self.now(),
                    queue_id=ids.text(header.queue_id),
                    recipient=message.envelope.recipients[ordinal].address.decode(
                        "utf-8", "backslashreplace"
                    ),
                    mx="",
                    reply="",
                )
            )
        wall = self._clock.wall()
        chance = int.from_bytes(header.queue_id[-4:], "big") / 2**32
        return entry, self._clock.monotonic() + first_due(wall, header.arrival / 1e6, chance) - wall

    async def _settle_reports(self, fold: Fold, owing: Sequence[Entry], found: dict[int, Segment]) -> None:
        """Stamp `B` where a report is on its way, durably; owe the rest with the reasons that were kept."""
        closed = []
        for entry in owing:
            queue_id = entry.queue_id
            if reported := fold.reported(queue_id, entry.ordinals(Stamp.FAILED)):
                closed.append(self._mark(entry, dict.fromkeys(reported, Stamp.BOUNCED)))
            if entry.closed or not entry.ordinals(Stamp.FAILED):
                continue
            kept = [reasons for reasons in fold.reasons.get(queue_id, ()) if reasons.segment in found]
            for reasons in kept:
                self._owed(entry, reasons.reasons, found[reasons.segment])
            if not kept:
                self._owed(entry, (), entry.segment)
        for durable in closed:
            await durable

    def _recovered(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._fall(f"recovery broke: {error!r}", error)
        elif self._settings.compact and not self._closing:
            self._compacting = self._loop.create_task(self._compact_now_and_then(), name="compact")
            self._compacting.add_done_callback(self._compacted)

    def _compacted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fall(f"compaction broke: {error!r}", error)

    async def close(self) -> None:
        """Commit what was handed over, seal the open segment and let go of the lock."""
        self._closing = True
        for task in (self.recovering, self._compacting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._timer is not None:
            self._timer.cancel()
        self._again()
        await self._committer.close()
        self.broken.cancel()
        if self._stuck is not None:
            self._stuck.cancel()
        self._readers.shutdown()
        for segment in self._segments:
            self._files.close(segment.mail)
            self._files.close(segment.stamps)
        self._files.close(self._lock)

    def _died(self, error: BaseException) -> None:
        self._fall(f"the commit thread died: {error!r}", error)

    def _fall(self, problem: str, error: BaseException) -> None:
        self._dead = problem
        self._alarm(problem, "nothing is accepted or delivered any more; the relay ends")
        if not self.broken.done():
            self.broken.set_exception(error)

    # ---- what an engine adds ----

    def _admit(self, message: Message) -> None:
        """Raise QueueRefusedError if no mail is taken now."""
        self._look()
        refusal = LOCAL if self._dead is not None else self._trouble.refusal
        # A report frees a recipient; it may use the reserve, and is tried while other mail is not.
        if refusal is not None and (self._dead is not None or not message.flags & Flag.REPORT):
            raise QueueRefusedError(refusal)
        if len(message.envelope.recipients) > CAPACITY:
            raise QueueRefusedError(TOO_MANY)

    async def deposit(self, message: Message) -> Deposit:
        """Begin a message that goes to a segment of its own as it arrives."""
        self._admit(message)

        def done(segment: Segment, facts: Facts) -> None:
            self._trouble.worked()
            self._segments.add(segment)
            self._release(self.ledger.enter(segment, facts), message.envelope)

        def failed(error: OSError) -> QueueRefusedError:
            return QueueRefusedError(self._append_failed(error))

        spool = Spool(self._files, self._readers, message, done=done, failed=failed)
        await spool.begin(f"{self._root}/{recovery.PARTITION}", self._numbers(), self._salt())
        return spool

    async def _write(self, message: Message, *, release: bool) -> Entry:
        self._admit(message)
        future: asyncio.Future[Entry] = self._loop.create_future()

        def done(job: Append) -> None:
            if job.error is not None:
                reply = self._append_failed(job.error)
                if not future.done():
                    future.set_exception(QueueRefusedError(reply))
                return
            self._trouble.worked()
            assert job.segment is not None
            self._segments.add(job.segment)
            facts = Facts(
                message.queue_id,
                message.arrival,
                job.offset,
                len(message.content),
                len(job.envelope),
                job.first,
                len(message.envelope.recipients),
                int(message.flags),
            )
            entry = self._entered(job.segment, facts, message, release=release)
            if not future.done():
                future.set_result(entry)

        self._committer.submit(Append(message, done))
        return await future

    def _commit(
        self, entry: Entry, runs: Sequence[tuple[int, bytes]], reasons: Sequence[Reason]
    ) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        segment = entry.segment
        segment.busy += 1

        def done(job: Marks) -> None:
            if job.error is not None:
                self._stamp_failed(job, entry)
                if self._closing and not future.done():
                    future.set_exception(StampNotDurableError(str(job.error)))
                    retrieve(future)
                return
            if job in self._undone:
                self._done_after_all(job)
            if job.reason is not None and job.reason.segment is not None:
                self._owed(entry, reasons, job.reason.segment)
                job.reason.segment.pins -= 1
            self._rested(segment)
            if not future.done():
                future.set_result(None)

        reason = self._reason(entry, tuple(reasons)) if reasons else None
        self._committer.submit(Marks(segment, runs, done, reason))
        return future

    def _reason(self, entry: Entry, reasons: tuple[Reason, ...]) -> Append:
        message = Message(entry.queue_id, self.now(), Envelope(b"", ()), encode_reasons(reasons))
        return Append(message, self._reason_written, Kind.REASON)

    def _reason_written(self, job: Append) -> None:
        """Keep a reason's segment until its stamps are durable; then the debt does."""
        if job.error is None and job.segment is not None:
            job.segment.pins += 1
            self._segments.add(job.segment)

    def _jot(self, entry: Entry, runs: Sequence[tuple[int, bytes]]) -> None:
        segment = entry.segment
        try:
            jot(self._files, segment, runs)
        except OSError as error:
            # The next commit puts another stamps file in its place.
            segment.failed = True
            self._commit(entry, (), ()).add_done_callback(retrieve)
            raise StampNotDurableError(str(error)) from None

    async def read(self, entry: Entry) -> tuple[Envelope, bytes]:
        """Read a message back."""
        return await self._loop.run_in_executor(self._readers, self._read_record, entry)

    def _read_record(self, entry: Entry) -> tuple[Envelope, bytes]:
        segment, facts = entry.segment, entry.facts
        data = self._files.read(segment.mail, facts.length, facts.offset)
        header = decode_header(data, facts.offset, segment.seed)
        name = ids.text(facts.queue_id)
        if isinstance(header, Damage) or len(data) < header.length:
            raise self._damaged(entry, data, f"{name}: the record cannot be read")
        start = HEADER_SIZE + header.envelope_length
        block, content = data[HEADER_SIZE:start], data[start:]
        envelope = decode_envelope(block, header.recipients)
        if isinstance(envelope, Damage) or checksum(block, segment.seed) != header.envelope_crc:
            raise self._damaged(entry, data, f"{name}: {Damage.ENVELOPE.value}")
        if checksum(content, segment.seed) != header.content_crc:
            raise self._damaged(entry, data, f"{name}: {Damage.CONTENT.value}", envelope)
        return envelope, content

    def _damaged(
        self, entry: Entry, data: bytes, text: str, envelope: Envelope | None = None
    ) -> DamagedError:
        """Keep what is left of a record in `corrupt/` (Q9)."""
        directory = f"{entry.segment.directory.rpartition('/')[0]}/{recovery.CORRUPT}"
        name = f"{entry.segment.number:020}-{entry.facts.offset}.corrupt"
        if name not in self._files.listing(directory):
            descriptor = self._files.create(f"{directory}/{name}")
            try:
                self._files.write(descriptor, [data], 0)
                self._files.sync(descriptor)
            finally:
                self._files.close(descriptor)
            self._files.sync_directory(directory)
        return DamagedError(text, envelope)

    def segments(self) -> Sequence[Segment]:
        """Return the segments whose messages are in the ledger, the oldest first."""
        return sorted(self._segments, key=lambda segment: segment.number)

    def _finished(self, segment: Segment) -> None:
        if segment.removable and segment in self._segments:
            self._segments.remove(segment)
            self._uncompactable.discard(segment)
            self._committer.submit(Removal(segment, self._removed))

    # ---- word from the commit thread ----

    def sealed(self, job: Sealed) -> None:
        """Count a segment as sealed; it may be finished already."""
        segment = job.segment
        segment.sealed = True
        self._segments.add(segment)
        self._finished(segment)

    def _removed(self, job: Removal) -> None:
        if job.error is not None:
            self._alarm(
                f"segment {job.segment.number} could not be removed: {job.error}", "recovery will remove it"
            )

    # ---- compaction ----

    async def _compact_now_and_then(self) -> None:
        """Keep the bound on the disk's use; a look costs little, a copy is made apart from the loop."""
        while True:
            await asyncio.sleep(self._settings.compact)
            copying = self._loop.create_task(self.compact())
            try:
                await asyncio.shield(copying)
            except OSError:
                continue  # told; the next look tries again
            except asyncio.CancelledError:
                # Half a move is none: whoever closes the queue waits for it.
                await asyncio.wait([copying])
                raise

    async def compact(self) -> bool:
        """Copy what is open in some segments into one, if the bound asks for it; tell whether it did.

        Raises:
            OSError: the copy could not be written; everything is as it was.
        """
        sealed = [
            segment for segment in self._segments if segment.sealed and segment not in self._uncompactable
        ]
        chosen = compaction.choose(sealed, self._settings.segment_size)
        if not chosen:
            return False
        # Whoever wants to work on their messages waits until they have moved.
        moved = self._loop.create_future()
        for segment in chosen:
            segment.copied = moved
        done = False
        try:
            await self._copy(chosen)
            done = True
        except UndecidedError as error:
            # Their messages are not touched any more: the next start takes the copy, or the sources.
            self._fall(f"a copy could not be made to count: {error}", error)
            return False
        except compaction.UnreadableError as error:
            self._uncompactable.update(chosen)
            self._alarm(str(error), "it is looked at when it is sent, or by fsck")
        except OSError as error:
            self._alarm(f"segments could not be compacted: {error}", "they stay, and are tried again")
            self._let_go(chosen, moved)
            raise
        self._let_go(chosen, moved)
        return done

    def _let_go(self, chosen: Sequence[Segment], moved: asyncio.Future[None]) -> None:
        for segment in chosen:
            segment.copied = None
        moved.set_result(None)

    async def _copy(self, chosen: Sequence[Segment]) -> None:
        target, entries, places = await self._loop.run_in_executor(
            self._readers,
            compaction.copy,
            self._files,
            f"{self._root}/{recovery.PARTITION}",
            self._numbers(),
            self._salt(),
            chosen,
        )
        self._segments.add(target)
        # It goes after its sources: without it they would count again.
        target.pins += len(chosen)
        for at, (entry, place) in enumerate(zip(entries, places, strict=True)):
            self.ledger.move(entry, target, place.offset, place.first)
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        for segment in chosen:
            self._segments.discard(segment)
            self._committer.submit(Removal(segment, lambda job: self._source_removed(job, target)))

    def _source_removed(self, job: Removal, target: Segment) -> None:
        self._removed(job)
        if job.error is None:
            target.pins -= 1
            self._finished(target)

    # ---- trouble ----

    def _append_failed(self, error: OSError) -> Reply:
        if not self._trouble.probing:
            self._alarm(f"a message could not be written: {error}", "its client was told to try again")
        reply = self._trouble.refused(error)
        self._watch_disk()
        return reply

    def _stamp_failed(self, job: Marks, entry: Entry) -> None:
        assert job.error is not None
        if not self._trouble.stuck or self._closing:
            self._alarm(
                f"a stamp could not be written: {job.error}",
                "nothing new is sent until it is; after a crash there may be a second copy",
                ids.text(entry.queue_id),
            )
        self._trouble.unstamped(job.error)
        self._undone[job] = None
        if self._stuck is None:
            self._stuck = self._loop.create_future()
        self._watch_disk()

    def _done_after_all(self, job: Marks) -> None:
        """Count a stamp out that could not be written before; the last one lets delivery go on."""
        del self._undone[job]
        if not self._undone:
            self._trouble.stamped()
            if self._stuck is not None:
                self._stuck.set_result(None)
                self._stuck = None
            self._watch_disk()

    def _watch_disk(self) -> None:
        """Probe until the disk works again; tell when it began and when it is over."""
        problem = self.problem
        if problem is not None and self._troubled is None:
            self._troubled = (self._clock.monotonic(), problem)
        elif problem is None and self._troubled is not None:
            since, problem = self._troubled
            self._troubled = None
            self._emit(Resumed(time=self.now(), problem=problem, duration=self._clock.monotonic() - since))
        if self._trouble.probing and self._timer is None and not self._closing:
            self._timer = self._loop.call_later(self._settings.probe, self._probe)

    def _probe(self) -> None:
        self._committer.submit(Probe(self._probed))

    def _probed(self, job: Probe) -> None:
        self._timer = None
        if job.error is None:
            self._trouble.probed()
        self._again()
        self._watch_disk()

    def _again(self) -> None:
        """Hand over again what could not be made durable."""
        for job in self._undone:
            job.error = None
            if job.reason is not None:
                job.reason.error = None
            self._committer.submit(job)

    def _look(self) -> None:
        """Look at the free space now and then."""
        if not self._settings.reserve:
            return
        now = self._clock.monotonic()
        if now < self._looked + self._settings.probe:
            return
        self._looked = now
        with contextlib.suppress(OSError):
            short = self._files.free(self._root) < self._settings.reserve
            if short and not self._trouble.short:
                self._alarm(
                    "there is less free space than the reserve", "no new mail is taken; delivery goes on"
                )
            if short is not self._trouble.short:
                self._trouble.short = short
                self._watch_disk()

    def _alarm(self, problem: str, action: str, queue_id: str = "") -> None:
        self._emit(Alarm(time=self.now(), problem=problem, action=action, queue_id=queue_id))


async def open_queue(
    files: Files,
    root: str,
    *,
    clock: Clock,
    emit: Callable[[Event], None],
    salt: Callable[[], bytes],
    first_due: FirstDue,
    settings: LocalSettings | None = None,
    committer: MakeCommitter = Committer,
) -> LocalQueue:
    """Lock and start a queue directory; it is made where there is none. What it holds is read meanwhile.

    Raises:
        QueueLockedError: another relay has it.
        FormatError: it is no queue of this version.
        OSError: it cannot be read or written.
    """
    settings = settings or LocalSettings()
    lock = recovery.prepare(files, root)
    try:
        numbers, following = await asyncio.to_thread(recovery.tidy, files, root)
    except BaseException:
        files.close(lock)
        raise
    queue = LocalQueue(files, root, lock, clock=clock, emit=emit, settings=settings)
    queue._numbers, queue._salt = itertools.count(following).__next__, salt
    store = Store(
        files,
        f"{root}/{recovery.PARTITION}",
        numbers=queue._numbers,
        salt=salt,
        sealed=queue.sealed,
        segment_size=settings.segment_size,
    )
    queue._begin(numbers, store, first_due, committer)
    return queue
