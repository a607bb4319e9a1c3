"""Text from strangers and from the system, made fit to be shown."""

import re
from typing import Final

# Controls, line separators, marks that turn the direction of text, halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def printable(text: str, limit: int = 500) -> str:
    """Return text fit for a log line or a report: no control characters, at most `limit` characters."""
    clean = _UNPRINTABLE.sub(" ", text).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def reason(error: BaseException, *, place: bool = True) -> str:
    """Return what an error says, in plain words: of the system's without number, with its file if `place`."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    words = error.strerror[:1].lower() + error.strerror[1:]
    return f"{words} ({error.filename})" if place and error.filename else words
