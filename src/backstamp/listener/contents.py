"""Contents cut out of what came over the wire: by the final dot, or by counted chunks. Pure.

Whoever reads gives a buffer that grows at its end; what belongs to the content is taken from
its front. A small content comes in one piece, its dots undone; a large one in pieces, so that
no more of it is in memory than `LARGE`.
"""

from typing import Final

import msgspec

from backstamp.smtp.data import Unstuffer, unstuff
from backstamp.smtp.end import KEPT, EndOfData

LARGE: Final = 1024 * 1024
"""Octets of a content from which on it comes in pieces."""

PIECE: Final = 256 * 1024
"""Octets of a large content that come together: each hand-over costs."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Octets of a content; `last` with the last of them, `ends` where a reply is due."""

    octets: bytes
    ends: bool
    last: bool


class Dotted:
    """The content of DATA, up to CRLF.CRLF (RFC 5321 §4.1.1.4)."""

    def __init__(self) -> None:
        self._scan = EndOfData()
        self._unstuffer: Unstuffer | None = None

    def feed(self, buffer: bytearray) -> Piece | None:
        """Take what is complete from the front of a buffer."""
        found = self._scan.find(buffer)
        unstuffer = self._unstuffer
        if found is not None:
            raw = _taken(buffer, found[0], found[1])
            if unstuffer is not None:
                return Piece(unstuffer.feed(raw) + unstuffer.end(), True, True)
            return Piece(unstuff(raw) if self._scan.stuffed else raw, True, True)
        if len(buffer) < (LARGE if unstuffer is None else PIECE):
            return None
        if unstuffer is None:
            unstuffer = self._unstuffer = Unstuffer()
        end = len(buffer) - KEPT
        raw = _taken(buffer, end, end)
        self._scan.drop(end)
        return Piece(unstuffer.feed(raw), False, False)


class Chunk:
    """The octets of one BDAT: so many, whatever they are (RFC 3030 §2)."""

    def __init__(self, size: int, *, last: bool) -> None:
        self._left = size
        self._last = last

    def feed(self, buffer: bytearray) -> Piece | None:
        """Take what is complete from the front of a buffer."""
        if len(buffer) < min(self._left, PIECE):
            return None
        size = min(self._left, len(buffer))
        octets = _taken(buffer, size, size)
        self._left -= len(octets)
        return Piece(octets, not self._left, self._last and not self._left)


def _taken(buffer: bytearray, end: int, behind: int) -> bytes:
    """Take octets up to `end` from the front of a buffer, and drop those up to `behind`; copied once."""
    with memoryview(buffer) as view:
        taken = bytes(view[:end])
    del buffer[:behind]
    return taken


Contents = Dotted | Chunk
