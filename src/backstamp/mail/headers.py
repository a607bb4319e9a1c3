"""Header lines the relay adds, and the two things it looks for (RFC 5321 §4.4, §6.3; RFC 6409 §8).

A relay prepends one Received line and touches nothing else; a submission server may add
Date and Message-ID where they are missing. Everything is bytes; the body is never looked at.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

LOCAL: Final = "local"
"""What a client is called that came by a socket file: it has no address."""

_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OBSOLETE: Final = re.compile(rb"\r\n([!-9;-~]+)[ \t]+:")
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_OURS: Final = re.compile(
    rb"\r\nbackstamp-(tenant|idempotency-key)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)", re.IGNORECASE
)
_DAY: Final = 86400


def date(seconds: float) -> str:
    """Return an RFC 5322 §3.3 date-time in UTC of seconds since the epoch (not before it)."""
    return _date(int(seconds))


@lru_cache(maxsize=2)  # thousands of messages share a second
def _date(seconds: int) -> str:
    days, second = divmod(seconds, _DAY)
    # Days to civil date after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    era, day_of_era = divmod(days + 719468, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return (
        f"{_WEEKDAYS[(days + 3) % 7]}, {day:02} {_MONTHS[month - 1]} {year}"
        f" {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000"
    )


def received(*, helo: str, peer: str, hostname: str, protocol: str, queue_id: str, seconds: float) -> bytes:
    """Return a Received field with its CRLF (RFC 5321 §4.4); `protocol` as RFC 3848 and RFC 6531 name it.

    A `LOCAL` peer is written as what the grammar has for this machine, a name and its literal.

    Raises:
        ValueError: a part holds a control character: a field must not become two.
    """
    literal = f"IPv6:{peer}" if ":" in peer else peer
    client = "localhost [127.0.0.1]" if peer == LOCAL else f"[{literal}]"
    lines = (
        f"Received: from {helo} ({client})\r\n"
        f"\tby {hostname} with {protocol} id {queue_id};\r\n"
        f"\t{date(seconds)}\r\n"
    )
    if lines.count("\r") != 3 or lines.count("\n") != 3 or "\0" in lines:
        raise ValueError("control character in a Received field")
    return lines.encode("utf-8")


def block(content: bytes) -> bytes:
    """Return the header block of a content, without the empty line; empty where there is none."""
    if content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    return content if end < 0 else content[:end]


def normal(header: bytes) -> bytes:
    """Return a header block for `hops` and `repairs`: lower case, every field behind a CRLF, `name:`."""
    lowered = b"\r\n" + header.lower()
    if b" :" in lowered or b"\t:" in lowered:
        # RFC 5322 §4.5 still reads white space before the colon.
        lowered = _OBSOLETE.sub(rb"\r\n\1:", lowered)
    return lowered


def hops(normal_header: bytes) -> int:
    """Return how many relays a header has seen: its Received fields (RFC 5321 §6.3)."""
    return normal_header.count(b"\r\nreceived:")


def semantics(normal_header: bytes) -> bytes | None:
    """Return the value of Backstamp-Semantics, None where there is none. Of two, the first counts."""
    at = normal_header.find(b"\r\nbackstamp-semantics:")
    if at < 0:
        return None
    start = at + len(b"\r\nbackstamp-semantics:")
    end = normal_header.find(b"\r\n", start)
    return normal_header[start : end if end >= 0 else None].strip()


def names_ours(normal_header: bytes) -> bool:
    """Tell whether a header has a field that is between a client and this relay."""
    return b"\r\nbackstamp-" in normal_header


class Ours(NamedTuple):
    """What stood in the fields that were taken out, unfolded and trimmed."""

    tenants: list[bytes]
    """In Backstamp-Tenant."""
    keys: list[bytes]
    """In Backstamp-Idempotency-Key."""


def without_ours(content: bytes) -> tuple[bytes, Ours]:
    """Return a content without Backstamp-Tenant and Backstamp-Idempotency-Key, and what stood in them.

    They are between a client and this relay: nobody beyond has to know whose mail it is, or its key.
    """
    header = block(content)
    marked = b"\r\n" + header
    ours = Ours([], [])
    for name, value in _OURS.findall(marked):
        kept = ours.tenants if name.lower() == b"tenant" else ours.keys
        kept.append(value.replace(b"\r\n", b"").strip())
    # The first CRLF is taken off last: where no field is left it is the one that ended the only field.
    return (_OURS.sub(b"", marked) + content[len(header) :])[2:], ours


def repairs(normal_header: bytes, *, queue_id: str, hostname: str, seconds: float) -> bytes:
    """Return the Date and Message-ID fields that a submitted header lacks (RFC 6409 §8.2, §8.3)."""
    lines = b""
    if b"\r\ndate:" not in normal_header:
        lines += f"Date: {date(seconds)}\r\n".encode()
    if b"\r\nmessage-id:" not in normal_header:
        lines += f"Message-ID: <{queue_id}@{hostname}>\r\n".encode()
    return lines


def separator(content: bytes) -> bytes:
    """Return the CRLF that must stand between added fields and a content that has no header.

    A content that begins with something else than a field, an empty line or a folded line
    would otherwise become part of the added field.
    """
    if not content or content.startswith(b"\r\n") or _FIELD.match(content):
        return b""
    return b"\r\n"
