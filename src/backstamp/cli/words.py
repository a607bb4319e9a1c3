"""Words that several commands print."""

from __future__ import annotations


def count(number: int, what: str) -> str:
    """Return a number and what there are so many of: `1 message`, `2 messages`; `what` is one of them."""
    return f"{number} {what}{'' if number == 1 else 's'}"
