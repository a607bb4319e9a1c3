"""xtext and its sister for addresses beyond ASCII: the grammar, and nothing that breaks a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail import xtext


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (b"QQ+2B314+3D159", b"QQ+314=159"),
        (b"a+20b+09c", b"a b\tc"),
        (b"rfc822;a@b", b"rfc822;a@b"),
        (b"a+2b", None),
        (b"a+", None),
        (b"a+2", None),
        (b"a=b", None),
        (b"a b", None),
        (b"a+0Ab", None),
        (b"a+0Db", None),
        (b"a+00", None),
        (b"a+7F", None),
        (b"a+80", None),
        (b"\xc3\xbc", None),
        (b"a\n", None),
    ],
)
def test_rfc_3461_xtext(value: bytes, meant: bytes | None) -> None:
    """Security 5, RFC 3461: what decodes to a control character is no xtext."""
    assert xtext.decode(value) == meant


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"a@b.example", "a@b.example"),
        (b"j\\x{FC}rgen@x", "jürgen@x"),
        (b"j\\x{fc}rgen@x", "jürgen@x"),
        ("jürgen@x".encode(), "jürgen@x"),
        (b"a\\x{2B}b\\x{3D}\\x{5C}\\x{20}@x", "a+b=\\ @x"),
        (b"\\x{10FFFF}", "\U0010ffff"),
        (b"", None),
        (b"a+b", None),
        (b"a=b", None),
        (b"a\\b", None),
        (b"a\\x{}", None),
        (b"a\\x{41}", None),
        (b"a\\x{D}", None),
        (b"a\\x{0A}", None),
        (b"a\\x{0D}", None),
        (b"a\\x{7F}", None),
        (b"a\\x{85}", None),
        (b"a\\x{2028}", None),
        (b"a\\x{D800}", None),
        (b"a\\x{110000}", None),
        (b"a\\x{0000FC}", None),
        ("a\u0085".encode(), None),
        ("a\u2029".encode(), None),
        (b"\xfc", None),
        (b"a b", None),
        (b"a\n", None),
    ],
)
def test_rfc_6533_addresses_beyond_ascii(value: bytes, meant: str | None) -> None:
    assert xtext.decode_utf8(value) == meant


@given(st.binary(max_size=40))
def test_whatever_comes_means_one_line_or_nothing(value: bytes) -> None:
    meant = xtext.decode(value)
    assert meant is None or (meant.isascii() and len(meant.splitlines()) <= 1)
    wide = xtext.decode_utf8(value)
    assert wide is None or len(wide.splitlines()) == 1


@given(
    st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs", "Zl", "Zp"]), min_size=1, max_size=20)
)
def test_rfc_6533_what_is_written_in_ascii_means_the_same(text: str) -> None:
    written = xtext.embed(text.encode())
    assert written.isascii()
    assert xtext.decode_utf8(written) == text


@pytest.mark.parametrize(
    ("value", "mended"),
    [
        (b"j+C3+BCrgen@one.test", b"j\\x{FC}rgen@one.test"),
        (b"j+C3+BC+2Bx+3D+5C@one.test", b"j\\x{FC}\\x{2B}x\\x{3D}\\x{5C}@one.test"),
        (b"+E6+97+A5@x", b"\\x{65E5}@x"),
        (b"j+FCrgen@one.test", None),
        (b"j+C3+BC+0D+0A@x", None),
        (b"+E2+80+A8", None),
        (b"a+c3", None),
        (b"", None),
    ],
)
def test_xtext_of_an_internationalized_address_is_mended(value: bytes, mended: bytes | None) -> None:
    """RFC 6533: an address beyond ASCII is of type utf-8."""
    assert xtext.mended(value) == mended
