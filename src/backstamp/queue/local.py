"""The local engine: segments on this machine's disk, group commit, recovery at start.

The loop side hands jobs to the commit thread and enters what became durable into the
ledger. A client is told 250 only in the call that announces the sync of its message (Q1), which
is entered in the turn after (`committer.Outcomes`). A stamp's job is enqueued in the turn that
asks for it (Q4); one that fails is handed over again until it is durable (Q8). What the process
before left is read in the background: mail is taken and delivered meanwhile.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from backstamp.clock import Clock
from backstamp.mail.content import Content
from backstamp.mail.envelope import Envelope
from backstamp.mail.reply import Reply
from backstamp.queue import compaction, recovery
from backstamp.queue.committer import Committer, Sink
from backstamp.queue.compaction import Copied
from backstamp.queue.compactor import Compactor
from backstamp.queue.engine import HOT_LIMIT, LARGE, REPORT_AFTER, Engine, retrieve
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.files import Files
from backstamp.queue.fold import Fold
from backstamp.queue.health import Health
from backstamp.queue.keeping import Keeping
from backstamp.queue.keys import KEYS_LIMIT
from backstamp.queue.loading import FirstDue, Loading
from backstamp.queue.port import (
    Deposit,
    Message,
    Owed,
    QueueRefusedError,
    Reason,
    StampNotDurableError,
    Told,
    named,
)
from backstamp.queue.reading import Reading
from backstamp.queue.record import Kind, encode_reasons
from backstamp.queue.recovery import KeptKeys, Loaded, Present
from backstamp.queue.segment import CAPACITY, Segment, jot
from backstamp.queue.spool import Spool
from backstamp.queue.store import SEGMENT_SIZE, Append, Job, Marks, Removal, Sealed, Store
from backstamp.telemetry.events import Event
from backstamp.text import reason

T = TypeVar("T")

TOO_MANY = Reply(452, "4.5.3 Too many recipients")
READING = Reply(451, "4.3.2 The relay still reads what it accepted before, try again")
"""Where a submission has a key, and it is not known yet whether it came before."""

_KEEP_AGAIN = 60.0
"""Seconds until keys that could not be kept are tried again."""

_TIDYING = 2
"""How often a start asks again what could not be read."""

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
    large: int = LARGE
    report_after: float = REPORT_AFTER
    reserve: int = 0
    """Octets of free space below which no new mail is taken; delivery goes on."""
    compact: float = 1.0
    """Seconds between two looks whether segments should be compacted; 0: never."""
    keys: int = KEYS_LIMIT
    """Keys that are remembered at most; some 200 octets of memory each."""
    patience: float = 30.0
    """Seconds a submission with a key waits at a start until what was accepted before is known."""
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
            clock=clock,
            emit=emit,
            report_after=settings.report_after,
            hot_limit=settings.hot_limit,
            large=settings.large,
            keys_limit=settings.keys,
        )
        self._files = files
        self._root = root
        self._directory = f"{root}/{recovery.PARTITION}"
        self._lock = lock
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        self._reading = Reading(files, root, self._run, large=settings.large)
        self._segments: set[Segment] = set()
        self._committer: Commits
        self.health = Health(
            self.gate,
            clock=clock,
            emit=emit,
            submit=self._submit,
            free=lambda: files.free(root),
            reserve=settings.reserve,
            period=settings.probe,
        )
        self.broken: asyncio.Future[None] = self._loop.create_future()
        """Fails if the commit thread dies: nothing can be acknowledged any more, the process must end."""
        self._numbers: Callable[[], int]
        self._salt: Callable[[], bytes]
        self._compacting: asyncio.Task[None] | None = None
        self._keeping = Keeping(
            self.once,
            now=lambda: self.now() // 1000,
            load=self._load_keys,
            submit=self._submit,
            tell=lambda problem: self.alarm(problem.text, problem.action),
            pause=settings.probe,
        )
        self._unkept: set[Segment] = set()
        """Finished segments whose keys could not be kept: they stay."""
        self.compactor = Compactor(
            self,
            self._copy,
            keep=self._keeping.keep,
            sealed=lambda: (segment for segment in self._segments if segment.sealed),
            added=self._segments.add,
            dropped=self._segments.discard,
            submit=self._submit,
            undecided=lambda error: self._fall(f"a copy could not be made to count: {error}", error),
            segment_size=settings.segment_size,
        )
        self.recovering: asyncio.Task[None]
        """Ends when everything that was on disk at the start is in the ledger."""

    # ---- life ----

    def _begin(self, present: Present, store: Store, first_due: FirstDue, committer: MakeCommitter) -> None:
        """Start the commit thread, and reading what is there."""
        self._committer = committer(store, self._died)
        loading = Loading(
            self,
            partial(self._load, present),
            self._segments.add,
            self._keeping.note,
            clock=self._clock,
            emit=self._emit,
            first_due=first_due,
            pause=self._settings.probe,
        )
        self.recovering = self._loop.create_task(self._recover(present, loading), name="recover")
        self.recovering.add_done_callback(self._recovered)

    async def _recover(self, present: Present, loading: Loading) -> None:
        await self._keeping.read(present.keys)
        await loading.run(present.segments)

    async def _load_keys(self, number: int) -> KeptKeys:
        return await self._run(lambda: recovery.load_keys(self._files, self._root, number))

    async def _load(self, present: Present, number: int, fold: Fold, patient: bool) -> Loaded:
        # What could not be asked of whom it is a copy may be one of mail that is under way by now.
        counted = present.segments if number in present.unasked else ()

        def load() -> Loaded:
            return recovery.load(self._files, self._root, number, fold, patient=patient, counted=counted)

        return await self._run(load)

    def _copy(self, chosen: Sequence[Segment]) -> asyncio.Future[Copied]:
        number, salt = self._numbers(), self._salt()
        return self._run(lambda: compaction.copy(self._files, self._directory, number, salt, chosen))

    def _recovered(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._fall(f"recovery broke: {error!r}", error)
        elif self._settings.compact and not self.health.closing:
            self._compacting = self._loop.create_task(
                self.compactor.run(self._settings.compact), name="compact"
            )
            self._compacting.add_done_callback(self._compacted)

    def _compacted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fall(f"compaction broke: {error!r}", error)

    async def close(self) -> None:
        """Commit what was handed over, seal the open segment and let go of the lock."""
        self.health.closing = True
        for task in (self.recovering, self._compacting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self.health.close()
        await self._committer.close()
        self.broken.cancel()
        self._readers.shutdown()
        for segment in self._segments:
            self._files.close(segment.mail)
            self._files.close(segment.stamps)
        self._files.close(self._lock)

    def _died(self, error: BaseException) -> None:
        self._fall(f"the commit thread died: {error!r}", error)

    def _fall(self, problem: str, error: BaseException) -> None:
        self.health.die(problem)
        if not self.broken.done():
            self.broken.set_exception(error)

    # ---- what an engine adds ----

    def refusal(self) -> Reply | None:
        """Return why no mail is taken now: the disk fails or is full (Q8)."""
        return self.health.refusal(report=False)

    def _admit(self, message: Message) -> None:
        """Raise QueueRefusedError if no mail is taken now."""
        refusal = self.health.refusal(report=message.report)
        if refusal is not None:
            raise QueueRefusedError(refusal)
        if len(message.envelope.recipients) > CAPACITY:
            raise QueueRefusedError(TOO_MANY)

    async def _earlier(self, message: Message) -> bytes | None:
        if message.key and not self.recovering.done():
            await asyncio.wait([self.recovering], timeout=self._settings.patience)
        if message.key and (not self.recovering.done() or self.recovering.cancelled()):
            raise QueueRefusedError(READING)
        return await super()._earlier(message)

    async def claim_report(self) -> Owed:
        """As `Engine`; not before it is known which failures are covered, and whose reasons stand where."""
        if not self.recovering.done():
            await asyncio.wait([self.recovering])
        return await super().claim_report()

    def _unwritten(self, message: Message) -> None:
        if message.key:
            self.once.settle(message.key, None)

    async def deposit(self, message: Message) -> Deposit:
        """Begin a message that goes to a segment of its own as it arrives."""
        self._admit(message)
        message = self._named(message)

        def done(segment: Segment, facts: Facts) -> None:
            self.health.appended()
            self._segments.add(segment)
            entry = self.ledger.enter(segment, facts)
            if message.key:
                self._key_entered(segment, message)
            self._release_all(entry, message.envelope)

        def failed(error: OSError) -> QueueRefusedError:
            return QueueRefusedError(self.health.append_failed(error))

        spool = Spool(
            self._files,
            self._readers,
            message,
            earlier=self._earlier,
            done=done,
            failed=failed,
            undone=lambda: self._unwritten(message),
        )
        await spool.begin(self._directory, self._numbers(), self._salt())
        return spool

    def _write(self, message: Message, told: Told, entered: Callable[[Entry], None]) -> None:
        try:
            self._admit(message)
        except QueueRefusedError as refusal:
            self._unwritten(message)
            told(refusal)
            return

        def tell(job: Append) -> None:
            # Counted as the outcomes come, not with the books: failures in a row are told by their order.
            if job.error is None:
                self.health.appended()
                told(message.queue_id)
                return
            refusal = QueueRefusedError(self.health.append_failed(job.error))
            self._unwritten(message)
            told(refusal)

        def done(job: Append) -> None:
            if job.error is not None:
                return
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
            entered(self._entered(job.segment, facts, message))

        self._committer.submit(Append(message, done, tell=tell))

    def _commit(
        self, entry: Entry, runs: Sequence[tuple[int, bytes]], reasons: Sequence[Reason]
    ) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        segment = entry.segment
        segment.busy += 1

        def done(job: Marks) -> None:
            if job.error is not None:
                self.health.stamp_failed(job, entry.queue_id)
                if (self.health.closing or job.unreasoned) and not future.done():
                    future.set_exception(StampNotDurableError(str(job.error)))
                    retrieve(future)
                return
            self.health.stamped(job)
            if job.reason is not None and job.reason.segment is not None:
                self.owe(entry, named(reasons), reasons, job.reason.segment)
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

    async def read(self, entry: Entry, *, content: bool = True) -> tuple[Envelope, Content]:
        """Read a message back."""
        return await self._reading.read(entry, content=content)

    def _run(self, function: Callable[[], T], /) -> asyncio.Future[T]:
        """Run something in a reading thread."""
        return self._loop.run_in_executor(self._readers, function)

    def segments(self) -> Sequence[Segment]:
        """Return the segments whose messages are in the ledger, the oldest first."""
        return sorted(self._segments, key=lambda segment: segment.number)

    def _submit(self, job: Job) -> None:
        self._committer.submit(job)

    def finished(self, segment: Segment) -> None:
        """Remove a segment if nothing needs it any more."""
        if not segment.removable or segment not in self._segments:
            return
        if segment.keys:
            # It goes after its keys stand elsewhere (Q13).
            segment.pins += 1
            self._keeping.keep([segment]).add_done_callback(lambda kept: self._kept(segment, kept))
            return
        self._segments.remove(segment)
        self._committer.submit(Removal(segment, self._removed))
        self._keeping.sweep()

    def _kept(self, segment: Segment, kept: asyncio.Future[None]) -> None:
        error = kept.exception()
        if self.health.closing:
            return
        if error is None:
            self._unkept.discard(segment)
            self._again(segment)
            return
        if not self._unkept:
            self.alarm(
                f"the keys of segment {segment.number} could not be kept: {reason(error)}",
                "it stays until they can be; tried again every minute",
            )
        self._unkept.add(segment)
        self._loop.call_later(_KEEP_AGAIN, self._again, segment)

    def _again(self, segment: Segment) -> None:
        if not self.health.closing:
            segment.pins -= 1
            self.finished(segment)

    # ---- word from the commit thread ----

    def sealed(self, job: Sealed) -> None:
        """Count a segment as sealed; it may be finished already."""
        segment = job.segment
        segment.sealed = True
        self._segments.add(segment)
        self.finished(segment)

    def _removed(self, job: Removal) -> None:
        if job.error is not None:
            self.alarm(
                f"segment {job.segment.number} could not be removed: {job.error}", "recovery will remove it"
            )


async def _tidied(files: Files, root: str, pause: float) -> Present:
    """Tidy; while a segment cannot be read that may be a copy of others, a few times with a pause."""
    present = await asyncio.to_thread(recovery.tidy, files, root)
    for _ in range(_TIDYING):
        if not present.unasked:
            break
        await asyncio.sleep(pause)
        present = await asyncio.to_thread(recovery.tidy, files, root)
    return present


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
        present = await _tidied(files, root, settings.probe)
    except BaseException:
        files.close(lock)
        raise
    queue = LocalQueue(files, root, lock, clock=clock, emit=emit, settings=settings)
    queue._numbers, queue._salt = itertools.count(present.following).__next__, salt
    store = Store(
        files,
        f"{root}/{recovery.PARTITION}",
        numbers=queue._numbers,
        salt=salt,
        sealed=queue.sealed,
        segment_size=settings.segment_size,
    )
    queue._begin(present, store, first_due, committer)
    return queue
