"""xtext: how anything is written into a parameter or a report's field (RFC 3461 §4, RFC 6533 §3). Pure.

Strict on octets: what is not of the grammar means nothing. What a value means ends up in the
fields of reports, so only printable characters may be meant (RFC 3461 §4.2, §4.4).
"""

import re
from typing import Final

_XTEXT: Final = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX: Final = re.compile(rb"\+([0-9A-F]{2})")
_PRINTABLE: Final = re.compile(rb"[\t -~]*")

_UNITEXT: Final = re.compile(r"(?:[!-*,-<>-\[\]-~\u00a0-\U0010ffff]|\\x\{[0-9A-Fa-f]{2,6}\})+")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-Fa-f]+)\}")
_SPECIALS: Final = frozenset({0x20, 0x2B, 0x3D, 0x5C})
"""ASCII that may be embedded: space, `+`, `=`, `\\`. The controls of RFC 6533's list are left out."""
_PLAIN: Final = frozenset(map(chr, range(0x21, 0x7F))) - frozenset(map(chr, _SPECIALS))
"""ASCII that stands for itself."""

_LINES: Final = frozenset({0x2028, 0x2029})


def decode(value: bytes) -> bytes | None:
    """Return what xtext means (RFC 3461 §4), None where it is none or means what cannot be printed."""
    if _XTEXT.fullmatch(value) is None:
        return None
    if b"+" in value:
        value = _HEX.sub(lambda found: bytes([int(found[1], 16)]), value)
    return value if _PRINTABLE.fullmatch(value) is not None else None


def decode_utf8(value: bytes) -> str | None:
    r"""Return the address a `utf-8-addr-xtext` or `-unitext` means (RFC 6533 §3), None where it is neither.

    The first is ASCII, with `\x{HEX}` for a character; the second may have the characters themselves.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _UNITEXT.fullmatch(text) is None:
        return None
    written = _EMBEDDED.findall(text)
    if any(point[0] == "0" or not _may_stand(int(point, 16)) for point in written):
        return None
    text = _EMBEDDED.sub(lambda found: chr(int(found[1], 16)), text)
    return None if any(ord(character) in _LINES for character in text) else text


def mended(value: bytes) -> bytes | None:
    r"""Return xtext that means UTF-8 beyond ASCII as `utf-8-addr-xtext`, None where that cannot be.

    Postfix writes any address it was given into an ORCPT of type `rfc822`; one beyond ASCII can be meant
    by the type `utf-8` alone (RFC 3461 §4.2, RFC 6533 §3).
    """
    if _XTEXT.fullmatch(value) is None:
        return None
    octets = _HEX.sub(lambda found: bytes([int(found[1], 16)]), value)
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    written = "".join(one if one in _PLAIN else f"\\x{{{ord(one):X}}}" for one in text).encode("ascii")
    return written if decode_utf8(written) == text else None


def embed(value: bytes) -> bytes:
    """Return an address's `-unitext` as `-xtext`, which goes where SMTPUTF8 does not (RFC 6533 §3)."""
    text = value.decode("utf-8", "replace")
    return "".join(one if one.isascii() else f"\\x{{{ord(one):X}}}" for one in text).encode("ascii")


def _may_stand(point: int) -> bool:
    """Tell whether a code point may be embedded: no control, no half of a surrogate pair."""
    return point in _SPECIALS or 0xA0 <= point <= 0xD7FF or 0xE000 <= point <= 0x10FFFF
