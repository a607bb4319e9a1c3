"""A message as a program writes it, made fit for SMTP. Pure.

Lines end in LF on standard input and in CRLF on the wire; whatever CRs stand before the LF are one
(Postfix: sendmail_fix_line_endings = always). Of the header only this is touched: `From ` lines of
mailboxes before it go, Bcc and Resent-Bcc go (Postfix: message_drop_headers, with and without -t),
addresses get a domain where they have none (Postfix: append_at_myorigin), and From comes where it is
missing (RFC 6409 §8.1). Date and Message-ID are the listener's business.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from backstamp.sendmail.addresses import qualified

_LONGEST: Final = 1024 * 1024
"""Octets of a line that are held back to see its end; a longer one is passed on in parts."""
_CRS: Final = re.compile(rb"\r+\n")
_DOT: Final = re.compile(rb"(?:\A|\n)\.\r*\n")
_MBOX: Final = re.compile(rb">*From [^\n]*\n")
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r]*(?:\r(?!\n)[^\r]*)*\r\n(?:[ \t][^\n]*\n)*")
_RESENT: Final = (b"resent-to", b"resent-cc", b"resent-bcc")
_TO: Final = (b"to", b"cc", b"bcc")
_KEY: Final = b"backstamp-idempotency-key"
_LONGEST_KEY: Final = 200
_NAMING: Final = frozenset(
    (*_TO, *_RESENT, b"from", b"sender", b"reply-to", b"resent-from", b"resent-sender", b"resent-reply-to")
)
"""Fields whose values are addresses."""


def wire(pieces: Iterable[bytes], *, dot_ends: bool) -> Iterator[bytes]:
    """Yield a content with its lines ended by CRLF, the last too; a line of one dot ends it with `dot_ends`.

    Nothing is asked for behind such a dot: who writes on a terminal need not close it.
    """
    held = b""
    begins = True
    """Whether `held` begins a line."""
    for piece in pieces:
        data = held + piece
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > _LONGEST:
            cut = len(data) - 1
            whole, held = data[:cut], data[cut:]
            begins = False
            yield whole
            continue
        whole, held = data[:cut], data[cut:]
        if not whole:
            continue
        # A line that began in an earlier part is no lone dot, whatever is left of it.
        found = _DOT.search(whole, 0 if begins else whole.find(b"\n")) if dot_ends else None
        begins = True
        if found is not None:
            end = found.start() + (whole[found.start()] == 0x0A)
            if end:
                yield _crlf(whole[:end])
            return
        yield _crlf(whole)
    if held and not (dot_ends and begins and held.rstrip(b"\r") == b"."):
        yield held.rstrip(b"\r") + b"\r\n"


def _crlf(whole: bytes) -> bytes:
    return (
        whole.replace(b"\n", b"\r\n")
        if b"\r" not in whole
        else _CRS.sub(b"\n", whole).replace(b"\n", b"\r\n")
    )


class Head(NamedTuple):
    """The header of a message: its fields with their names in lower case; `end` is where the rest begins."""

    fields: tuple[tuple[bytes, bytes], ...]
    start: int
    end: int

    def has(self, name: bytes) -> bool:
        """Tell whether there is such a field."""
        return any(name == one for one, _ in self.fields)

    def recipients(self) -> list[str]:
        """Return the lists of addresses -t reads: those of the last sending where the message is sent again.

        As Postfix: where a Resent field names recipients, only those do (RFC 5322 §3.6.6). What is no UTF-8
        comes as surrogates, which no address may have.
        """
        names = _RESENT if any(name in _RESENT for name, _ in self.fields) else _TO
        return [
            raw.partition(b":")[2].replace(b"\r\n", b"").decode("utf-8", "surrogateescape")
            for name, raw in self.fields
            if name in names
        ]


def head(content: bytes) -> Head:
    """Return the header of a content whose lines end in CRLF; it ends at the first line that is no field."""
    start = 0
    while (found := _MBOX.match(content, start)) is not None:
        start = found.end()
    fields: list[tuple[bytes, bytes]] = []
    end = start
    while (found := _FIELD.match(content, end)) is not None:
        fields.append((found[1].lower(), found[0]))
        end = found.end()
    return Head(tuple(fields), start, end)


def begin(content: bytes, found: Head, sender: bytes, *, hostname: str = "", part: int = 0) -> bytes:
    """Return the beginning of a content as it goes out; `sender` is the From field it gets if it has none.

    Addresses without a domain are given `hostname`, if there is one: beyond this machine they mean nothing.

    A message that goes in several transactions is several for the relay, and one key stands for one: behind
    the first (`part` 0) an idempotency key tells which, or the relay would take the others for repetitions.
    """
    kept = b"".join(
        _kept(name, raw, hostname, part) for name, raw in found.fields if name not in (b"bcc", b"resent-bcc")
    )
    added = b"" if found.has(b"from") else sender
    rest = content[found.end :]
    # A header that just stops gets its end here, or the first line of the text would be part of it.
    gap = b"" if not rest or rest.startswith(b"\r\n") else b"\r\n"
    return added + kept + gap + rest


def _kept(name: bytes, raw: bytes, hostname: str, part: int) -> bytes:
    if name == _KEY and part:
        return _key(raw, b"/%d" % part)
    if name in _NAMING and hostname:
        before, colon, value = raw.partition(b":")
        # What is no UTF-8 comes back as it was.
        text = qualified(value.decode("utf-8", "surrogateescape"), hostname)
        return before + colon + text.encode("utf-8", "surrogateescape")
    return raw


def _key(raw: bytes, part: bytes) -> bytes:
    """Return the field of a key for one of several transactions; where it grew too long, of its digest."""
    value = raw.partition(b":")[2].replace(b"\r\n", b"").strip()
    if len(value + part) <= _LONGEST_KEY:
        return raw.rstrip() + part + b"\r\n"
    from hashlib import sha256

    return b"Backstamp-Idempotency-Key: %b%b\r\n" % (sha256(value).hexdigest().encode(), part)


def from_field(name: str, address: str) -> bytes:
    """Return a From field; a name beyond ASCII becomes encoded words (RFC 2047)."""
    name = "".join(one for one in name if one.isprintable())
    if not name:
        return f"From: {address}\r\n".encode()
    if not name.isascii():
        from email.header import Header

        # A word has 75 octets at most, a line of them 76 (RFC 2047 §2).
        words = Header(name, "utf-8", maxlinelen=76, header_name="From").encode(linesep="\r\n")
        return f"From: {words} <{address}>\r\n".encode()
    from email.utils import formataddr

    # The address stays out of it: beyond ASCII the library would refuse it.
    shown = formataddr((name, "x@x")).removesuffix("<x@x>")
    return f"From: {shown}<{address}>\r\n".encode()
