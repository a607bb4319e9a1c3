"""The report to a sender on what became of the mail: RFC 3464 in RFC 6522's multipart/report.

Three parts: words for a person, fields for a program, and the original or its header. It
says that it was made by a machine (RFC 3834 §5) and goes out with the null reverse-path, so
that nobody answers it. Where an address is beyond ASCII the parts take the types of RFC 6533;
only a sender beyond ASCII gets an 8-bit report, all others one that every server takes. Pure.
Nothing a stranger sent can begin a line of its own, end a part or make a line too long; what
does not fit is changed, never refused: a report must get out.
"""

import binascii
import enum
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from backstamp.mail import content, headers, release, xtext
from backstamp.mail.content import Content
from backstamp.mail.envelope import parameter
from backstamp.mail.reply import Reply
from backstamp.text import printable

HEADER_LIMIT: Final = 65536
"""Octets of the original's header that are returned at most."""

FULL_LIMIT: Final = 1024 * 1024
"""Octets of an original that is returned whole (RET=FULL), at most; of a larger one the header is."""

LINE: Final = 998
"""Octets of a line at most, without its CRLF (RFC 5322 §2.1.1)."""

SAID: Final = 900
"""Characters of what a remote server said, at most: even one word of that size fits a line."""

_WIDTH: Final = 76
_STRAY: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


class Action(enum.Enum):
    """What became of the recipients of one report (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    RELAYED = "relayed"
    """A server took the mail that will send no report of success (RFC 3461 §5.2.2)."""


_SUBJECTS: Final = {
    Action.FAILED: "Undelivered Mail Returned to Sender",
    Action.RELAYED: "Mail Relayed",
}
_NEWS: Final = {
    Action.FAILED: (
        "Your message could not be delivered to the recipients below. The relay has",
        "given up on them and will not try again; other recipients are not affected.",
    ),
    Action.RELAYED: (
        "Your message was passed on for the recipients below, to servers that do not",
        "report deliveries. Unless something goes wrong there is no further report.",
    ),
}


class Fate(msgspec.Struct, frozen=True):
    """What became of one recipient.

    `parameters` are those of its RCPT; `time` is seconds since the epoch; `host` is empty where none spoke.
    """

    address: bytes
    parameters: bytes
    reply: Reply
    host: str
    time: float


def report(
    fates: Sequence[Fate],
    *,
    action: Action = Action.FAILED,
    hostname: str,
    report_id: str,
    now: float,
    sender: bytes,
    original_id: str,
    original_parameters: bytes,
    arrival: float,
    original: Content,
    whole: bool = True,
) -> bytes:
    """Return the content of a report, with CRLF line ends of at most 998 octets.

    Times are seconds since the epoch, not before it; ids are text of letters and digits, of
    at most 60; `hostname` is a domain in A-labels. Of `original` the header is returned, at most
    64 KiB of it, or all where its sender asked (RET=FULL, RFC 3461 §4.3), mail failed, and it is
    at most 1 MiB and can stand in a report as it is; an empty one leaves the third part out. Without
    `whole` there is no more of it than the header. The report is ASCII unless the sender's address is
    not, whose server then must take 8BITMIME and SMTPUTF8 anyway.
    """
    to = _short(sender)
    eight_bit = not to.isascii()
    full = action is Action.FAILED and (parameter(original_parameters, b"RET") or b"").upper() == b"FULL"
    # RFC 8689 §5: of mail that demanded TLS all the way a report has no more than the header.
    full = full and whole and parameter(original_parameters, b"REQUIRETLS") is None
    message = _whole(original, eight_bit) if full else None
    third = _header(original, eight_bit) if message is None else message
    attached = (
        "" if third is None else "The header of your message is" if message is None else "Your message is"
    )
    words = _words(fates, action, hostname, attached).encode()
    fields = _fields(fates, action, hostname, original_id, original_parameters, arrival).encode()
    parts = [
        _part("text/plain; charset=us-ascii", "text/plain; charset=utf-8", words, eight_bit),
        _part("message/delivery-status", "message/global-delivery-status", fields, eight_bit),
    ]
    if third is not None:
        parts.append(third)
    boundary = _boundary(report_id, parts)
    encoding = "8bit" if eight_bit else "7bit"
    top = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{to}>\r\n"
        f"Subject: {_SUBJECTS[action]}\r\n"
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


def _header(original: Content, eight_bit: bool) -> bytes | None:
    """Return the part with the original's header, None where it has none."""
    header = _returned(content.header(original))
    if not header:
        return None
    internationalized = eight_bit and _is_utf8(header)
    wide = "message/global-headers" if internationalized else "text/rfc822-headers"
    return _part("text/rfc822-headers", wide, header + b"\r\n", internationalized)


