"""Whom a proxy speaks for: headers of both versions, whole, in pieces, and none at all."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backstamp.smtp.proxy import LONGEST_V1, LONGEST_V2, MALFORMED, NEED_MORE, Header, Unfinished, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CLIENT = b"EHLO client.example.org\r\n"


def v2(command: int, kind: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([command, kind]) + len(body).to_bytes(2) + body


def addresses(source: str, target: str, port: int = 40_000) -> bytes:
    return (
        ipaddress.ip_address(source).packed
        + ipaddress.ip_address(target).packed
        + port.to_bytes(2)
        + (25).to_bytes(2)
    )


FOUR = addresses("203.0.113.9", "192.0.2.1")
SIX = addresses("2001:db8::9", "2001:db8::1")
WIDEST = b"ffff:" * 7 + b"ffff"
TLV = b"\x03\x00\x04abcd"  # a CRC32C that is wrong: additions are passed over

GOOD = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\r\n", "203.0.113.9", 40_000),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65_535),
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 0 0\r\n", "203.0.113.9", 0),
    (b"PROXY TCP6 2001:DB8:0::9 2001:db8::1 40000 25\r\n", "2001:db8::9", 40_000),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 40000 25\r\n", "203.0.113.9", 40_000),
    (b"PROXY TCP6 %b %b 65535 65535\r\n" % (WIDEST, WIDEST), WIDEST.decode(), 65_535),
    (b"PROXY UNKNOWN\r\n", "", 0),
    (b"PROXY UNKNOWN ffff::1 \x00 what \r ever\r\n", "", 0),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", "", 0),
    (v2(0x21, 0x11, FOUR), "203.0.113.9", 40_000),
    (v2(0x21, 0x11, FOUR + TLV), "203.0.113.9", 40_000),
    (v2(0x21, 0x11, FOUR + bytes(524)), "203.0.113.9", 40_000),
    (v2(0x21, 0x21, SIX), "2001:db8::9", 40_000),
    (v2(0x21, 0x21, addresses("::ffff:203.0.113.9", "::1")), "203.0.113.9", 40_000),
    (v2(0x20, 0x00, b""), "", 0),
    (v2(0x20, 0x11, FOUR), "", 0),  # LOCAL: the family is ignored
    (v2(0x20, 0x31, bytes(216)), "", 0),
    (v2(0x20, 0xFF, b""), "", 0),
    (v2(0x21, 0x00, b""), "", 0),
    (v2(0x21, 0x00, TLV), "", 0),
]  # fmt: skip


def ssl(client: int) -> bytes:
    """PP2_TYPE_SSL: client, verify, and the version as an addition of its own."""
    body = bytes([client]) + bytes(4) + b"\x21\x00\x07TLSv1.3"
    return b"\x20" + len(body).to_bytes(2) + body


@pytest.mark.parametrize(
    ("additions", "tls"),
    [
        (b"", False),
        (ssl(1), True),
        (ssl(7), True),
        (ssl(6), False),  # a certificate in the session, but no TLS
        (TLV + ssl(1), True),
        (ssl(0) + ssl(1), False),
        (TLV + ssl(1)[:-1], False),
        (b"\x20\x00\x00", False),
        (b"\x20\x00", False),
        (b"\x03\xff\xff" + ssl(1), False),
    ],
)
def test_whether_the_client_came_by_tls(additions: bytes, tls: bool) -> None:
    found = parse(v2(0x21, 0x11, FOUR + additions))
    assert isinstance(found, Header)
    assert found.tls is tls
    assert not parse(v2(0x20, 0x11, FOUR + additions)).tls  # type: ignore[union-attr]  # LOCAL


BAD = [
    CLIENT,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client's TLS
    b"\r\n\r\n\r\n",
    b"PROXY\r\n",
    b"proxy TCP4 203.0.113.9 192.0.2.1 40000 25\r\n",
    b" PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\r\n",
    b"PROXY  TCP4 203.0.113.9 192.0.2.1 40000 25\r\n",
    b"PROXY TCP4  203.0.113.9 192.0.2.1 40000 25\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25 \r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25 6\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 40000\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\n\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 65536\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 25\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 040000 25\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 25\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.256 40000 25\r\n",
    b"PROXY TCP4 203.0.113.009 192.0.2.1 40000 25\r\n",
    b"PROXY TCP4 203.0.113 192.0.2.1 40000 25\r\n",
    b"PROXY TCP4 2001:db8::9 2001:db8::1 40000 25\r\n",
    b"PROXY TCP6 203.0.113.9 192.0.2.1 40000 25\r\n",
    b"PROXY TCP6 fe80::1%1 ::1 40000 25\r\n",
    b"PROXY TCP6 2001:db8::9 relay.example.org 40000 25\r\n",
    b"PROXY TCP5 203.0.113.9 192.0.2.1 40000 25\r\n",
    b"PROXY UDP4 203.0.113.9 192.0.2.1 40000 25\r\n",
    b"PROXY UNIX /run/a /run/b 0 0\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    v2(0x21, 0x12, FOUR),  # UDP
    v2(0x21, 0x22, SIX),
    v2(0x21, 0x10, FOUR),
    v2(0x21, 0x01, b""),
    v2(0x21, 0x31, bytes(216)),  # a UNIX socket
    v2(0x21, 0x41, SIX),
    v2(0x22, 0x11, FOUR),
    v2(0x2F, 0x11, FOUR),
    v2(0x11, 0x11, FOUR),
    v2(0x31, 0x11, FOUR),
    v2(0x21, 0x11, FOUR[:-1]),
    v2(0x21, 0x11, b""),
    v2(0x21, 0x21, FOUR),
    v2(0x21, 0x11, FOUR + bytes(525)),
    v2(0x20, 0x00, bytes(537)),
    SIGNATURE + b"\x21\x11\xff\xff",
    SIGNATURE[:-1] + b"\r\x21\x11\x00\x0c" + FOUR,
]


@pytest.mark.parametrize(("text", "source", "port"), GOOD)
def test_a_header_names_the_client_and_ends_where_the_client_begins(text, source, port):
    assert parse(text) == Header(source, port, len(text))
    assert parse(bytearray(text + CLIENT)) == Header(source, port, len(text))
    assert parse(text + b"\r\n" + bytes(1000)) == Header(source, port, len(text))


@pytest.mark.parametrize(("text", "source", "port"), GOOD)
def test_the_connections_own_address_counts_where_none_is_named(text, source, port):
    assert parse(text).local is (source == "")


@pytest.mark.parametrize(("text", "source", "port"), GOOD)
def test_a_header_is_waited_for_to_its_last_octet(text, source, port):
    assert {parse(text[:end]) for end in range(len(text))} == {NEED_MORE}


@pytest.mark.parametrize("text", BAD)
def test_nothing_else_is_a_header(text):
    """Security 10: an address nobody vouches for lets nobody relay."""
    assert parse(text) is MALFORMED
    assert parse(text + CLIENT) is MALFORMED


@pytest.mark.parametrize("begin", [b"PROXY ", b"PROXY UNKNOWN", SIGNATURE + b"\x21\x11\x02\x18"])
def test_no_header_is_waited_for_without_end(begin):
    """Security 15: what an endless header costs is bounded."""
    longest = LONGEST_V1 if begin.startswith(b"PROXY") else LONGEST_V2
    assert parse(begin + bytes(longest - len(begin) - 1)) is NEED_MORE
    assert parse(begin + bytes(longest - len(begin))) is not NEED_MORE


octets = st.one_of(
    st.binary(max_size=700),
    st.binary(max_size=120).map(lambda rest: b"PROXY " + rest),
    st.binary(max_size=600).map(lambda rest: SIGNATURE + rest),
    st.builds(
        lambda command, kind, body, rest: v2(command, kind, body) + rest,
        st.sampled_from([0x20, 0x21, 0x22]),
        st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31]),
        st.binary(max_size=560),
        st.binary(max_size=20),
    ),
    st.tuples(st.sampled_from([text for text, *_ in GOOD]), st.binary(max_size=40)).map(b"".join),
)


@given(octets)
@example(b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 25\r")
def test_any_octets_in_any_pieces_give_one_result(text):
    whole = parse(text)
    cuts = [parse(text[:end]) for end in range(len(text) + 1)]
    first = next((found for found in cuts if found is not NEED_MORE), NEED_MORE)
    assert whole == first
    assert all(found == first for found in cuts[cuts.index(first) :])
    assert len(text) < LONGEST_V2 or whole is not NEED_MORE
    if not isinstance(whole, Unfinished):
        assert 0 < whole.length <= LONGEST_V2
        assert parse(text[: whole.length]) == whole
        assert whole.local or str(ipaddress.ip_address(whole.source)) == whole.source
