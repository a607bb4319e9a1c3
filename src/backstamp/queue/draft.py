"""A draft: a segment written under another name, which gets its own when it is whole.

For what is not written in one go: large content as it arrives, and the copies that
compaction makes. Until the name is there nothing counts and recovery clears it away; from
then on all of it counts, whatever crash comes. A draft belongs to whoever makes it, and
touches neither the loop nor the commit thread.
"""

import contextlib
from typing import Final

from backstamp.queue import segment as segments
from backstamp.queue.entry import Facts
from backstamp.queue.files import Files
from backstamp.queue.record import Header, Kind, checksum, encode_header
from backstamp.queue.segment import CAPACITY, NEW_SUFFIX, Segment
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import append_seal
from backstamp.text import reason

_BLOCK: Final = 1024 * 1024
"""Octets gathered for one write."""

_NOTHING: Final = Facts(bytes(16), 0, 0, 0, 0, 0, 0, 0)


class UndecidedError(Exception):
    """A draft got its name and the disk failed: only the next start can tell whether it counts."""


def begin(files: Files, directory: str, number: int, salt: bytes) -> Segment:
    """Begin a draft. Raises OSError: it could not be made, nothing counts."""
    stamps = files.create(segments.stamps_path(directory, number))
    try:
        mail = files.create(_draft_path(directory, number))
    except OSError:
        files.close(stamps)
        with contextlib.suppress(OSError):
            files.unlink(segments.stamps_path(directory, number))
        raise
    segment = Segment(directory, number, salt, mail, stamps, bytearray([Stamp.TODO]) * CAPACITY)
    try:
        files.write(mail, [salt], 0)
    except OSError:
        discard(files, segment)
        raise
    return segment


class Writer:
    """Writes records into a draft, many in one call. Every verb may raise OSError."""

    def __init__(self, files: Files, segment: Segment) -> None:
        self._files = files
        self._segment = segment
        self._buffers: list[bytes] = []
        self._written = segment.end

    def add(
        self, kind: Kind, envelope: bytes, content: bytes, facts: Facts = _NOTHING, stamps: bytes = b""
    ) -> None:
        """Write a record behind the last one. Of `facts` only what does not depend on its place is taken."""
        segment = self._segment
        seed, first = segment.seed, segment.used
        header = Header(
            kind,
            facts.flags,
            segment.end,
            len(envelope),
            len(stamps),
            len(content),
            first,
            facts.arrival,
            facts.queue_id,
            segment.durable,
            0,
            checksum(envelope, seed),
            checksum(content, seed),
        )
        self._buffers += [encode_header(header, seed), envelope, content]
        segment.end = header.end
        segment.used += len(stamps)
        segment.image[first : segment.used] = stamps
        if segment.end - self._written >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        self._files.write(self._segment.mail, self._buffers, self._written)
        self._buffers.clear()
        self._written = self._segment.end


def publish(files: Files, segment: Segment) -> None:
    """Seal a draft, make it durable and give it its name; durable with it on return.

    Raises:
        OSError: it could not be made durable; it is gone, or recovery clears it.
        UndecidedError: it has its name, perhaps not durably, and could not be taken back.
    """
    path = segments.mail_path(segment.directory, segment.number)
    try:
        segment.disk[:] = segment.image
        files.write(segment.stamps, [segment.salt, bytes(segment.disk)], 0)
        files.sync(segment.stamps)
        segment.durable = segment.end
        files.sync(segment.mail)
        append_seal(files, segment)
        # Its name makes it count: nobody may see it before what is in it, and the stamps' own name.
        files.sync_directory(segment.directory)
        files.rename(_draft_path(segment.directory, segment.number), path)
    except OSError:
        discard(files, segment)
        raise
    try:
        files.sync_directory(segment.directory)
    except OSError as error:
        try:
            files.unlink(path)
            files.sync_directory(segment.directory)
        except OSError:
            files.close(segment.mail)
            files.close(segment.stamps)
            raise UndecidedError(f"segment {segment.number}: {reason(error)}") from error
        discard(files, segment)
        raise
    segment.sealed = True
    segment.trim()


def discard(files: Files, segment: Segment) -> None:
    """Let go of a draft that does not count; what stays is cleared by recovery."""
    files.close(segment.mail)
    files.close(segment.stamps)
    for path in (
        _draft_path(segment.directory, segment.number),
        segments.stamps_path(segment.directory, segment.number),
    ):
        with contextlib.suppress(OSError):
            files.unlink(path)


def _draft_path(directory: str, number: int) -> str:
    return f"{segments.mail_path(directory, number)}{NEW_SUFFIX}"
