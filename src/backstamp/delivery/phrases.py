"""Times, spans and lists in words, and text in columns: what every explanation is made of. Pure."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

WIDTH: Final = 79
"""Columns of a line."""

LABEL: Final = 11
"""Columns of a label in front of its text."""

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_HOSTS: Final = re.compile(r"[,|]")
_SHOWN: Final = 3


def span(seconds: float) -> str:
    """Return a span in its two largest units, the second only where there is some: `4 min 12 s`, `5 d`."""
    left = max(0, round(seconds))
    for index, (unit, size) in enumerate(_UNITS):
        if left >= size:
            count, rest = divmod(left, size)
            smaller = _UNITS[index + 1 : index + 2]
            more = [f"{rest // below} {name}" for name, below in smaller if rest >= below]
            return " ".join([f"{count} {unit}", *more])
    return "0 s"


def moment(time: float, now: float) -> str:
    """Return a time: of day on the day of `now`, else with its date. Seconds since the epoch."""
    then, today = datetime.fromtimestamp(time, UTC), datetime.fromtimestamp(now, UTC)
    form = "%H:%M:%S UTC" if then.date() == today.date() else "%Y-%m-%d %H:%M UTC"
    return then.strftime(form)


def when(time: float, now: float) -> str:
    """Return a time, absolute and relative: `14:20:11 UTC (in 4 min 12 s)`."""
    away = round(time - now)
    relative = f"in {span(away)}" if away > 0 else f"{span(-away)} ago" if away < 0 else "now"
    return f"{moment(time, now)} ({relative})"


def ago(time: float, now: float) -> str:
    """Return how long a time has been: `48 s ago`, `a moment ago`."""
    return f"{span(now - time)} ago" if now - time >= 0.5 else "a moment ago"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return `1 message`, `3 messages`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def some(items: Sequence[str], noun: str, shown: int = _SHOWN) -> str:
    """Return the first items, and how many more there are."""
    if len(items) <= shown + 1:
        return listed(items)
    return f"{', '.join(items[:shown])} and {count(len(items) - shown, f'more {noun}')}"


def site(name: str) -> str:
    """Return the name of a site (`policy.mx.site`) for people: its first host, and how many more."""
    name, _, rest = name.partition(" ")
    hosts = _HOSTS.split(name)
    more = "" if len(hosts) == 1 else f" and {hosts[1]}" if len(hosts) == 2 else f" and {len(hosts) - 1} more"
    return f"{hosts[0]}{more}{f' {rest}' if rest else ''}"


def octets(number: int) -> str:
    """Return a size: `812 octets`, `48 kB`, `1.2 MB`."""
    if number < 10_000:
        return count(number, "octet")
    return f"{number / 1e3:,.0f} kB" if number < 1e6 else f"{number / 1e6:,.1f} MB"


def sentence(text: str) -> str:
    """Return text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '…')) else '.'}"


def paragraph(text: str, indent: int = 0) -> list[str]:
    """Return lines of text; words of strangers may be longer than a line."""
    room = " " * indent
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=room,
        subsequent_indent=room,
        break_long_words=False,
        break_on_hyphens=False,
    )


def labelled(label: str, texts: Iterable[str]) -> list[str]:
    """Return paragraphs with a label in front of the first, all indented alike."""
    lines = [line for text in texts for line in paragraph(text, LABEL + 2)]
    if lines:
        lines[0] = f"  {label:<{LABEL}}{lines[0][LABEL + 2 :]}"
    return lines
