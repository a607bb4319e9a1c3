"""Who is authenticated, and in whose name they may send. Pure.

A user's patterns are domains (`example.org`, without what is below it), everything below a
domain (`*.example.org`) and addresses. Domains are compared as A-labels, whatever their
case; local parts octet for octet, because only their own host knows what they mean (RFC 5321
§2.4). The null reverse-path is nobody's name, and reports need it.
"""

import re
from typing import Final

import msgspec

from backstamp.mail.address import AddressError, parse_path, to_alabel

_DOMAIN: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)


class User(msgspec.Struct, frozen=True):
    """Somebody who proved to be who they are.

    `senders` are patterns as `sender_pattern` gives them; none: any sender. `tenant` is whose mail theirs is,
    empty: as the listener says.
    """

    name: str
    senders: tuple[str, ...] = ()
    tenant: str = ""


def sender_pattern(text: str) -> str:
    """Return a pattern with its domain in A-labels and lower case.

    Raises:
        ValueError: it is neither a domain, nor `*.` and a domain, nor an address.
    """
    below = "*." if text.startswith("*.") else ""
    local, at, domain = text[len(below) :].rpartition("@")
    name = to_alabel(domain.encode("utf-8", "surrogatepass"))
    wrong = "is not a sender; write example.org, *.example.org or a@example.org"
    # A name of digits only would be a host's number (RFC 3696 §2), which no sender's domain is.
    if not _DOMAIN.fullmatch(name) or name.rpartition(".")[2].isdigit() or (at and below):
        raise ValueError(wrong)
    if at:
        try:
            address, rest = parse_path(f"<{local}@{name}>".encode("utf-8", "surrogatepass"), utf8=True)
        except AddressError:
            raise ValueError(wrong) from None
        if rest or not address:
            raise ValueError(wrong)
    return f"{below}{local}{at}{name}"


def sender_allowed(user: User, reverse_path: bytes) -> bool:
    """Tell whether a user may send with this reverse-path (no brackets, empty for `<>`)."""
    if not user.senders or not reverse_path:
        return True
    local, _, domain = reverse_path.rpartition(b"@")
    name = to_alabel(domain)
    address = f"{local.decode('utf-8', 'backslashreplace')}@{name}"
    return any(
        name.endswith(pattern[1:]) if pattern.startswith("*.") else pattern in (name, address)
        for pattern in user.senders
    )
