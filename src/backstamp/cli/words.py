"""Words that several commands print."""

from __future__ import annotations


def count(number: int, what: str, plural: str = "") -> str:
    """Return `1 message`, `2 messages`."""
    return f"{number} {what if number == 1 else plural or f'{what}s'}"
