"""What a submission server looks at beyond a relay: whole addresses, and whose name a message bears. Pure.

RFC 6409 §4.2 and §6.1. A name is a question of safety, so this reads a header as narrowly as the
envelope is read: what mail programs could understand in two ways names nobody. Comments are passed
over, a display name is words or quoted; encoded words, groups, routes and the obsolete forms
are no addresses, and neither is a second From. Every look is linear in the field, and none raises.
"""

import re
from collections.abc import Callable
from typing import Final

from backstamp.mail.address import AddressError, parse_path

FIELD: Final = 8192
"""Octets of a From or Sender that is read, at most."""

UNREADABLE: Final = (
    b"554 5.6.0 The message needs one From field that names its author, and of several a Sender\r\n"
)
NOT_ALLOWED: Final = b"550 5.7.1 The message is from an address that is not yours to send as\r\n"

_UNQUALIFIED: Final = re.compile(rb'<([^<>@" ]+|"(?:[^"\\]|\\.)*")>')
_FIELDS: Final = re.compile(rb"\r\n(from|sender)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
_CONTROLS: Final = bytes([*range(32), 127])
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|<[^<>]*>|[,(]|[^",<>()\\:;\[\]@]+|@')
_ADDRESS: Final = re.compile(rb'(?:[^"@ ]+|"(?:[^"\\]|\\.)*")@[^"@ ]+')
_NESTING: Final = re.compile(rb"\\.|[()]")


def qualified(path: bytes, domain: bytes) -> bytes:
    """Return MAIL's or RCPT's path with a domain where its address has none (RFC 6409 §4.2).

    `path` begins with `<` and may have parameters behind it; `<>`, and what is no address at all, come
    back as they are. Without a domain to give (empty) so does everything, and is refused as before.
    """
    found = _UNQUALIFIED.match(path) if domain else None
    return path if found is None else b"<%b@%b>%b" % (found[1], domain, path[found.end() :])


def header_senders(header_block: bytes) -> list[bytes]:
    """Return whom a message says it is from: its authors, and behind them who sent it, if Sender names one.

    Every one of them: programs show the first author, the last or all, and some "Sender on behalf of From".
    Several authors need a Sender (RFC 5322 §3.6.2), which names one. Empty: nobody is named, or not so
    that all who read it understand the same. `header_block` has CRLF line ends.
    """
    found: dict[bytes, list[bytes]] = {b"from": [], b"sender": []}
    for name, value in _FIELDS.findall(b"\r\n" + header_block):
        found[name.lower()].append(value)
    if len(found[b"from"]) != 1 or len(found[b"sender"]) > 1:
        return []
    authors = _mailboxes(found[b"from"][0])
    if not found[b"sender"]:
        return authors if len(authors) == 1 else []
    sender = _mailboxes(found[b"sender"][0])
    return [*authors, *sender] if authors and len(sender) == 1 else []


def refusal(header_block: bytes, allowed: Callable[[bytes], bool]) -> bytes | None:
    """Return the reply to a message from somebody its client may not be (RFC 6409 §6.1), None if it is taken.

    `allowed` tells whether the client may send as an address.
    """
    named = header_senders(header_block)
    if not named:
        return UNREADABLE
    return None if all(map(allowed, named)) else NOT_ALLOWED


def _mailboxes(field: bytes) -> list[bytes]:
    """Return the addresses of a mailbox-list (RFC 5322 §3.4), empty where one of them is none."""
    text = field.replace(b"\r\n", b"").replace(b"\t", b" ")
    if len(text) > FIELD or text != text.translate(None, _CONTROLS):
        return []
    elements: list[list[bytes]] = [[]]
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return []
        at = token.end()
        if token[0] == b"(":
            if (at := _behind_comment(text, at)) < 0:
                return []
            elements[-1].append(b" ")
        elif token[0] == b",":
            elements.append([])
        else:
            elements[-1].append(token[0])
    found = [_address(element) for element in elements]
    return [] if None in found else [one for one in found if one is not None]


def _behind_comment(text: bytes, at: int) -> int:
    """Return where a comment ends that began before `at`; -1 where it does not."""
    depth = 1
    for mark in _NESTING.finditer(text, at):
        depth += (mark[0] == b"(") - (mark[0] == b")")
        if not depth:
            return mark.end()
    return -1


def _address(tokens: list[bytes]) -> bytes | None:
    """Return the address of one mailbox, None if there is none that all understand."""
    words = [token for token in tokens if token.strip()]
    if words and words[-1].startswith(b"<"):
        # An address in the name of another is how one passes for somebody else.
        if any(word.startswith(b"<") or word == b"@" for word in words[:-1]):
            return None
        path = words[-1]
    else:
        bare = b"".join(tokens).strip()
        if _ADDRESS.fullmatch(bare) is None:
            return None
        path = b"<%b>" % bare
    try:
        return parse_path(path, utf8=True)[0] or None
    except AddressError:
        return None
