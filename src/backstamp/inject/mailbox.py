"""Mailboxes and header fields: from what a request says to lines of a header (RFC 5322, RFC 2047). Pure.

An address goes through the strict grammar of RCPT; its domain comes out in A-labels. Names and
values are text of one line. A field is folded at white space, to 78 octets where that can be done;
a word that would make a line of more than 998 is refused before.
"""

import re
from collections.abc import Sequence
from email.charset import QP, Charset
from email.header import Header
from typing import Final

import msgspec

from backstamp.mail.address import parse_written, to_alabel

WIDTH: Final = 78
WORD: Final = 900
"""Octets of one word in a header value, at most: no line may have more than 998 (RFC 5322 §2.1.1)."""

NAME: Final = 320
"""Characters of a display name, at most; quoted they may be twice as many."""

_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
# Every octet in one way only: what a stranger calls himself must not cost the loop a second.
_NAMED: Final = re.compile(r'(?:"((?:[^"\\]|\\.)*)"\s*|([^<>"]*))<([^<>]*)>')
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")

_ADDRESSED: Final = frozenset(
    {
        "sender",
        "resent-from",
        "resent-sender",
        "resent-to",
        "resent-cc",
        "disposition-notification-to",
        "return-receipt-to",
        "errors-to",
        "mail-followup-to",
        "mail-reply-to",
    }
)
"""Fields a client may write whose values are addresses: no encoded word may hold one (RFC 2047 §5)."""

_UTF8 = Charset("utf-8")
_UTF8.header_encoding = QP


class Mailbox(msgspec.Struct, frozen=True):
    """Somebody: a name, which may be empty, and an address in octets."""

    address: bytes
    name: str = ""


def address(text: str, *, null: bool = False) -> bytes:
    """Return an address as the queue has it; with `null` an empty text is the null reverse-path.

    Raises:
        ValueError: it is none; the text says why.
    """
    if not text and null:
        return b""
    found = parse_written(text)
    local, _, domain = found.rpartition(b"@")
    if domain.isascii():
        return found
    return b"%b@%b" % (local, to_alabel(domain).encode("ascii"))


def mailbox(text: str) -> Mailbox:
    """Return who is meant by `user@example.org` or `Name <user@example.org>`.

    Raises:
        ValueError: it is neither; the text says why.
    """
    named = _NAMED.fullmatch(text.strip())
    if named is None:
        return Mailbox(address(text.strip()))
    quoted, plain, inside = named.groups()
    name = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if len(one_line(name)) > NAME:
        raise ValueError(f"has a name of more than {NAME} characters")
    return Mailbox(address(inside), name.strip())


def one_line(text: str) -> str:
    """Return a text that may stand in a header.

    Raises:
        ValueError: it has a line end or a control character, or a word that cannot be folded.
    """
    if _UNPRINTABLE.search(text) is not None:
        raise ValueError("has a line end or a control character; it stands in a header, which is one line")
    words = text.split()
    # Spaces beyond ASCII do not count: they go, and what is left is not encoded.
    if max(map(len, words), default=0) > WORD and "".join(words).isascii():
        raise ValueError(f"has a word of more than {WORD} characters, which no header line can hold")
    return text


def value(name: str, text: str) -> str:
    """Return a text that may be the value of a field a client names.

    Raises:
        ValueError: it is not of one line, or beyond ASCII where addresses stand and not one mailbox.
    """
    if not one_line(text).isascii() and name.lower() in _ADDRESSED:
        try:
            readable = mailbox(text).address.isascii()
        except ValueError:
            readable = False
        if not readable:
            raise ValueError("is beyond ASCII and not one mailbox; write Name <user@example.org>")
    return text


def said(name: str, text: str) -> bytes:
    """Return a field a client named, with a `value`, and its CRLF; of a mailbox only the name is encoded."""
    if not text.isascii() and name.lower() in _ADDRESSED:
        return people(name, (mailbox(text),))
    return field(name, text, literal=True)


def field(name: str, value: str, *, literal: bool = False) -> bytes:
    """Return a header field of text with its CRLF, encoded (RFC 2047) where it is beyond ASCII.

    With `literal` ASCII stands as it is, even where it looks like an encoded word; without,
    a reader sees the value as it was given.
    """
    value = " ".join(value.split()) if len(value) + len(name) + 2 > WIDTH or literal else value.strip()
    if value.isascii() and (literal or "=?" not in value):
        return _folded(name, value.split(" "))
    text = Header(value, _UTF8, maxlinelen=76, header_name=name).encode(linesep="\r\n")
    return f"{name}: {text}\r\n".encode("ascii")


def people(name: str, whom: Sequence[Mailbox]) -> bytes:
    """Return a header field of mailboxes with its CRLF; empty for nobody. Names are encoded (RFC 2047).

    An address beyond ASCII stands as UTF-8, which needs SMTPUTF8 (RFC 6532 §3.2).
    """
    words: list[str] = []
    for index, one in enumerate(whom):
        behind = "," if index < len(whom) - 1 else ""
        if one.name:
            words += _phrase(one.name)
        words.append(f"{'<' if one.name else ''}{one.address.decode()}{'>' if one.name else ''}{behind}")
    return _folded(name, words) if words else b""


def _phrase(name: str) -> list[str]:
    """Return a display name as words between which a line may be folded."""
    if not name.isascii() or "=?" in name:
        return Header(name, _UTF8, maxlinelen=60).encode(linesep="\n").split("\n ")
    plain = " ".join(name.split())
    if _ATOMS.fullmatch(plain) is None:
        plain = '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return plain.split(" ")


def _folded(name: str, words: Sequence[str]) -> bytes:
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word.encode()) > WIDTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return ("\r\n".join(lines) + "\r\n").encode()
