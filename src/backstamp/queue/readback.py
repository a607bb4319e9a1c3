"""A message read back from its segment, every checksum verified."""

from typing import NamedTuple

from backstamp.mail.envelope import Envelope
from backstamp.queue import ids
from backstamp.queue.entry import Facts
from backstamp.queue.files import Files
from backstamp.queue.port import DamagedError
from backstamp.queue.record import HEADER_SIZE, Damage, checksum, decode_envelope, decode_header
from backstamp.queue.segment import Segment


class Octets(NamedTuple):
    """A record as it was read: the whole of it, its parts, and what of it does not verify."""

    record: bytes
    envelope: bytes
    content: bytes
    damage: Damage | None


def octets(files: Files, segment: Segment, facts: Facts) -> Octets:
    """Read a message's record.

    Raises:
        OSError: the file cannot be read.
    """
    record = files.read(segment.mail, facts.length, facts.offset)
    start = HEADER_SIZE + facts.envelope_length
    envelope, content = record[HEADER_SIZE:start], record[start:]
    header = decode_header(record, facts.offset, segment.seed)
    damage = None
    if isinstance(header, Damage):
        damage = header
    elif len(content) < facts.size:
        damage = Damage.SHORT
    elif checksum(envelope, segment.seed) != header.envelope_crc:
        damage = Damage.ENVELOPE
    elif checksum(content, segment.seed) != header.content_crc:
        damage = Damage.CONTENT
    return Octets(record, envelope, content, damage)


def message(found: Octets, facts: Facts) -> tuple[Envelope, bytes] | DamagedError:
    """Return envelope and content of a record, or why they cannot be had."""
    if found.damage not in (None, Damage.CONTENT):
        return DamagedError(f"{ids.text(facts.queue_id)}: {found.damage.value}")
    envelope = decode_envelope(found.envelope, facts.recipients)
    if isinstance(envelope, Damage):
        return DamagedError(f"{ids.text(facts.queue_id)}: {envelope.value}")
    if found.damage is not None:
        return DamagedError(f"{ids.text(facts.queue_id)}: {found.damage.value}", envelope)
    return envelope, found.content
