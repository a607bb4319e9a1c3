"""A message read back from its segment, every checksum verified.

What is to be held is read at once; a large content is read through in bounded pieces, and
only what is known of it is held.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from backstamp.mail import headers
from backstamp.mail.content import HEADER_LIMIT
from backstamp.mail.envelope import Envelope
from backstamp.queue import ids
from backstamp.queue.entry import Facts
from backstamp.queue.files import Files
from backstamp.queue.port import DamagedError
from backstamp.queue.record import HEADER_SIZE, Damage, checksum, decode_envelope, decode_header
from backstamp.queue.segment import Segment
from backstamp.queue.stored import Known

_PART: Final = 512 * 1024
"""Octets read at a time; more than the header that is kept."""


class Octets(NamedTuple):
    """A record as it was read: its envelope and content, and what of them does not verify."""

    envelope: bytes
    content: bytes
    damage: Damage | None
    content_checksum: int = 0
    """What its header says; 0 where that does not verify."""


def octets(files: Files, segment: Segment, facts: Facts, *, content: bool = True) -> Octets:
    """Read a message's record, or with `content=False` only what stands before the content.

    Raises:
        OSError: the file cannot be read.
    """
    start = HEADER_SIZE + facts.envelope_length
    record = files.read(segment.mail, facts.length if content else start, facts.offset)
    envelope, rest = record[HEADER_SIZE:start], record[start:]
    header = decode_header(record, facts.offset, segment.seed)
    if isinstance(header, Damage):
        return Octets(envelope, rest, header)
    damage = None
    if len(record) < start or (content and len(rest) < facts.size):
        damage = Damage.SHORT
    elif checksum(envelope, segment.seed) != header.envelope_crc:
        damage = Damage.ENVELOPE
    elif content and checksum(rest, segment.seed) != header.content_crc:
        damage = Damage.CONTENT
    return Octets(envelope, rest, damage, header.content_crc)


def message(found: Octets, facts: Facts) -> tuple[Envelope, bytes] | DamagedError:
    """Return envelope and content of a record, or why they cannot be had."""
    damage = found.damage
    if damage is not None and damage is not Damage.CONTENT:
        return _damaged(facts, damage)
    envelope = decode_envelope(found.envelope, facts.recipients)
    if isinstance(envelope, Damage):
        return _damaged(facts, envelope)
    if damage is not None:
        return _damaged(facts, damage, envelope)
    return envelope, found.content


def through(files: Files, segment: Segment, facts: Facts) -> tuple[Envelope, Known] | DamagedError:
    """Read a message whose content is too large to be held; return its envelope and what is known of it.

    Raises:
        OSError: the file cannot be read.
    """
    before = octets(files, segment, facts, content=False)
    found = message(before, facts)
    if isinstance(found, DamagedError):
        return found
    envelope, _ = found
    start = facts.offset + HEADER_SIZE + facts.envelope_length
    crc, ascii_only, header = segment.seed, True, b""
    for number, part in enumerate(_parts(files, segment, start, facts.size)):
        if number == 0:
            # A line end and an empty line may stand across the limit.
            header = headers.block(part[: HEADER_LIMIT + 4])[:HEADER_LIMIT]
        crc = checksum(part, crc)
        ascii_only = ascii_only and part.isascii()
    if crc != before.content_checksum:
        return _damaged(facts, Damage.CONTENT, envelope)
    return envelope, Known(facts.size, ascii_only, header, crc)


def piece(files: Files, segment: Segment, facts: Facts, at: int, length: int, crc: int) -> tuple[bytes, int]:
    """Read some octets of a content, and compute its checksum on, given the one up to there.

    Raises:
        OSError: the file cannot be read.
    """
    found = files.read(segment.mail, length, facts.offset + HEADER_SIZE + facts.envelope_length + at)
    return found, checksum(found, crc)


def record(files: Files, segment: Segment, facts: Facts) -> Iterator[bytes]:
    """Yield a message's whole record in parts, whatever it is worth. Raises OSError."""
    return _parts(files, segment, facts.offset, facts.length)


def _parts(files: Files, segment: Segment, start: int, length: int) -> Iterator[bytes]:
    for at in range(0, length, _PART):
        yield files.read(segment.mail, min(_PART, length - at), start + at)


def _damaged(facts: Facts, damage: Damage, envelope: Envelope | None = None) -> DamagedError:
    return DamagedError(f"{ids.text(facts.queue_id)}: {damage.value}", envelope)
