"""The reader: what a segment's files hold, record by record. The only one there is.

Recovery, `queue list` on a stopped queue and fsck all read with it; it changes nothing.
It reads headers and envelopes; content is verified only above the durable mark, where a
record may be half written. What does not verify is a damaged range: below the mark it is
corruption, above it an unacknowledged tail (Q9). Reading goes on at the next record that
verifies. The durable mark is the highest that any record of the segment names.
"""

import contextlib
from collections.abc import Iterator

import msgspec

from backstamp.mail.envelope import Envelope
from backstamp.queue import segment as segments
from backstamp.queue.files import Files, read_around
from backstamp.queue.port import Reason
from backstamp.queue.record import (
    HEADER_SIZE,
    MAGIC,
    SALT_SIZE,
    Damage,
    Header,
    Kind,
    checksum,
    decode_envelope,
    decode_header,
    decode_reasons,
    decode_sources,
    salts_agree,
    seed_of,
)
from backstamp.queue.segment import CAPACITY

_GLANCE = 512
"""Octets read at a record's start: header and, mostly, envelope in one call."""
_WINDOW = 1024 * 1024
_NOBODY = Envelope(b"", ())


class Damaged(msgspec.Struct, frozen=True):
    """A range of a segment that holds no readable record."""

    start: int
    end: int
    damage: Damage
    queue_id: bytes = b""
    """Whose record it was, where its header can still be read."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One verified record."""

    header: Header
    envelope: Envelope = _NOBODY
    reasons: tuple[Reason, ...] = ()
    keys: bytes = b""
    """Rows of keys (`queue.keys`), in a file of keys."""


class Scan(msgspec.Struct):
    """A segment's records as they were found."""

    number: int
    salt: bytes
    size: int
    records: list[Record]
    damaged: list[Damaged]
    durable: int
    sealed: bool
    """The last thing in the file is a seal."""
    image: bytes
    """The stamps as they are on disk; shorter than the capacity where they are missing."""
    stamps_agree: bool
    """The stamps file is there, whole, and of this segment."""

    @property
    def end(self) -> int:
        """The offset behind the last good record."""
        return self.records[-1].header.end if self.records else SALT_SIZE

    @property
    def used(self) -> int:
        """Stamps given to records."""
        return max((r.header.first_stamp + r.header.recipients for r in self.records), default=0)


def sources(files: Files, directory: str, number: int) -> tuple[int, ...]:
    """Return the numbers of the segments that one is a copy of; none for an ordinary segment.

    Raises:
        OSError: the records cannot be read.
    """
    descriptor = files.open(segments.mail_path(directory, number), write=False)
    try:
        glance = files.read(descriptor, SALT_SIZE + _GLANCE, 0)
        seed = seed_of(glance[:SALT_SIZE])
        header = decode_header(glance[SALT_SIZE:], SALT_SIZE, seed)
        if isinstance(header, Damage) or header.kind != Kind.COPY:
            return ()
        content = files.read(
            descriptor, header.content_length, SALT_SIZE + HEADER_SIZE + header.envelope_length
        )
    finally:
        files.close(descriptor)
    found = decode_sources(content) if checksum(content, seed) == header.content_crc else Damage.CONTENT
    return () if isinstance(found, Damage) else found


def scan(files: Files, directory: str, number: int, *, patient: bool = False) -> Scan:
    """Read one segment.

    Raises:
        OSError: its files cannot be opened, or the mail not be read; if `patient`, also if stamps cannot.
    """
    stamps_salt, image, whole = _read_stamps(files, directory, number, patient=patient)
    descriptor = files.open(segments.mail_path(directory, number), write=False)
    try:
        size = files.size(descriptor)
        salt = files.read(descriptor, SALT_SIZE, 0)
        agree = whole and salts_agree(salt, stamps_salt)
        found = _records(files, descriptor, size, salt)
        if not found.records and agree and stamps_salt != salt:
            # A flipped bit in one copy of the salt must not cost a segment: the other copy may verify.
            other = _records(files, descriptor, size, stamps_salt)
            if other.records:
                found, salt = other, stamps_salt
        _verify_tail(files, descriptor, found)
    finally:
        files.close(descriptor)
    found.number, found.salt, found.image, found.stamps_agree = number, salt, image if agree else b"", agree
    return found


def keys(files: Files, directory: str, number: int) -> Scan:
    """Read a file of keys; there are no stamps. Raises OSError: it cannot be read."""
    descriptor = files.open(segments.keys_path(directory, number), write=False)
    try:
        salt = files.read(descriptor, SALT_SIZE, 0)
        found = _records(files, descriptor, files.size(descriptor), salt)
    finally:
        files.close(descriptor)
    found.number = number
    return found


def _read_stamps(files: Files, directory: str, number: int, *, patient: bool) -> tuple[bytes, bytes, bool]:
    """Return salt and stamps, and whether all of them were there. Raises OSError as `scan`."""
    try:
        descriptor = files.open(segments.stamps_path(directory, number), write=False)
    except FileNotFoundError:
        return b"", b"", False
    try:
        length = SALT_SIZE + CAPACITY
        data = files.read(descriptor, length, 0) if patient else _read_anyhow(files, descriptor, length)
    finally:
        files.close(descriptor)
    return data[:SALT_SIZE], data[SALT_SIZE:], len(data) == SALT_SIZE + CAPACITY


