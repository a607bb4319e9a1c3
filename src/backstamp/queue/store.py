"""The store: what the commit thread does with a batch. Placement, encoding, writing, syncing, in order.

A batch is appends, stamps, keys and removals. Appends are written and synced first and said to
be done; then the stamps, whose reasons are among those appends (Q5); then the keys of finished
segments are kept, and finished segments are removed. A job carries its own error: what failed
was not accepted, or is not durable. A stamps file that could not be written is believed no
more: a new one takes its place (Q8).
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from backstamp.mail.envelope import Envelope
from backstamp.queue import segment as segments
from backstamp.queue.files import Files
from backstamp.queue.keeper import Keeper
from backstamp.queue.port import Flag, Message
from backstamp.queue.record import (
    HEADER_SIZE,
    SALT_SIZE,
    Header,
    Kind,
    checksum,
    encode_envelope,
    encode_header,
)
from backstamp.queue.segment import CAPACITY, Segment

SEGMENT_SIZE: Final = 64 * 1024 * 1024

_NOBODY = Envelope(b"", ())


class Append:
    """Write one record. Filled in by the store: where it stands, or why it does not."""

    __slots__ = (
        "content",
        "done",
        "envelope",
        "error",
        "first",
        "kind",
        "length",
        "message",
        "offset",
        "segment",
        "tell",
        "written",
    )

    def __init__(
        self,
        message: Message,
        done: Callable[["Append"], None],
        kind: Kind = Kind.MAIL,
        tell: Callable[["Append"], None] | None = None,
    ) -> None:
        self.message = message
        self.envelope = b""
        self.tell = tell
        """Called on the loop, once, as soon as the outcome is known: a client waits for it."""
        self.done = done
        """Called on the loop, once, after that, in the order of the jobs."""
        self.kind = kind
        self.segment: Segment | None = None
        self.offset = 0
        self.length = 0
        self.first = 0
        self.written = False
        """It is durable."""
        self.error: OSError | None = None


class Marks:
    """Write stamps of one message: runs of (index, bytes), after the reason they depend on."""

    __slots__ = ("done", "error", "reason", "runs", "segment")

    def __init__(
        self,
        segment: Segment,
        runs: Sequence[tuple[int, bytes]],
        done: Callable[["Marks"], None],
        reason: Append | None = None,
    ) -> None:
        self.segment = segment
        self.runs = runs
        self.done = done
        self.reason = reason
        self.error: OSError | None = None

    @property
    def unreasoned(self) -> bool:
        """It failed because its reason could not be written."""
        return self.reason is not None and self.reason.error is not None


class Keep:
    """Make keys durable apart from their segments, which may go then (Q13); remove files that are over.

    `rows` may be empty: then nothing is written.
    """

    __slots__ = ("done", "error", "number", "over", "rows")

    def __init__(self, rows: bytes, over: Sequence[int], done: Callable[["Keep"], None]) -> None:
        self.rows = rows
        self.over = over
        """Numbers of files all of whose keys are over."""
        self.done = done
        self.number = 0
        """The file they stand in."""
        self.error: OSError | None = None


class Probe:
    """Try whether a segment can be made: the disk has room and works again."""

    __slots__ = ("done", "error")

    def __init__(self, done: Callable[["Probe"], None]) -> None:
        self.done = done
        self.error: OSError | None = None


class Removal:
    """Remove a finished segment."""

    __slots__ = ("done", "error", "segment")

    def __init__(self, segment: Segment, done: Callable[["Removal"], None]) -> None:
        self.segment = segment
        self.done = done
        self.error: OSError | None = None


class Sealed:
    """Word from the store that a segment takes no more records.

    It follows the outcome of every append to that segment, so that whoever counts what lives
    in it has counted all before it may call it finished (Q6).
    """

    __slots__ = ("done", "segment")

    def __init__(self, segment: Segment, done: Callable[["Sealed"], None]) -> None:
        self.segment = segment
        self.done = done


Job = Append | Marks | Keep | Removal | Sealed | Probe
Announce = Callable[[Sequence[Job]], None]


class Store:
    """The writing side of one partition's segments. Used by one thread only."""

    def __init__(
        self,
        files: Files,
        directory: str,
        *,
        numbers: Callable[[], int],
        salt: Callable[[], bytes],
        sealed: Callable[[Sealed], None],
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        self._files = files
        self._directory = directory
        self._numbers = numbers
        self._salt = salt
        self._sealed = sealed
        self._segment_size = segment_size
        self._newly_sealed: list[Job] = []
        self._current: Segment | None = None
        self._spare: Segment | None = None
        self._keeper = Keeper(files, directory, numbers=numbers, salt=salt)

    def prepare(self) -> None:
        """Make a segment ahead of need; called when there is nothing else to do. A failure shows at need."""
        if self._spare is None and (self._current is None or self._current.end * 2 > self._segment_size):
            try:
                self._spare = self._create()
            except OSError:
                self._spare = None

    def commit(self, jobs: Sequence[Job], announce: Announce) -> None:
        """Carry out a batch; `announce` is called with jobs whose outcome is known, in order."""
        appends = [job for job in jobs if isinstance(job, Append)]
        marks = [job for job in jobs if isinstance(job, Marks)]
        appends += [job.reason for job in marks if job.reason is not None and not job.reason.written]
        if appends:
            self._append(appends)
            announce([*appends, *self._newly_sealed])
            self._newly_sealed.clear()
        if marks:
            self._stamp(marks)
            announce([*marks, *self._newly_sealed])
            self._newly_sealed.clear()
        if keeps := [job for job in jobs if isinstance(job, Keep)]:
            self._keep(keeps)
            announce(keeps)
        removals = [job for job in jobs if isinstance(job, Removal)]
        for job in removals:
            try:
                segments.remove(self._files, job.segment)
            except OSError as error:
                job.error = error
        if removals:
            announce(removals)
        for probe in (job for job in jobs if isinstance(job, Probe)):
            self._probe(probe)
            announce([probe])

    def seal(self) -> None:
        """Seal what is open: an orderly stop. A failure is harmless, recovery seals then."""
        for segment in (self._current, self._spare):
            if segment is not None:
                self._seal(segment)
        self._current = self._spare = None
        self._keeper.close()

    def _keep(self, jobs: Sequence[Keep]) -> None:
        """Remove files that are over; then write keys, all in one call, which may go to no such file."""
        for number in {number for job in jobs for number in job.over}:
            self._keeper.remove(number)
        wanted = [job for job in jobs if job.rows]
        try:
            number = self._keeper.write([job.rows for job in wanted]) if wanted else 0
        except OSError as error:
            for job in wanted:
                job.error = error
        else:
            for job in wanted:
                job.number = number

    def _append(self, jobs: list[Append]) -> None:
        """Write and sync records, a segment's worth at a time."""
        group: list[Append] = []
        buffers: list[bytes] = []
        for job in jobs:
            try:
                segment = self._room(job, group, buffers)
                self._place(job, segment, buffers)
            except OSError as error:
                job.error = error
                continue
            group.append(job)
        self._flush(group, buffers)

    def _room(self, job: Append, group: list[Append], buffers: list[bytes]) -> Segment:
        """Return a segment with room for the record; what was gathered for a full one is flushed first."""
        message = job.message
        job.envelope = encode_envelope(message.envelope)
        job.length = HEADER_SIZE + len(job.envelope) + len(message.content)
        count = len(message.envelope.recipients)
        segment = self._current
        if segment is not None and (
            segment.used + count > CAPACITY
            or (segment.end > SALT_SIZE and segment.end + job.length > self._segment_size)
        ):
            self._flush(group, buffers)
            if self._current is segment:
                self._seal(segment)
            segment = self._current = None
        if segment is None:
            segment = self._current = self._spare or self._create()
            self._spare = None
        return segment

    def _place(self, job: Append, segment: Segment, buffers: list[bytes]) -> None:
        message = job.message
        content = message.content
        envelope = job.envelope
        count = len(message.envelope.recipients)
        seed = segment.seed
        job.segment = segment
        job.offset = segment.end
        job.first = segment.used
        header = Header(
            job.kind,
            message.flags,
            segment.end,
            len(envelope),
            count,
            len(content),
            segment.used,
            message.arrival,
            message.queue_id,
            segment.durable,
            0,
            checksum(envelope, seed),
            checksum(content, seed),
        )
        buffers.append(encode_header(header, seed))
        buffers.append(envelope)
        buffers.append(content)
        segment.end += job.length
        segment.used += count

    def _flush(self, group: list[Append], buffers: list[bytes]) -> None:
        """Write and sync the gathered records; after a failure they all failed, the segment ends (Q8)."""
        if not group:
            return
        segment = self._current
        assert segment is not None
        start = group[0].offset
        try:
            self._files.write_durably(segment.mail, buffers, start)
            segment.durable = segment.end
            for job in group:
                job.written = True
        except OSError as error:
            for job in group:
                job.error = error
            self._abandon(segment, start)
        group.clear()
        buffers.clear()

    def _abandon(self, segment: Segment, end: int) -> None:
        """Stop writing to a segment whose write failed; cut off what nobody was promised, if that works."""
        self._current = None
        segment.end = end
        self._newly_sealed.append(Sealed(segment, self._sealed))
        try:
            self._files.truncate(segment.mail, end)
            self._files.sync(segment.mail)
        except OSError:
            # Recovery then finds records nobody was promised: a possible extra copy, never a loss.
            return

    def _stamp(self, jobs: list[Marks]) -> None:
        """Write stamps: for each segment one write, from the first to the last that changes.

        What lies between is written as it stands on disk already, so any part of the write
        that persists is a valid state (Q2).
        """
        dirty: dict[Segment, list[Marks]] = {}
        for job in jobs:
            if job.reason is not None and job.reason.error is not None:
                job.error = job.reason.error
            else:
                dirty.setdefault(job.segment, []).append(job)
        for segment, members in dirty.items():
            try:
                self._write_stamps(segment, members)
            except OSError as error:
                for job in members:
                    job.error = error

    def _write_stamps(self, segment: Segment, jobs: list[Marks]) -> None:
        disk = segment.disk
        low, high = CAPACITY, 0
        for job in jobs:
            for start, run in job.runs:
                end = start + len(run)
                disk[start:end] = run
                low = min(low, start)
                high = max(high, end)
        if not segment.failed and low < high:
            try:
                # A view, not a copy: what the loop jots down meanwhile (`?`) must not be undone.
                with memoryview(disk) as view:
                    self._files.write_durably(segment.stamps, (view[low:high],), SALT_SIZE + low)
            except OSError:
                # Never retried and believed: after a failed sync the pages are clean, not written.
                segment.failed = True
        if segment.failed:
            if segment is self._current:
                self._current = None
                self._seal(segment)
            segments.replace_stamps(self._files, segment)

    def _probe(self, job: Probe) -> None:
        """Make a segment and write to it, though there may be a spare one: that says nothing of the next."""
        try:
            made = self._create()
        except OSError as error:
            job.error = error
            return
        try:
            self._files.write_durably(made.mail, [made.salt], 0)
        except OSError as error:
            job.error = error
        if job.error is None and self._spare is None:
            self._spare = made
            return
        with contextlib.suppress(OSError):
            segments.remove(self._files, made)

    def _create(self) -> Segment:
        return segments.create(self._files, self._directory, self._numbers(), self._salt())

    def _seal(self, segment: Segment) -> None:
        with contextlib.suppress(OSError):
            append_seal(self._files, segment)
        self._newly_sealed.append(Sealed(segment, self._sealed))


def append_seal(files: Files, segment: Segment) -> None:
    """Write the seal record behind the last one and sync it."""
    write_seal(files, segment, segment.end)
    files.sync(segment.mail)


def write_seal(files: Files, segment: Segment, at: int) -> None:
    """Write the seal record at an offset: behind the last one, or behind an unreadable tail."""
    header = Header(
        Kind.SEAL, Flag.NONE, at, 0, 0, 0, segment.used, 0, bytes(16), segment.end, 0,
        checksum(b"", segment.seed), checksum(b"", segment.seed),
    )  # fmt: skip
    files.write(segment.mail, [encode_header(header, segment.seed)], at)
