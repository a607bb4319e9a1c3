"""Text from strangers, made fit to be shown."""

import re
from typing import Final

# Controls, line separators, marks that turn the direction of text, halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def printable(text: str, limit: int = 500) -> str:
    """Return text fit for a log line or a report: no control characters, at most `limit` characters."""
    clean = _UNPRINTABLE.sub(" ", text).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
