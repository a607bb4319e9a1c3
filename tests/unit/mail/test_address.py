"""Addresses: RFC 5321's grammar on raw octets, nothing decoded, nothing guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.address import AddressError, is_literal, parse_path, parse_written, to_alabel

GOOD = [
    b"a@b",
    b"a.b@c.example",
    b"a+tag@b-c.example",
    b"!#$%&'*+/=?^_`{|}~-@x.example",
    b'"a b"@c.example',
    b'"a\\"b"@c.example',
    b'"@"@c.example',
    b"a@[192.0.2.1]",
    b"a@[IPv6:2001:db8::1]",
    b"a@1.example",
    b"victim%other.example@ours.example",
    b"ext!victim@ours.example",
    b"A@B.EXAMPLE",
    b"x" * 64 + b"@a.example",
]
BAD = [
    b"a",
    b"@b",
    b"a@",
    b"a@b.",
    b"a@.b",
    b"a@b..c",
    b"a@-b",
    b"a@b-",
    b".a@b",
    b"a.@b",
    b"a..b@c",
    b"a b@c",
    b"a@b c",
    b"a@b@c",
    b"a,b@c",
    b"a(c)@d",
    b"<a@b>",
    b"a>b@c",
    b"@r:a@b",
    b"@r1,@r2:a@b",
    b"a\0@b",
    b"a\r\n@b",
    b"a\x7f@b",
    b"a\x1b@b",
    b'"a@b',
    b'a"b@c',
    b"=?utf-8?q?a?=@b",
    b"a@=?utf-8?q?b?=",
    b"a_b@c_d.example",
    b"x" * 65 + b"@a.example",
    b"a@" + b"b." * 130 + b"c",
    b"a@" + b"x" * 64,
    b"\xff@b",
    "ü@b".encode(),
    b"a@[1 2]",
]


@pytest.mark.parametrize("address", GOOD)
def test_good_paths_come_back_as_they_are(address: bytes) -> None:
    assert parse_path(b"<%b>" % address) == (address, b"")
    assert parse_path(b"<%b> SIZE=1 X=2" % address, utf8=True) == (address, b"SIZE=1 X=2")


@pytest.mark.parametrize("address", BAD)
def test_bad_paths_are_refused(address: bytes) -> None:
    """Security 4."""
    with pytest.raises(AddressError):
        parse_path(b"<%b>" % address)


@pytest.mark.parametrize(
    "argument", [b"", b"a@b", b"<a@b", b"a@b>", b"<a@b>x", b"<a@b>\tX", b" <a@b>", b"<<a@b>>"]
)
def test_brackets_are_wanted(argument: bytes) -> None:
    with pytest.raises(AddressError):
        parse_path(argument)


def test_the_null_path() -> None:
    assert parse_path(b"<>") == (b"", b"")
    assert parse_path(b"<> BODY=7BIT") == (b"", b"BODY=7BIT")


def test_internationalized_paths() -> None:
    """RFC 6531 section 3.3."""
    address = "用户@例子.example".encode()
    assert parse_path(b"<%b>" % address, utf8=True) == (address, b"")
    for bad in (b"\xff@b.example", b"a@\xc3\x28.example", b"a@b.\xff", "a@ü..b".encode()):
        with pytest.raises(AddressError):
            parse_path(b"<%b>" % bad, utf8=True)
    with pytest.raises(AddressError):
        parse_path(b"<" + "ü".encode() * 120 + b"@" + "ü".encode() * 40 + b">", utf8=True)


def test_an_address_longer_than_a_path_may_be() -> None:
    domain = b".".join([b"x" * 60] * 4)
    assert parse_path(b"<a@%b>" % domain)[0]
    with pytest.raises(AddressError, match="254"):
        parse_path(b"<%b@%b>" % (b"a" * 40, domain))


@given(st.binary(max_size=60), st.booleans())
def test_any_octets_are_a_slice_or_refused(argument: bytes, utf8: bool) -> None:
    """Security 4: an address is a slice of what came, or none."""
    for path in (argument, b"<%b>" % argument):
        try:
            address, rest = parse_path(path, utf8=utf8)
        except AddressError:
            continue
        assert path.startswith(b"<%b>" % address)
        assert path.endswith(rest)
        assert not any(octet < 32 or octet == 127 for octet in address)
        assert utf8 or address.isascii()


def test_literals() -> None:
    assert is_literal(b"a@[192.0.2.1]")
    assert not is_literal(b"a@b.example")


def test_a_domain_as_dns_wants_it() -> None:
    assert to_alabel(b"Example.ORG") == "example.org"
    assert to_alabel("BÜCHER.example".encode()) == "xn--bcher-kva.example"
    # What cannot be converted is text no name server is asked for; it never raises.
    assert not to_alabel(b"\xff.example").isascii() or "\\" in to_alabel(b"\xff.example")
    assert to_alabel("a‍.example".encode())


@pytest.mark.parametrize(
    "address",
    [
        b"a@192.0.2.1",
        b"a@b.123",
        b"a@[256.0.0.1]",
        b"a@[1.2.3]",
        b"a@[b]",
        b"a@[IPv6:::g]",
        b"a@[2001:db8::1]",
        b"a@[tag:content]",
        "a@１９２.０.２.１".encode(),
        "a\x85b@c.example".encode(),
        "a\u2028b@c.example".encode(),
        "ü@[b]".encode(),
        "ü@[192.0.2.300]".encode(),
        b"a@" + b"x" * 64 + b".example",
        "ü@".encode() + b"x" * 64 + b".example",
        ("a@" + "ü" * 60 + ".example").encode(),
        "a@b\u2026.example".encode(),
        "a@-ü.example".encode(),
    ],
    ids=ascii,
)
def test_a_domain_that_can_be_no_name_is_refused(address: bytes) -> None:
    """It would come back as a report only; and a number without brackets is a literal in disguise."""
    with pytest.raises(AddressError):
        parse_path(b"<%b>" % address, utf8=True)


@pytest.mark.parametrize(
    "address",
    [
        "ü@b.example",
        "ü@[192.0.2.1]",
        "ü@[IPv6:::1]",
        "a@BÜCHER.example",
        "a@bücher.xn--p1ai",
        "почта@пример.рф",
    ],
)
def test_names_beyond_ascii_that_dns_can_be_asked_for(address: str) -> None:
    assert parse_path(f"<{address}>".encode(), utf8=True) == (address.encode(), b"")
    with pytest.raises(AddressError):
        parse_path(f"<{address}>".encode())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("joe", "is not an address; write user@example.org"),
        ("", "is not an address; write user@example.org"),
        ("x y", "is not an address; write user@example.org"),
        ("<a@b.example>", "is not an address; write user@example.org"),
        ("a@b.example> SIZE=1", "is not an address; write user@example.org"),
        ("a@b.example>", "is not an address; write user@example.org"),
        ("a@192.0.2.1", "is not an address: the domain is a number"),
        ("\udcff@b.example", "is not an address: not UTF-8"),
    ],
)
def test_who_must_write_no_brackets_is_not_told_of_them(written: str, said: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_written(written)
    assert str(caught.value) == said


def test_an_address_without_brackets() -> None:
    assert parse_written("a@b.example") == b"a@b.example"
    assert parse_written("grün@bücher.example") == "grün@bücher.example".encode()
