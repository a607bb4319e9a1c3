"""The record: one message, reason or seal inside a segment, as bytes and back (docs/queue-format.md).

A record is header · envelope · content. Every checksum is CRC-32 seeded by the segment's
salt, and the header names its own offset, so bytes that look like a record inside
somebody's attachment are never taken for one. Any bytes give a value or a `Damage`.
Encoding never fails for what `Envelope` allows; decoding never raises.
"""

import enum
import struct
import zlib
from typing import Final

import msgspec

from backstamp.mail.envelope import Envelope, Recipient
from backstamp.queue.port import Reason

VERSION: Final = 1
MAGIC: Final = b"\xb5BSr"
SALT_SIZE: Final = 16
_LAYOUT: Final = struct.Struct("<4sBBHQIIQQQ16sQIIII")
_CRC: Final = struct.Struct("<I")
HEADER_SIZE: Final = _LAYOUT.size
SALT_TOLERANCE: Final = 8
"""Bits (of 128) in which the two copies of a salt may differ and still be each other's."""

_UNLOCKING: Final = 5 * 1024
"""Octets up to which CPython keeps its lock while zlib works."""

_LONG: Final = 128 * 1024
"""Octets from which on letting go of it pays."""


class Kind(enum.IntEnum):
    """What a record is."""

    MAIL = ord("M")
    REASON = ord("R")
    SEAL = ord("S")
    COPY = ord("C")
    KEYS = ord("K")


_KINDS: Final = frozenset(int(kind) for kind in Kind)


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fixed part. Offsets and lengths in octets, `arrival` in microseconds since the epoch.

    `durable` is the highest offset of this segment known durable when the record was written.
    """

    kind: int
    flags: int
    offset: int
    envelope_length: int
    recipients: int
    content_length: int
    first_stamp: int
    arrival: int
    queue_id: bytes
    durable: int
    partition: int
    envelope_crc: int
    content_crc: int

    @property
    def length(self) -> int:
        """Octets of the whole record."""
        return HEADER_SIZE + self.envelope_length + self.content_length

    @property
    def end(self) -> int:
        """The offset behind the record."""
        return self.offset + self.length


class Damage(enum.Enum):
    """Why bytes are no record."""

    SHORT = "the file ends inside it"
    MAGIC = "no record begins here"
    HEADER = "the header does not verify"
    VERSION = "a later version wrote it"
    ENVELOPE = "the envelope does not verify"
    CONTENT = "the content does not verify"


def seed_of(salt: bytes) -> int:
    """Return the seed of every checksum in a segment."""
    return zlib.crc32(salt)


def checksum(data: bytes | memoryview, seed: int) -> int:
    """Return the seeded CRC-32 (zlib's)."""
    length = len(data)
    if not _UNLOCKING < length < _LONG:
        return zlib.crc32(data, seed)
    # Above 5 KiB zlib lets go of the interpreter's lock, and a busy loop gives it back half a
    # millisecond later: for what takes ten microseconds.
    with memoryview(data) as view:
        for at in range(0, length, _UNLOCKING):
            seed = zlib.crc32(view[at : at + _UNLOCKING], seed)
    return seed


def salts_agree(one: bytes, other: bytes) -> bool:
    """Tell whether two salts are copies of one, give or take a few flipped bits."""
    if len(one) != SALT_SIZE or len(other) != SALT_SIZE:
        return False
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count() <= SALT_TOLERANCE


def encode_header(header: Header, seed: int) -> bytes:
    """Return the header's bytes with its checksum."""
    body = _LAYOUT.pack(
        MAGIC,
        VERSION,
        header.kind,
        header.flags,
        header.offset,
        header.envelope_length,
        header.recipients,
        header.content_length,
        header.first_stamp,
        header.arrival,
        header.queue_id,
        header.durable,
        header.partition,
        header.envelope_crc,
        header.content_crc,
        0,
    )[:-4]
    return body + _CRC.pack(zlib.crc32(body, seed))


def decode_header(data: bytes | memoryview, offset: int, seed: int) -> Header | Damage:
    """Return the header that stands at `offset` of its segment, given at least its octets."""
    if len(data) < HEADER_SIZE:
        return Damage.SHORT
    data = data[:HEADER_SIZE]
    if data[:4] != MAGIC:
        return Damage.MAGIC
    if _CRC.unpack_from(data, HEADER_SIZE - 4)[0] != zlib.crc32(data[:-4], seed):
        return Damage.HEADER
    _, version, kind, flags, own_offset, *rest, _ = _LAYOUT.unpack(data)
    if version != VERSION or kind not in _KINDS:
        return Damage.VERSION
    if own_offset != offset:
        return Damage.HEADER
    return Header(kind, flags, own_offset, *rest)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the envelope's bytes: pairs of `address\\0parameters\\0`, the reverse-path first."""
    parts = [envelope.sender, envelope.parameters]
    for recipient in envelope.recipients:
        parts.append(recipient.address)
        parts.append(recipient.parameters)
    parts.append(b"")
    block = b"\0".join(parts)
    # Defence in depth: the listener's grammar has no NUL, and one here would shift every address.
    if block.count(b"\0") != len(parts) - 1:
        raise ValueError("NUL in an envelope")
    return block


def decode_envelope(block: bytes, recipients: int) -> Envelope | Damage:
    """Return the envelope that a verified block holds."""
    parts = bytes(block).split(b"\0")
    if len(parts) != 2 * recipients + 3:
        return Damage.ENVELOPE
    pairs = iter(parts[2:-1])
    return Envelope(
        parts[0],
        tuple(Recipient(address, parameters) for address, parameters in zip(pairs, pairs, strict=True)),
        parts[1],
    )


_reasons_encoder = msgspec.json.Encoder()
_reasons_decoder = msgspec.json.Decoder(tuple[Reason, ...])


def encode_reasons(reasons: tuple[Reason, ...]) -> bytes:
    """Return the content of a reason record: JSON, so that a person can read it in the file."""
    return _reasons_encoder.encode(reasons)


def decode_reasons(content: bytes) -> tuple[Reason, ...] | Damage:
    """Return the reasons that a reason record's content holds."""
    try:
        return _reasons_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Damage.CONTENT


_sources_decoder = msgspec.json.Decoder(tuple[int, ...])


def encode_sources(sources: tuple[int, ...]) -> bytes:
    """Return the content of a copy record: the numbers of the segments whose mail was copied here."""
    return msgspec.json.encode(sources)


def decode_sources(content: bytes) -> tuple[int, ...] | Damage:
    """Return the numbers that a copy record's content holds."""
    try:
        return _sources_decoder.decode(content)
    except msgspec.DecodeError:
        return Damage.CONTENT


def covers(queue_id_text: str, ordinals: tuple[int, ...]) -> bytes:
    """Return the message parameter of a report's record: which failures it reports (Q5)."""
    return f"REPORTS={queue_id_text}:{','.join(map(str, ordinals))}".encode()


def covered(parameters: bytes) -> tuple[str, tuple[int, ...]] | None:
    """Return queue id text and ordinals that a report's record covers, None where it names none."""
    for item in parameters.split():
        if item.startswith(b"REPORTS="):
            queue_id, _, ordinals = item[8:].decode("ascii", "replace").partition(":")
            return queue_id, tuple(int(ordinal) for ordinal in ordinals.split(",") if ordinal.isdecimal())
    return None
