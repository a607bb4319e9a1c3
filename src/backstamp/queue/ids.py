"""Queue ids: 128 bits, 48 of milliseconds and 80 of chance; as text 26 characters (ULID).

Time-ordered so that listings read well, random so that no two machines ever agree.
The text is Crockford's base 32, which sorts as the bytes do.
"""

from functools import lru_cache
from itertools import product

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS = tuple(map("".join, product(_ALPHABET, repeat=2)))
_FIVE = (1 << 50) - 1
"""Bits of five pairs."""


def make(milliseconds: int, chance: bytes) -> bytes:
    """Return a queue id from a time (since the epoch) and 10 random bytes."""
    return milliseconds.to_bytes(6, "big") + chance


@lru_cache(1024)  # a message under way is named several times
def text(queue_id: bytes) -> str:
    """Return the 26 characters people and logs see: 130 bits, two zero bits first."""
    number = int.from_bytes(queue_id, "big")
    pairs = _PAIRS
    # In three parts: shifts of large numbers cost, and one expression is half the time of a loop.
    high, middle, low = number >> 100, number >> 50 & _FIVE, number & _FIVE
    return (
        f"{pairs[high >> 20]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
        f"{pairs[middle >> 40]}{pairs[middle >> 30 & 1023]}{pairs[middle >> 20 & 1023]}"
        f"{pairs[middle >> 10 & 1023]}{pairs[middle & 1023]}"
        f"{pairs[low >> 40]}{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}"
        f"{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


def parse(written: str) -> bytes:
    """Return the 16 bytes of a queue id as people write it; upper or lower case.

    Raises:
        ValueError: it is not 26 characters of the alphabet, or too large.
    """
    if len(written) != 26:
        raise ValueError(f"a queue id has 26 characters, {written!r} has {len(written)}")
    number = 0
    for character in written:
        # Upper case makes a letter of the alphabet of some that are none, as of the long s.
        value = _VALUES.get(character.upper()) if character.isascii() else None
        if value is None:
            raise ValueError(f"{character!r} does not occur in a queue id")
        number = number << 5 | value
    if number >= 1 << 128:
        raise ValueError(f"{written!r} is larger than any queue id")
    return number.to_bytes(16, "big")
