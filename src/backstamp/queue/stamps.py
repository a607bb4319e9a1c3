"""The stamp: the status byte of one recipient, its table and its codewords (docs/queue-format.md Q3).

In memory and in tools a stamp is its letter. On disk it is a codeword of the extended
Hamming code [8,4,4], any two of which differ in at least four bits, so that no flip of
one, two or three bits makes one stamp of another: the byte becomes unreadable instead,
and an unreadable stamp reads as `T` (a duplicate at worst), never as `D` (a loss).
"""

import enum


class Stamp(enum.IntEnum):
    """The seven stamps; the value is the byte on disk."""

    TODO = 0x55
    DOUBT = 0x33
    DELIVERED = 0x66
    FAILED = 0x5A
    BOUNCED = 0x69
    HELD = 0x3C
    REMOVED = 0x96

    @property
    def letter(self) -> str:
        """The stamp as tools show it."""
        return LETTERS[self]


LETTERS: dict[Stamp, str] = {
    Stamp.TODO: "T",
    Stamp.DOUBT: "?",
    Stamp.DELIVERED: "D",
    Stamp.FAILED: "F",
    Stamp.BOUNCED: "B",
    Stamp.HELD: "H",
    Stamp.REMOVED: "X",
}

MEANINGS: dict[Stamp, str] = {
    Stamp.TODO: "to do",
    Stamp.DOUBT: "in doubt: the final dot is out, the reply is not in",
    Stamp.DELIVERED: "delivered",
    Stamp.FAILED: "failed, report owed",
    Stamp.BOUNCED: "failed, report queued or not wanted",
    Stamp.HELD: "held by an operator, or in doubt and at-most-once",
    Stamp.REMOVED: "removed by an operator",
}

NEXT: dict[Stamp, frozenset[Stamp]] = {
    Stamp.TODO: frozenset({Stamp.DOUBT, Stamp.DELIVERED, Stamp.FAILED, Stamp.HELD, Stamp.REMOVED}),
    Stamp.DOUBT: frozenset({Stamp.TODO, Stamp.DELIVERED, Stamp.FAILED, Stamp.HELD, Stamp.REMOVED}),
    Stamp.DELIVERED: frozenset(),
    Stamp.FAILED: frozenset({Stamp.BOUNCED}),
    Stamp.BOUNCED: frozenset(),
    Stamp.HELD: frozenset({Stamp.TODO, Stamp.FAILED, Stamp.REMOVED}),
    Stamp.REMOVED: frozenset(),
}

FINAL = frozenset({Stamp.DELIVERED, Stamp.BOUNCED, Stamp.REMOVED})
WAITING = frozenset({Stamp.TODO, Stamp.DOUBT})

_BY_BYTE: dict[int, Stamp] = {int(stamp): stamp for stamp in Stamp}


class IllegalStampError(ValueError):
    """A stamp was asked to move where the table has no way: a bug, never the mail's fault (Q3)."""


def read(byte: int, *, at_most_once: bool = False) -> tuple[Stamp, bool]:
    """Return the stamp a byte means, and whether it was readable.

    What is not exactly a codeword reads as `T`, for at-most-once mail as `H` (Q3).
    """
    stamp = _BY_BYTE.get(byte)
    if stamp is not None:
        return stamp, True
    return (Stamp.HELD if at_most_once else Stamp.TODO), False


def check(before: Stamp, after: Stamp) -> None:
    """Check one move along the table; the same stamp again changes nothing and is allowed.

    Raises:
        IllegalStampError: the table has no such way.
    """
    if after is not before and after not in NEXT[before]:
        raise IllegalStampError(f"stamp {before.letter} cannot become {after.letter}")
