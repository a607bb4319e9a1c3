"""Addresses as RFC 5321 §4.1.2 has them, on raw bytes, by one anchored expression.

No parser for header addresses comes near them: encoded words, comments and white space
are not decoded but refused, and so is every control character; what was accepted is kept
octet for octet. Source routes (§4.1.1.3, deprecated) are refused: they name a third party.
So is a domain that can be no host's name: it would only come back as a report later.
"""

import ipaddress
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
_DOMAIN = re.compile(rb"%b(?:\.%b)*" % (_LABEL, _LABEL))
_LINES = re.compile("[\x80-\x9f\u2028\u2029]")
"""C1 controls and line separators: no name has them, and logs and reports are made of lines."""

_UTF8_PATH = _path(rb"(?:%b|%b)" % (_ATEXT, _UTF8), rb"(?:%b|%b)" % (_QTEXT, _UTF8), _ULABEL)


class AddressError(ValueError):
    """What stands there is no path; the text says what is wrong with it, for a reply."""


class NoPathError(AddressError):
    """It has not even the form of one."""


def parse_path(argument: bytes, *, utf8: bool = False) -> tuple[bytes, bytes]:
    """Return the address in `<...>` (empty for `<>`) and the parameters behind it.

    With `utf8` an internationalized address is one too (RFC 6531 §3.3).

    Raises:
        AddressError: it is no path, or longer than RFC 5321 §4.5.3.1 allows.
    """
    found = _ASCII_PATH.fullmatch(argument)
    if found is None and utf8:
        found = _UTF8_PATH.fullmatch(argument)
    if found is None:
        raise NoPathError("not an address in angle brackets")
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
    if found.re is _UTF8_PATH:
        _check_international(address, domain)
    elif domain[-1] < 0x3A:
        _check_name(domain)
    elif domain[0] == 0x5B:
        _check_literal(domain)
    return address, rest


def parse_written(text: str) -> bytes:
    """Return an address that a person, a program or a file wrote: without brackets, and never empty.

    Raises:
        AddressError: it is none; the text goes on behind what names it: `from: is not an address; ...`.
    """
    try:
        address, rest = parse_path(b"<%b>" % text.encode("utf-8", "surrogatepass"), utf8=True)
    except NoPathError:
        address, rest = b"", b""
    except AddressError as error:
        raise AddressError(f"is not an address: {error}") from None
    if rest or not address:
        raise AddressError("is not an address; write user@example.org")
    return address


def _check_international(address: bytes, domain: bytes) -> None:
    """Check what the expression cannot: the encoding, and that DNS can be asked for the domain."""
    try:
        text = address.decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("not UTF-8") from None
    if _LINES.search(text) is not None:
        raise AddressError("a control character is in the address")
    if domain[0] == 0x5B:
        _check_literal(domain)
        return
    name = to_alabel(domain).encode("utf-8")
    if len(name) > 253 or _DOMAIN.fullmatch(name) is None:
        raise AddressError("the domain cannot be a name in DNS")
    _check_name(name)


def _check_name(domain: bytes) -> None:
    """Refuse a top-level label of digits (RFC 3696 §2): a number of a host without its brackets."""
    if domain.rpartition(b".")[2].isdigit():
        raise AddressError("the domain is a number")


def _check_literal(domain: bytes) -> None:
    """Check an address literal (RFC 5321 §4.1.3)."""
    text = domain[1:-1].decode("ascii")
    try:
        if text[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        raise AddressError("not an address literal") from None


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
