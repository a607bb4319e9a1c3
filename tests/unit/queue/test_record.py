"""The record codec: there and back, and any bytes give a value or a named damage."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.envelope import Envelope, Recipient
from backstamp.mail.reply import Reply
from backstamp.queue import record
from backstamp.queue.port import Reason
from backstamp.queue.record import HEADER_SIZE, Damage, Header, Kind

SEED = record.seed_of(bytes(range(16)))
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
headers = st.builds(
    Header,
    st.sampled_from([int(kind) for kind in Kind]),
    st.integers(0, 3),
    u64,
    u32,
    u32,
    u64,
    u64,
    u64,
    st.binary(min_size=16, max_size=16),
    u64,
    u32,
    u32,
    u32,
)
text = st.binary(max_size=40).map(lambda value: value.replace(b"\0", b""))
envelopes = st.builds(Envelope, text, st.lists(st.builds(Recipient, text, text), max_size=5).map(tuple), text)


def test_the_header_has_the_size_the_format_says() -> None:
    assert HEADER_SIZE == 88


@given(headers)
def test_header_there_and_back(header: Header) -> None:
    data = record.encode_header(header, SEED)
    assert len(data) == HEADER_SIZE
    assert record.decode_header(data, header.offset, SEED) == header


@given(headers, st.integers(0, HEADER_SIZE * 8 - 1))
def test_no_flipped_bit_goes_unnoticed(header: Header, bit: int) -> None:
    data = bytearray(record.encode_header(header, SEED))
    data[bit // 8] ^= 1 << bit % 8
    assert isinstance(record.decode_header(bytes(data), header.offset, SEED), Damage)


@given(headers)
def test_a_record_is_one_only_at_its_offset_and_in_its_segment(header: Header) -> None:
    data = record.encode_header(header, SEED)
    assert record.decode_header(data, header.offset + 1, SEED) is Damage.HEADER
    assert record.decode_header(data, header.offset, record.seed_of(bytes(16))) is Damage.HEADER
    assert record.decode_header(data[:-1], header.offset, SEED) is Damage.SHORT


def test_a_later_version_is_named() -> None:
    header = Header(Kind.MAIL, 0, 16, 0, 0, 0, 0, 0, bytes(16), 16, 0, 0, 0)
    data = bytearray(record.encode_header(header, SEED))
    data[4] = 2
    data[-4:] = record.checksum(bytes(data[:-4]), SEED).to_bytes(4, "little")
    assert record.decode_header(bytes(data), 16, SEED) is Damage.VERSION


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_give_a_value_or_a_damage(data: bytes, count: int) -> None:
    assert isinstance(record.decode_header(data, 16, SEED), Header | Damage)
    assert isinstance(record.decode_envelope(data, count), Envelope | Damage)
    assert isinstance(record.decode_reasons(data), tuple | Damage)


@given(envelopes)
def test_envelope_there_and_back(envelope: Envelope) -> None:
    block = record.encode_envelope(envelope)
    assert record.decode_envelope(block, len(envelope.recipients)) == envelope


def test_a_nul_in_an_address_is_never_written() -> None:
    try:
        record.encode_envelope(Envelope(b"a\0b@x.example", ()))
    except ValueError:
        return
    raise AssertionError("written")


@given(st.lists(st.integers(0, 999), max_size=5), st.text(max_size=50))
def test_reasons_there_and_back(ordinals: list[int], words: str) -> None:
    reasons = (Reason(tuple(ordinals), Reply(550, words), "mx.example", 7),)
    assert record.decode_reasons(record.encode_reasons(reasons)) == reasons


def test_what_a_report_covers() -> None:
    parameters = b"BODY=8BITMIME " + record.covers("01ABC", (0, 2, 17))
    assert record.covered(parameters) == ("01ABC", (0, 2, 17))
    assert record.covered(b"BODY=8BITMIME") is None


def test_salts_agree_within_a_few_bits() -> None:
    salt = bytes(16)
    assert record.salts_agree(salt, b"\xff" + bytes(15))
    assert not record.salts_agree(salt, b"\xff\x01" + bytes(14))
    assert not record.salts_agree(salt, bytes(15))


@pytest.mark.parametrize("size", [0, 1, 5119, 5120, 5121, 10240, 10241, 51200, 131071, 131072, 200000])
def test_a_checksum_is_that_of_zlib_however_long(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert record.checksum(data[:size], SEED) == zlib.crc32(data[:size], SEED)
    assert record.checksum(memoryview(data)[:size], SEED) == zlib.crc32(data[:size], SEED)
