"""Addresses as RFC 5321 §4.1.2 has them, on raw bytes, by one anchored expression.

No parser for header addresses comes near them: encoded words, comments and white space
are not decoded but refused, and so is every control character; what was accepted is kept
octet for octet. Source routes (§4.1.1.3, deprecated) are refused: they name a third party.
"""

import re

import idna

_ATEXT = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_UTF8 = rb"[\x80-\xff]"
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ULABEL = rb"(?:[A-Za-z0-9]|%b)(?:(?:[A-Za-z0-9-]|%b)*(?:[A-Za-z0-9]|%b))?" % (_UTF8, _UTF8, _UTF8)
_QTEXT = rb"(?:[ !#-\[\]-~]|\\[ -~])"
_LITERAL = rb"\[[A-Za-z0-9:.-]+\]"


def _path(atom: bytes, quoted: bytes, label: bytes) -> re.Pattern[bytes]:
    local = rb'(%b+(?:\.%b+)*|"%b*")' % (atom, atom, quoted)
    domain = rb"(%b(?:\.%b)*|%b)" % (label, label, _LITERAL)
    return re.compile(rb"<(?:%b@%b)?>(?:[ ]+(.*))?" % (local, domain), re.DOTALL)


_ASCII_PATH = _path(_ATEXT, _QTEXT, _LABEL)
_UTF8_PATH = _path(rb"(?:%b|%b)" % (_ATEXT, _UTF8), rb"(?:%b|%b)" % (_QTEXT, _UTF8), _ULABEL)


class AddressError(ValueError):
    """What stands there is no path; the text says what is wrong with it, for a reply."""


def parse_path(argument: bytes, *, utf8: bool = False) -> tuple[bytes, bytes]:
    """Return the address in `<...>` (empty for `<>`) and the parameters behind it.

    With `utf8` an internationalized address is one too (RFC 6531 §3.3).

    Raises:
        AddressError: it is no path, or longer than RFC 5321 §4.5.3.1 allows.
    """
    found = (_UTF8_PATH if utf8 else _ASCII_PATH).fullmatch(argument)
    if found is None:
        raise AddressError("not an address in angle brackets")
    local, domain, rest = found.groups(b"")
    if not domain:
        return b"", rest
    if len(local) > 64 or len(domain) > 255:
        raise AddressError("a local part of more than 64 octets, or a domain of more than 255")
    if b"=?" in local and b"?=" in local:
        raise AddressError("an encoded word is no address")
    address = b"%b@%b" % (local, domain)
    if len(address) > 254:
        raise AddressError("an address of more than 254 octets")
    if utf8 and not address.isascii():
        try:
            address.decode("utf-8")
        except UnicodeDecodeError:
            raise AddressError("not UTF-8") from None
    return address, rest


def is_literal(address: bytes) -> bool:
    """Tell whether an address names its host by number (`user@[192.0.2.1]`)."""
    return address.endswith(b"]")


def to_alabel(domain: bytes) -> str:
    """Return a domain as DNS wants it: A-labels, lower case (RFC 5891 §5).

    What cannot be converted comes back as text that no name server will be asked for.
    """
    try:
        if domain.isascii():
            return domain.decode("ascii").lower()
        return idna.encode(domain.decode("utf-8"), uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeDecodeError):
        return domain.decode("utf-8", "backslashreplace")
