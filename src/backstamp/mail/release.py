"""When a message may leave, where its sender said so: RFC 4865, FUTURERELEASE. Pure.

The envelope keeps the time itself, in UTC and whole seconds (`HOLDUNTIL=2027-01-15T08:00:00Z`), so
that a restart, a slow queue or a clock set right changes nothing about it; beside it stands
`HOLDFOR` where the sender named an interval, for its reports. Both are the queue's own then:
whoever passes mail on leaves them out, since what they ask for was done here.
"""

import re
from datetime import UTC, datetime
from math import ceil
from typing import Final

from backstamp.mail.envelope import parameter

# RFC 3339 §5.6, in either case; what is no date in the calendar `fromisoformat` finds.
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def date_time(seconds: float) -> str:
    """Return a time (seconds since the epoch) as RFC 3339 has it: in UTC, the next whole second."""
    return datetime.fromtimestamp(ceil(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> float | None:
    """Return the seconds since the epoch that an RFC 3339 date-time means, None if it is none."""
    text = text.upper()
    if _DATE_TIME.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def held_until(parameters: bytes) -> float:
    """Return before when a message must not leave: seconds since the epoch, 0 where nothing was asked."""
    if b"HOLDUNTIL=" not in parameters:
        return 0.0
    value = parameter(parameters, b"HOLDUNTIL") or b""
    return parse(value.decode("ascii", "replace")) or 0.0


def request(parameters: bytes) -> str:
    """Return what a sender asked for, as its reports tell it (RFC 4865); empty: nothing."""
    if interval := parameter(parameters, b"HOLDFOR"):
        return f"for; {interval.decode('ascii', 'replace')}"
    if until := held_until(parameters):
        return f"until; {date_time(until)}"
    return ""
