"""The report to a sender whose mail could not be delivered: RFC 3464 in RFC 6522's multipart/report.

Three parts: words for a person, fields for a program, and the header of the original. It
comes from the null reverse-path and says that it was made by a machine (RFC 3834 §5), so
that nobody answers it. Where an address or the header is beyond ASCII the parts take the
types of RFC 6533. Pure; nothing a stranger sent can begin a line of its own.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from backstamp.mail import headers
from backstamp.mail.envelope import parameter
from backstamp.mail.reply import Reply
from backstamp.text import printable

HEADER_LIMIT: Final = 65536
"""Octets of the original's header that are returned at most."""

LINE: Final = 900
"""Characters of what a remote server said, at most; RFC 5322 §2.1.1 allows 998 octets a line."""


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
    """Return the content of a report. Times in seconds since the epoch; ids as text.

    Raises:
        ValueError: an address holds a control character: a field must not become two.
    """
    header = _returned(original)
    wide = not (sender.isascii() and header.isascii() and all(one.address.isascii() for one in failures))
    names = [_name(one.address) for one in failures]
    to = _name(sender)
    boundary = f"{report_id}/{hostname}"
    # RFC 2046 §5.1.1: the boundary must not occur in a part; the id is fresh, but a sender may guess.
    while f"--{boundary}".encode() in header:
        boundary += "="
    plain = "utf-8" if wide else "us-ascii"
    encoding = "8bit" if wide else "7bit"
    parts = [
        _part(f"text/plain; charset={plain}", encoding, _words(failures, names, hostname)),
        _part(
            "message/global-delivery-status" if wide else "message/delivery-status",
            encoding,
            _fields(failures, names, hostname, original_id, original_parameters, arrival, wide),
        ),
    ]
    if header:
        kind = "message/global-headers" if wide else "text/rfc822-headers"
        parts.append(_part(kind, encoding, "") + header + b"\r\n")
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
        f"This is a MIME-encapsulated message.\r\n"
    ).encode()
    separator = f"\r\n--{boundary}\r\n".encode()
    return top + b"".join(separator + part for part in parts) + f"\r\n--{boundary}--\r\n".encode()


def _part(kind: str, encoding: str, text: str) -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{text}".encode()


def _words(failures: Sequence[Failure], names: Sequence[str], hostname: str) -> str:
    """Return the part for a person."""
    lines = [
        f"This is the mail relay at {hostname}.",
        "",
        "Your message could not be delivered to the recipients below. The relay has",
        "given up on them and will not try again; other recipients are not affected.",
        "",
    ]
    for failure, name in zip(failures, names, strict=True):
        who = f"{_ascii(failure.host)} said: " if failure.host else ""
        lines += [f"  <{name}>", f"    {who}{_said(failure.reply)}", ""]
    lines += [
        "If the address is right, the text above says what the other side objects to.",
        "The header of your message is attached.",
        "",
    ]
    return "\r\n".join(lines)


def _fields(
    failures: Sequence[Failure],
    names: Sequence[str],
    hostname: str,
    original_id: str,
    original_parameters: bytes,
    arrival: float,
    wide: bool,
) -> str:
    """Return the part for a program (RFC 3464 §2)."""
    lines = [f"Reporting-MTA: dns; {hostname}"]
    envelope_id = parameter(original_parameters, b"ENVID")
    if envelope_id:
        lines.append(f"Original-Envelope-Id: {printable(envelope_id.decode('ascii', 'replace'))}")
    lines += [f"X-Backstamp-Queue-ID: {original_id}", f"Arrival-Date: {headers.date(arrival)}"]
    for failure, name in zip(failures, names, strict=True):
        lines.append("")
        original = parameter(failure.parameters, b"ORCPT")
        if original:
            lines.append(f"Original-Recipient: {printable(original.decode('ascii', 'replace'))}")
        kind = "utf-8" if wide and not failure.address.isascii() else "rfc822"
        lines += [
            f"Final-Recipient: {kind}; {name}",
            "Action: failed",
            f"Status: {failure.reply.enhanced}",
        ]
        if failure.host:
            lines.append(f"Remote-MTA: dns; {_ascii(failure.host)}")
        lines += [
            f"Diagnostic-Code: smtp; {_said(failure.reply)}",
            f"Last-Attempt-Date: {headers.date(failure.time)}",
        ]
    return "\r\n".join([*lines, ""])


def _returned(original: bytes) -> bytes:
    """Return the original's header, cut behind a whole line, fit to stand in a part."""
    header = headers.block(original)
    if len(header) > HEADER_LIMIT:
        header = header[: max(0, header.rfind(b"\r\n", 0, HEADER_LIMIT))]
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        # Neither ASCII nor UTF-8: no type of part could say what it is.
        header = header.decode("ascii", "replace").replace("\ufffd", "?").encode("ascii")
    return header


def _name(address: bytes) -> str:
    text = address.decode("utf-8", "replace")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError(f"control character in the address {address!r}")
    return text


def _said(reply: Reply) -> str:
    return _ascii(printable(str(reply), LINE))


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")
