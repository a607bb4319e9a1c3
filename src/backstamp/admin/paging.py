"""How much of a listing is asked for, the same for every listing. Pure."""

from collections.abc import Mapping
from typing import Final

PAGE: Final = 100
"""Entries a listing has if nothing else is asked."""

PAGE_LIMIT: Final = 1000


def limit(query: Mapping[str, str]) -> int:
    """Return how many entries a query asks for. Raises ValueError: its `limit` is none."""
    asked = query.get("limit", str(PAGE))
    # Bounded before it is a number: thousands of digits are none to Python.
    if not (asked.isascii() and asked.isdecimal() and len(asked) < 5 and 1 <= int(asked) <= PAGE_LIMIT):
        raise ValueError(f"limit is a number from 1 to {PAGE_LIMIT}")
    return int(asked)