def _whole(original: Content, eight_bit: bool) -> bytes | None:
    """Return the part with the whole original, None where it cannot stand in this report as it is.

    A message/rfc822 must not be encoded (RFC 2046 §5.2.1), and one with 8-bit lines would make the
    report one that not every server takes.
    """
    if not isinstance(original, bytes) or not 0 < len(original) <= FULL_LIMIT:
        return None
    lines = original.split(b"\r\n")
    ends = len(lines) - 1
    if original.count(b"\r") != ends or original.count(b"\n") != ends or b"\0" in original:
        return None
    if max(map(len, lines)) > LINE:
        return None
    if not original.isascii() and not (eight_bit and _is_utf8(original)):
        return None
    wide = "message/rfc822" if content.header(original).isascii() else "message/global"
    return _part("message/rfc822", wide, original, eight_bit)


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


def _words(fates: Sequence[Fate], action: Action, hostname: str, attached: str) -> str:
    """Return the part for a person: who it is about, what the other side said, what happens now."""
    lines = [f"This is the mail relay at {hostname}.", "", *_NEWS[action], ""]
    for fate in fates:
        who = f"{_host(fate.host)} said: " if fate.host else ""
        lines += [f"  <{_short(fate.address)}>", *_wrapped(who + _said(fate.reply), "    "), ""]
    if attached:
        lines += [f"{attached} attached.", ""]
    return "\r\n".join(lines)


def _fields(
    fates: Sequence[Fate],
    action: Action,
    hostname: str,
    original_id: str,
    original_parameters: bytes,
    arrival: float,
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
    if held := release.request(original_parameters):
        lines.append(f"Future-Release-Request: {held}")  # RFC 4865
    for fate in fates:
        lines.append("")
        lines += _original(parameter(fate.parameters, b"ORCPT"))
        kind = "rfc822" if fate.address.isascii() else "utf-8"
        lines += [
            f"Final-Recipient: {kind}; {_short(fate.address)}",
            f"Action: {action.value}",
            f"Status: {_status(fate.reply, action)}",
        ]
        if fate.host:
            # Delivery names a host `name[address]:port`; the field is for the name (RFC 3464 §2.3.5).
            lines.append(f"Remote-MTA: dns; {_host(fate.host.partition('[')[0] or fate.host)}")
        lines += _wrapped(f"Diagnostic-Code: smtp; {_said(fate.reply)}", "", " ")
        lines.append(f"Last-Attempt-Date: {headers.date(fate.time)}")
    return "\r\n".join([*lines, ""])


def _original(written: bytes | None) -> list[str]:
    """Return the recipient as the sender's first server knew it, if the sender told (RFC 3461 §4.2)."""
    kind, _, address = (written or b"").partition(b";")
    return [f"Original-Recipient: {_ascii(_xtext(kind))[:40]}; {_xtext(address)}"] if address else []


def _returned(header: bytes) -> bytes:
    """Return a header, cut behind a whole line, fit to stand in a part."""
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


def _status(reply: Reply, action: Action) -> str:
    """Return a status RFC 3464 §2.3.4 lets stand beside the action."""
    if action is Action.RELAYED:
        return "2.1.9"  # relayed to a mailer that does not report (RFC 3886)
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
    """Return what an ENVID or ORCPT means (RFC 3461 §4); what means nothing printable stays as it came."""
    meant = xtext.decode(value)
    return _short(value if meant is None else meant)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")
