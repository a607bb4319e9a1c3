"""Seconds a temporary refusal names: "try again in 5 minutes", "greylisted for 00:04:59".

A number counts only behind a word that asks for patience, with nothing between them but small
words, and with a unit: so an address, a port, an id, a status and "in the last 24 hours" are
none. Times of day are none either: whose clock they mean nobody knows. Pure.
"""

import re
from typing import Final

from backstamp.mail.reply import Reply

SHORTEST: Final = 5.0
"""Seconds; a shorter pause is raised to it."""

LONGEST: Final = 86400.0
"""Seconds; a longer pause is cut to it."""

_LOOKED_AT: Final = 1000
"""Characters of a reply that are read."""

_WORDS: Final[dict[str, float]] = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10, "fifteen": 15,
    "twenty": 20, "thirty": 30, "sixty": 60, "half an": 0.5, "half a": 0.5,
}  # fmt: skip

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds by the first letter of a unit."""

_NUMBER: Final = rf"(?:[0-9]{{1,6}}(?:\.[0-9])?|{'|'.join(sorted(_WORDS, key=len, reverse=True))})"
_UNIT: Final = r"(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b(?!\s+ago\b)"
_PART: Final = rf"(?<![0-9.])({_NUMBER})\s?-?({_UNIT})"

_ASKS: Final = (
    r"\b(?:try|retry|retrying|again|back|resend|reconnect|wait|delay(?:ed)?|defer(?:red)?|retry[ -]?after|"
    r"retry[ -]?(?:time|interval)|block(?:ed)?|suspended|throttled|gr[ae]y-?list(?:ed|ing)?|penalty)\b"
)
_SMALL: Final = (
    r"(?:again|in|for|after|at|least|about|approximately|another|is|by|of|later|to|send|sending|the|next|"
    r"more|time|period|delay|deliver(?:y|ing)?|it|your|this|message|mail|please|minimum|up)"
)
_BETWEEN: Final = rf"[\s:=(~,]+(?:{_SMALL}[\s:=(~,]+){{0,6}}"

_SPAN: Final = re.compile(
    rf"{_ASKS}{_BETWEEN}(?:(?P<clock>[0-9]{{1,3}}(?::[0-9]{{2}}){{1,2}})(?![0-9:.])|"
    rf"(?P<parts>(?:{_NUMBER})\s?-?(?:{_UNIT})(?:(?:\s|,|and)*[0-9]{{1,6}}\s?-?(?:{_UNIT})){{0,3}}))"
)
_STATUS: Final = re.compile(r"\n[245]\.[0-9]{1,3}\.[0-9]{1,3}[ \t]")
_PARTS: Final = re.compile(_PART)
_RUN_TOGETHER: Final = re.compile(r"([0-9])([hms])(?=[0-9])")


def named(reply: Reply) -> float | None:
    """Return the seconds a 4yz reply asks to wait, from `SHORTEST` to `LONGEST`; None where it names none."""
    if not reply.transient:
        return None
    text = _STATUS.sub(" ", reply.text[:_LOOKED_AT].lower())
    found = _SPAN.search(_RUN_TOGETHER.sub(r"\1\2 ", text))
    if found is None:
        return None
    seconds = _clock(found["clock"]) if found["clock"] else _parts(found["parts"])
    return min(max(seconds, SHORTEST), LONGEST)


def _clock(text: str) -> float:
    """Return the seconds of minutes:seconds, or hours:minutes:seconds."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds


def _parts(text: str) -> float:
    """Return the sum of numbers with their units."""
    return sum(
        (_WORDS[number] if number in _WORDS else float(number)) * _UNITS[unit[0]]
        for number, unit in _PARTS.findall(text)
    )
