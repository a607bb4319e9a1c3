"""The local engine: segments on this machine's disk, group commit, recovery at start.

The loop side hands jobs to the commit thread and enters what became durable into the
ledger. A message is entered, and its client told 250, only in the call that announces its
sync (Q1). A stamp's job is enqueued in the turn that asks for it (Q4).
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec

from backstamp.clock import Clock
from backstamp.mail.envelope import Envelope
from backstamp.mail.reply import Reply
from backstamp.queue import ids, recovery
from backstamp.queue.committer import Committer, Sink
from backstamp.queue.engine import HOT_LIMIT, REPORT_AFTER, Engine
from backstamp.queue.files import Files
from backstamp.queue.ledger import Entry
from backstamp.queue.port import DamagedError, Message, QueueRefusedError, Reason, StampNotDurableError
from backstamp.queue.record import (
    HEADER_SIZE,
    Damage,
    Kind,
    checksum,
    decode_envelope,
    decode_header,
    encode_reasons,
)
from backstamp.queue.recovery import Recovered
from backstamp.queue.segment import CAPACITY, Segment
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import SEGMENT_SIZE, Append, Job, Marks, Removal, Sealed, Store
from backstamp.telemetry.events import Alarm, Event, InDoubt
from backstamp.telemetry.events import Recovered as RecoveredEvent

FULL = Reply(452, "4.3.1 Insufficient system storage, try again later")
TROUBLE = Reply(451, "4.3.0 Local error in processing, try again later")
TOO_MANY = Reply(452, "4.5.3 Too many recipients")

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


class LocalQueue(Engine):
    """The queue on disk. Make it with `open_queue`."""

    def __init__(
        self,
        files: Files,
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
        self._lock = lock
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        self._segments: set[Segment] = set()
        self._committer: Commits
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails if the commit thread dies: nothing can be acknowledged any more, the process must end."""
        self.problem: str | None = None
        """What keeps the queue from taking mail, None while all is well."""

    # ---- life ----

    def _begin(
        self, recovered: Recovered, store: Store, first_due: FirstDue, committer: MakeCommitter
    ) -> None:
        """Start the commit thread and enter what recovery found."""
        self._committer = committer(store, self._dead)
        self._segments.update(recovered.segments.values())
        fold = recovered.fold
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        for found in fold.open():
            header = found.header
            entry = Entry(
                recovered.segments[found.segment],
                queue_id=header.queue_id,
                arrival=header.arrival,
                flags=header.flags,
                size=header.content_length,
                offset=header.offset,
                length=header.length,
                first=header.first_stamp,
                count=header.recipients,
            )
            self.ledger.enter(entry)
            chance = int.from_bytes(header.queue_id[-4:], "big") / 2**32
            due = first_due(wall, header.arrival / 1e6, chance)
            self.ledger.release_later(entry, found.runs, monotonic + due - wall, due)
            if found.ordinals(Stamp.FAILED):
                self._owed_again(entry, recovered)
            self._doubt(entry, found.ordinals(Stamp.DOUBT))
            # A report that was found may have closed the last of its recipients; its segment is judged below.
            self.ledger.close(entry)
        for segment in recovered.segments.values():
            if segment.removable:
                self._finished(segment)

    def _owed_again(self, entry: Entry, recovered: Recovered) -> None:
        """Owe what the process before owed, with the reasons it kept."""
        kept = recovered.fold.reasons.get(entry.queue_id, [])
        for reasons in kept:
            self._owed(entry, reasons.reasons, recovered.segments[reasons.segment])
        if not kept:
            self._owed(entry, (), entry.segment)

    def _doubt(self, entry: Entry, ordinals: tuple[int, ...]) -> None:
        for ordinal in ordinals:
            self._emit(
                InDoubt(
                    time=self._now(),
                    queue_id=ids.text(entry.queue_id),
                    recipient=f"#{ordinal}",
                    mx="",
                    reply="",
                )
            )

    async def close(self) -> None:
        """Commit what was handed over, seal the open segment and let go of the lock."""
        await self._committer.close()
        self.broken.cancel()
        self._readers.shutdown()
        for segment in self._segments:
            self._files.close(segment.mail)
            self._files.close(segment.stamps)
        self._files.close(self._lock)

    def _dead(self, error: BaseException) -> None:
        self.problem = f"the commit thread died: {error!r}"
        self._alarm(self.problem, "nothing is accepted or delivered any more; the relay ends")
        if not self.broken.done():
            self.broken.set_exception(error)

    # ---- what an engine adds ----

    async def _write(self, message: Message, *, release: bool) -> Entry:
        if self.problem is not None:
            raise QueueRefusedError(TROUBLE)
        if len(message.envelope.recipients) > CAPACITY:
            raise QueueRefusedError(TOO_MANY)
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()

        def done(job: Append) -> None:
            if job.error is not None:
                self._append_failed(job.error)
                if not future.done():
                    refusal = FULL if job.error.errno in (errno.ENOSPC, errno.EDQUOT) else TROUBLE
                    future.set_exception(QueueRefusedError(refusal))
                return
            entry = self._entry(job)
            self._entered(entry, message, release=release)
            if not future.done():
                future.set_result(entry)

        self._committer.submit(Append(message, done))
        return await future

    def _entry(self, job: Append) -> Entry:
        message = job.message
        assert job.segment is not None
        self._segments.add(job.segment)
        return Entry(
            job.segment,
            queue_id=message.queue_id,
            arrival=message.arrival,
            flags=message.flags,
            size=len(message.content),
            offset=job.offset,
            length=job.length,
            first=job.first,
            count=len(message.envelope.recipients),
        )

    def _commit(
        self, entry: Entry, runs: Sequence[tuple[int, bytes]], reasons: Sequence[Reason]
    ) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(job: Marks) -> None:
            if job.error is not None:
                self._stamp_failed(entry, job.error)
                if not future.done():
                    future.set_exception(StampNotDurableError(str(job.error)))
                return
            if job.reason is not None and job.reason.segment is not None:
                self._segments.add(job.reason.segment)
                self._owed(entry, reasons, job.reason.segment)
            if not future.done():
                future.set_result(None)

        reason = self._reason(entry, tuple(reasons)) if reasons else None
        self._committer.submit(Marks(entry.segment, entry.first, runs, done, reason))
        return future

    def _reason(self, entry: Entry, reasons: tuple[Reason, ...]) -> Append:
        message = Message(entry.queue_id, self._now(), Envelope(b"", ()), encode_reasons(reasons))
        return Append(message, _nothing, Kind.REASON)

    async def read(self, entry: Entry) -> tuple[Envelope, bytes]:
        """Read a message back."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read_record, entry)

    def _read_record(self, entry: Entry) -> tuple[Envelope, bytes]:
        segment = entry.segment
        data = self._files.read(segment.mail, entry.length, entry.offset)
        header = decode_header(data, entry.offset, segment.seed)
        name = ids.text(entry.queue_id)
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
        name = f"{entry.segment.number:020}-{entry.offset}.corrupt"
        if name not in self._files.listing(directory):
            descriptor = self._files.create(f"{directory}/{name}")
            try:
                self._files.write(descriptor, [data], 0)
                self._files.sync(descriptor)
            finally:
                self._files.close(descriptor)
            self._files.sync_directory(directory)
        return DamagedError(text, envelope)

    def _finished(self, segment: Segment) -> None:
        self._segments.discard(segment)
        self._committer.submit(Removal(segment, self._removed))

    # ---- word from the commit thread ----

    def sealed(self, job: Sealed) -> None:
        """Count a segment as sealed; it may be finished already."""
        segment = job.segment
        segment.sealed = True
        self._segments.add(segment)
        if segment.removable:
            self._finished(segment)

    def _removed(self, job: Removal) -> None:
        if job.error is not None:
            self._alarm(
                f"segment {job.segment.number} could not be removed: {job.error}", "recovery will remove it"
            )

    def _append_failed(self, error: OSError) -> None:
        self._alarm(f"a message could not be written: {error}", "its client was told to try again")

    def _stamp_failed(self, entry: Entry, error: OSError) -> None:
        self._alarm(
            f"a stamp could not be written: {error}",
            "this process will not send again; after a crash there may be a second copy",
            ids.text(entry.queue_id),
        )

    def _alarm(self, problem: str, action: str, queue_id: str = "") -> None:
        self._emit(Alarm(time=self._now(), problem=problem, action=action, queue_id=queue_id))


def _nothing(_: Append) -> None:
    """A reason's outcome is its stamps' business."""


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
    """Lock, recover and start a queue directory; it is made where there is none.

    Raises:
        QueueLockedError: another relay has it.
        FormatError: it is no queue of this version.
        OSError: it cannot be read or written.
    """
    settings = settings or LocalSettings()
    started = clock.monotonic()
    lock = recovery.prepare(files, root)
    try:
        recovered = await asyncio.to_thread(recovery.recover, files, root, salt)
    except BaseException:
        files.close(lock)
        raise
    queue = LocalQueue(files, lock, clock=clock, emit=emit, settings=settings)
    store = Store(
        files,
        f"{root}/{recovery.PARTITION}",
        next_number=recovered.next_number,
        salt=salt,
        sealed=queue.sealed,
        segment_size=settings.segment_size,
    )
    now = int(clock.wall() * 1e6)
    for problem in recovered.problems:
        emit(Alarm(time=now, problem=problem.text, action=problem.action, queue_id=problem.queue_id))
    queue._begin(recovered, store, first_due, committer)
    emit(
        RecoveredEvent(
            time=now,
            segments=recovered.found,
            messages=len(queue.ledger.entries),
            recipients=queue.ledger.waiting,
            duration=clock.monotonic() - started,
        )
    )
    return queue
