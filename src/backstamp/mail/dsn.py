"""The report to a sender whose mail could not be delivered: RFC 3464 in RFC 6522's multipart/report.

Three parts: words for a person, fields for a program, and the header of the original. It
says that it was made by a machine (RFC 3834 §5) and goes out with the null reverse-path, so
that nobody answers it. Where an address is beyond ASCII the parts take the types of RFC 6533;
only a sender beyond ASCII gets an 8-bit report, all others one that every server takes. Pure.
Nothing a stranger sent can begin a line of its own, end a part or make a line too long; what
does not fit is changed, never refused: a report must get out.
"""

import binascii
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from backstamp.mail import headers
from backstamp.mail.envelope import parameter
from backstamp.mail.reply import Reply
from backstamp.text import printable

HEADER_LIMIT: Final = 65536
"""Octets of the original's header that are returned at most."""

LINE: Final = 998
"""Octets of a line at most, without its CRLF (RFC 5322 §2.1.1)."""

SAID: Final = 900
"""Characters of what a remote server said, at most: even one word of that size fits a line."""

_WIDTH: Final = 76
_STRAY: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_HEX: Final = re.compile(rb"\+([0-9A-F]{2})")


class Failure(msgspec.Struct, frozen=True):
    """One recipient that is given up. `time` is seconds since the epoch; `host` is empty where none spoke."""

    address: bytes
    parameters: bytes
    reply: Reply
    host: str
    time: float


def report(
    failures: Sequence[Failure],
    *,
    hostname: str,
    report_id: str,
    now: float,
    sender: bytes,
    original_id: str,
    original_parameters: bytes,
    arrival: float,
    original: bytes,
) -> bytes:
    """Return the content of a report, with CRLF line ends of at most 998 octets.

    Times are seconds since the epoch, not before it; ids are text of letters and digits, of
    at most 60; `hostname` is a domain in A-labels. Of `original` only the header is returned,
    at most 64 KiB of it; an empty one leaves the third part out. The content is ASCII unless
    the sender's address is not, whose server then must take 8BITMIME and SMTPUTF8 anyway.
    """
    header = _returned(original)
    words = _words(failures, hostname, bool(header)).encode()
    fields = _fields(failures, hostname, original_id, original_parameters, arrival).encode()
    to = _short(sender)
    eight_bit = not to.isascii()
    parts = [
        _part("text/plain; charset=us-ascii", "text/plain; charset=utf-8", words, eight_bit),
        _part("message/delivery-status", "message/global-delivery-status", fields, eight_bit),
    ]
    if header:
        internationalized = eight_bit and _is_utf8(header)
        wide = "message/global-headers" if internationalized else "text/rfc822-headers"
        parts.append(_part("text/rfc822-headers", wide, header + b"\r\n", internationalized))
    boundary = _boundary(report_id, parts)
    encoding = "8bit" if eight_bit else "7bit"
    top = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{to}>\r\n"
        f"Subject: Undelivered Mail Returned to Sender\r\n"
        f"Date: {headers.date(now)}\r\n"
        f"Message-ID: <{report_id}@{hostname}>\r\n"
        f"Auto-Submitted: auto-replied\r\n"
        f"MIME-Version: 1.0\r\n"
        f"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f'\tboundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n"
        f"\r\n"
        f"This is a report in the format of RFC 3464.\r\n"
    )
    between = f"\r\n--{boundary}".encode()
    return top.encode() + b"".join(between + b"\r\n" + part for part in parts) + between + b"--\r\n"


def _part(narrow: str, wide: str, body: bytes, eight_bit: bool) -> bytes:
    """Return a part: of the narrow type where it is ASCII; else of the wide one, as it is or in ASCII.

    Quoted-printable may stand in every wide type (RFC 6522 §4, RFC 6532 §3.5).
    """
    kind, encoding = narrow, "7bit"
    if not body.isascii():
        kind, encoding = wide, "8bit"
        if not eight_bit:
            encoding = "quoted-printable"
            body = binascii.b2a_qp(body)
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _boundary(report_id: str, bodies: Iterable[bytes]) -> str:
    """Return what separates the parts and occurs in none (RFC 2046 §5.1.1).

    The id is fresh, but whoever guessed it must not be able to end a part.
    """
    number = 0
    while any(f"--{report_id}={number}".encode() in body for body in bodies):
        number += 1
    return f"{report_id}={number}"


