"""A record read back whole and read through: both say the same, whatever stands in the file."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail import headers
from backstamp.mail.content import HEADER_LIMIT
from backstamp.mail.envelope import Envelope, Recipient
from backstamp.queue import readback
from backstamp.queue.entry import Facts
from backstamp.queue.files import DiskFiles
from backstamp.queue.port import DamagedError
from backstamp.queue.record import (
    HEADER_SIZE,
    Header,
    Kind,
    checksum,
    encode_envelope,
    encode_header,
)
from backstamp.queue.segment import Segment

OFFSET = 48
ENVELOPE = Envelope(b"s@origin.example", (Recipient(b"a@one.example"), Recipient(b"b@two.example", b"X=1")))


class Octets(DiskFiles):
    """A file in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.longest = 0

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self.longest = max(self.longest, length)
        return self.content[offset : offset + length]


def segment() -> Segment:
    return Segment("d", 1, b"0123456789abcdef", 3, 4, bytearray(10))


def written(content: bytes) -> tuple[bytes, Facts]:
    """Return a segment's file with one record in it, and what is known of that."""
    seed = segment().seed
    envelope = encode_envelope(ENVELOPE)
    facts = Facts(b"i" * 16, 5, OFFSET, len(content), len(envelope), 0, 2, 0)
    header = Header(
        Kind.MAIL, 0, OFFSET, len(envelope), 2, len(content), 0, 5, facts.queue_id, 16, 0,
        checksum(envelope, seed), checksum(content, seed),
    )  # fmt: skip
    return bytes(OFFSET) + encode_header(header, seed) + envelope + content, facts


def whole(files: Octets, facts: Facts) -> tuple[Envelope, bytes] | DamagedError:
    return readback.message(readback.octets(files, segment(), facts), facts)


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"\r\n", b"A: b", b"\xfc"])).map(b"".join))
def test_what_is_sound_is_known(content: bytes) -> None:
    octets, facts = written(content)
    files = Octets(octets)
    assert whole(files, facts) == (ENVELOPE, content)
    found = readback.through(files, segment(), facts)
    assert not isinstance(found, DamagedError)
    envelope, known = found
    assert envelope == ENVELOPE
    assert (known.size, known.ascii, known.header, known.checksum) == (
        len(content),
        content.isascii(),
        headers.block(content),
        zlib.crc32(content, segment().seed),
    )
    bare = readback.octets(files, segment(), facts, content=False)
    assert readback.message(bare, facts) == (ENVELOPE, b"")
    assert b"".join(readback.record(files, segment(), facts)) == octets[OFFSET:]


@given(st.binary(min_size=1, max_size=60), st.data())
def test_damage_is_the_same_however_it_is_read(content: bytes, data: st.DataObject) -> None:
    octets, facts = written(content)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(OFFSET, len(octets) - 1))
        octets = octets[:at] + bytes([octets[at] ^ data.draw(st.integers(1, 255))]) + octets[at + 1 :]
    else:
        at = data.draw(st.integers(0, len(octets) - 1))
        octets = octets[:at]
    files = Octets(octets)
    one, other = whole(files, facts), readback.through(files, segment(), facts)
    assert isinstance(one, DamagedError)
    assert isinstance(other, DamagedError)
    bare = readback.message(readback.octets(files, segment(), facts, content=False), facts)
    if at >= OFFSET + HEADER_SIZE + facts.envelope_length:
        # Only the content is hurt: the sender can still be told, and envelopes be read.
        assert other.envelope == ENVELOPE
        assert bare == (ENVELOPE, b"")
    else:
        assert (one.envelope, other.envelope) == (None, None)
        assert isinstance(bare, DamagedError)


def test_what_is_large_is_never_held() -> None:
    content = b"Subject: large\r\n\r\n" + b"x" * 3_000_000 + b"\xfc"
    octets, facts = written(content)
    files = Octets(octets)
    found = readback.through(files, segment(), facts)
    assert not isinstance(found, DamagedError)
    assert (found[1].ascii, found[1].header) == (False, b"Subject: large")
    assert b"".join(readback.record(files, segment(), facts)) == octets[OFFSET:]
    assert files.longest <= 524_288


def test_of_a_header_without_end_only_the_beginning_is_held() -> None:
    content = b"X: y\r\n" * 200_000
    octets, facts = written(content)
    found = readback.through(Octets(octets), segment(), facts)
    assert not isinstance(found, DamagedError)
    assert found[1].header == content[:HEADER_LIMIT]
    octets, facts = written(content[: HEADER_LIMIT - 2] + b"\r\n\r\n" + content)
    found = readback.through(Octets(octets), segment(), facts)
    assert not isinstance(found, DamagedError)
    assert found[1].header == content[: HEADER_LIMIT - 2]