def _read_anyhow(files: Files, descriptor: int, length: int) -> bytes:
    """Read stamps; a sector that cannot be read however often it is asked for holds no stamps."""
    with contextlib.suppress(OSError):
        return files.read(descriptor, length, 0)
    size = min(length, files.size(descriptor))
    return read_around(lambda wanted, at: files.read(descriptor, wanted, at), size, 0)


def _records(files: Files, descriptor: int, size: int, salt: bytes) -> Scan:
    """Read every record that verifies under a salt."""
    seed = seed_of(salt)
    found = Scan(0, salt, size, [], [], SALT_SIZE, False, b"", False)
    at = SALT_SIZE
    while at < size:
        record = _record_at(files, descriptor, at, size, seed)
        if isinstance(record, Record):
            found.durable = max(found.durable, record.header.durable)
            found.sealed = record.header.kind == Kind.SEAL
            found.records.append(record)
            at = record.header.end
            continue
        found.sealed = False
        # A header that verifies tells where its record ends; otherwise look for the next one.
        following = (
            record.end if at < record.end <= size else _next_record(files, descriptor, at + 1, size, seed)
        )
        found.damaged.append(msgspec.structs.replace(record, end=following))
        at = following
    return found


def _record_at(files: Files, descriptor: int, at: int, size: int, seed: int) -> Record | Damaged:
    """Return the record at an offset; a `Damaged` whose end is 0 does not know where it ends."""
    glance = files.read(descriptor, _GLANCE, at)
    header = decode_header(glance, at, seed)
    if isinstance(header, Damage):
        return Damaged(at, 0, header)
    if header.end > size:
        return Damaged(at, 0, Damage.SHORT, header.queue_id)
    length = header.envelope_length
    block = glance[HEADER_SIZE : HEADER_SIZE + length]
    if len(block) < length:
        block = files.read(descriptor, length, at + HEADER_SIZE)
    if checksum(block, seed) != header.envelope_crc:
        return Damaged(at, header.end, Damage.ENVELOPE, header.queue_id)
    if header.kind in (Kind.REASON, Kind.COPY, Kind.KEYS):
        content = files.read(descriptor, header.content_length, at + HEADER_SIZE + length)
        if checksum(content, seed) != header.content_crc:
            return Damaged(at, header.end, Damage.CONTENT, header.queue_id)
        if header.kind == Kind.COPY:
            return Record(header)
        if header.kind == Kind.KEYS:
            return Record(header, keys=content)
        reasons = decode_reasons(content)
        if isinstance(reasons, Damage):
            return Damaged(at, header.end, reasons, header.queue_id)
        return Record(header, _NOBODY, reasons)
    if header.kind == Kind.SEAL:
        return Record(header)
    envelope = decode_envelope(block, header.recipients)
    if isinstance(envelope, Damage) or header.first_stamp + header.recipients > CAPACITY:
        return Damaged(at, header.end, Damage.ENVELOPE, header.queue_id)
    return Record(header, envelope)


def _next_record(files: Files, descriptor: int, start: int, size: int, seed: int) -> int:
    """Return the offset of the next header that verifies, or the size of the file."""
    for at in _magic(files, descriptor, start, size):
        if isinstance(decode_header(files.read(descriptor, HEADER_SIZE, at), at, seed), Header):
            return at
    return size


def _magic(files: Files, descriptor: int, start: int, size: int) -> Iterator[int]:
    """Yield every offset where the magic stands."""
    overlap = len(MAGIC) - 1
    while start < size:
        window = files.read(descriptor, _WINDOW + overlap, start)
        at = window.find(MAGIC)
        while at >= 0:
            yield start + at
            at = window.find(MAGIC, at + 1)
        start += _WINDOW


def _verify_tail(files: Files, descriptor: int, found: Scan) -> None:
    """Verify the content of records above the durable mark; what fails there was never acknowledged."""
    good = []
    for record in found.records:
        if record.header.end > found.durable and (damaged := _content(files, descriptor, found, record)):
            found.damaged.append(damaged)
        else:
            good.append(record)
    found.records = good


def contents(files: Files, directory: str, found: Scan) -> list[Damaged]:
    """Return the records of a segment whose content does not verify, below the durable mark too.

    Raises:
        OSError: they cannot be read.
    """
    descriptor = files.open(segments.mail_path(directory, found.number), write=False)
    try:
        read = (_content(files, descriptor, found, record) for record in found.records)
        return [damaged for damaged in read if damaged is not None]
    finally:
        files.close(descriptor)


def _content(files: Files, descriptor: int, found: Scan, record: Record) -> Damaged | None:
    """Read the content of mail; return the record as damaged if it does not verify."""
    header = record.header
    if header.kind != Kind.MAIL:
        return None
    crc = seed_of(found.salt)
    start = header.offset + HEADER_SIZE + header.envelope_length
    for at in range(start, header.end, _WINDOW):
        crc = checksum(files.read(descriptor, min(_WINDOW, header.end - at), at), crc)
    if crc == header.content_crc:
        return None
    return Damaged(header.offset, header.end, Damage.CONTENT, header.queue_id)