def _words(failures: Sequence[Failure], hostname: str, attached: bool) -> str:
    """Return the part for a person: who failed, what the other side said, what happens now."""
    lines = [
        f"This is the mail relay at {hostname}.",
        "",
        "Your message could not be delivered to the recipients below. The relay has",
        "given up on them and will not try again; other recipients are not affected.",
        "",
    ]
    for failure in failures:
        who = f"{_host(failure.host)} said: " if failure.host else ""
        lines += [f"  <{_short(failure.address)}>", *_wrapped(who + _said(failure.reply), "    "), ""]
    if attached:
        lines += ["The header of your message is attached.", ""]
    return "\r\n".join(lines)


def _fields(
    failures: Sequence[Failure], hostname: str, original_id: str, original_parameters: bytes, arrival: float
) -> str:
    """Return the part for a program (RFC 3464 §2): fields of the message, then of each recipient."""
    lines = []
    envelope_id = parameter(original_parameters, b"ENVID")
    if envelope_id:
        lines.append(f"Original-Envelope-Id: {_ascii(_xtext(envelope_id))}")
    lines += [
        f"Reporting-MTA: dns; {hostname}",
        f"X-Backstamp-Queue-ID: {original_id}",
        f"Arrival-Date: {headers.date(arrival)}",
    ]
    for failure in failures:
        lines.append("")
        lines += _original(parameter(failure.parameters, b"ORCPT"))
        kind = "rfc822" if failure.address.isascii() else "utf-8"
        lines += [
            f"Final-Recipient: {kind}; {_short(failure.address)}",
            "Action: failed",
            f"Status: {_status(failure.reply)}",
        ]
        if failure.host:
            lines.append(f"Remote-MTA: dns; {_host(failure.host)}")
        lines += _wrapped(f"Diagnostic-Code: smtp; {_said(failure.reply)}", "", " ")
        lines.append(f"Last-Attempt-Date: {headers.date(failure.time)}")
    return "\r\n".join([*lines, ""])


def _original(written: bytes | None) -> list[str]:
    """Return the recipient as the sender's first server knew it, if the sender told (RFC 3461 §4.2)."""
    kind, _, address = (written or b"").partition(b";")
    return [f"Original-Recipient: {_ascii(_xtext(kind))[:40]}; {_xtext(address)}"] if address else []


def _returned(original: bytes) -> bytes:
    """Return the original's header, cut behind a whole line, fit to stand in a part."""
    header = headers.block(original)
    if len(header) > HEADER_LIMIT:
        end = header.rfind(b"\r\n", 0, HEADER_LIMIT + 2)
        header = header[: end if end > 0 else HEADER_LIMIT]
    header = _STRAY.sub(b" ", header)
    return b"\r\n".join(_cut(line) for line in header.split(b"\r\n"))


def _cut(line: bytes) -> bytes:
    """Return a line's first 998 octets, no half character behind UTF-8."""
    if len(line) <= LINE:
        return line
    return line[:LINE].decode("utf-8", "ignore").encode() if _is_utf8(line) else line[:LINE]


def _status(reply: Reply) -> str:
    """Return a status RFC 3464 §2.3.4 lets stand beside `failed`."""
    return str(reply.enhanced) if reply.code // 100 in {4, 5} else "5.0.0"


def _wrapped(text: str, indent: str, further: str | None = None) -> list[str]:
    """Return lines of up to 76 characters; a longer word stays whole."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _short(value: bytes) -> str:
    """Return text that fits a line behind its field's name, in octets too."""
    return printable(value.decode("utf-8", "replace")).encode()[:SAID].decode("utf-8", "ignore")


def _host(host: str) -> str:
    return _ascii(printable(host, 255))


def _said(reply: Reply) -> str:
    return _ascii(printable(str(reply), SAID))


def _xtext(value: bytes) -> str:
    """Return what an ENVID or ORCPT means (RFC 3461 §4); what is not printable then stays as it came."""
    meant = _HEX.sub(lambda found: bytes([int(found[1], 16)]), value)
    if not (meant.isascii() and meant.decode("ascii").isprintable()):
        meant = value
    return _short(meant)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")
