"""A large content where it stands in its segment, handed out piece by piece.

It was read through and verified when it was loaded; here it is read again as it is sent,
one piece ahead. Its checksum is computed along the way and compared before the last piece
is given: what changed meanwhile, or is read when the claim is long over, never gets its
final dot. Any number of readers may be under way at once.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from backstamp.mail.content import PIECE


class Known(NamedTuple):
    """What is known of a content that was read through: `checksum` is that of its record."""

    size: int
    ascii: bool
    header: bytes
    checksum: int


Piece = tuple[bytes, int]
"""Octets, and the checksum of the content up to their end."""

ReadPiece = Callable[[int, int, int], "asyncio.Future[Piece]"]
"""Reads from an offset in the content, so many octets, given the checksum up to there. Raises OSError."""


class StoredContent:
    """What `mail.content.Stored` promises. `seed` is what the checksum begins with."""

    def __init__(self, known: Known, seed: int, read: ReadPiece) -> None:
        self._known = known
        self._seed = seed
        self._read = read

    @property
    def size(self) -> int:
        """Octets of it."""
        return self._known.size

    @property
    def ascii(self) -> bool:
        """Whether every octet is below 0x80."""
        return self._known.ascii

    @property
    def header(self) -> bytes:
        """Its header block, without the empty line, at most the first 256 KiB of it."""
        return self._known.header

    async def pieces(self) -> AsyncIterator[bytes]:
        """Return its octets in order, at most `PIECE` at a time. Raises OSError: it cannot be read."""
        size = self._known.size
        at = 0
        ahead = self._begin(0, self._seed) if size else None
        while ahead is not None:
            octets, checksum = await ahead
            at += len(octets)
            if at < size and octets:
                ahead = self._begin(at, checksum)
            elif checksum == self._known.checksum:
                ahead = None
            else:
                raise OSError(errno.EIO, "a content that was verified reads otherwise now")
            yield octets

    def _begin(self, at: int, checksum: int) -> "asyncio.Future[Piece]":
        ahead = self._read(at, min(PIECE, self._known.size - at), checksum)
        # Who stops reading does not ask what became of the piece behind.
        ahead.add_done_callback(_retrieve)
        return ahead


def _retrieve(future: "asyncio.Future[Piece]") -> None:
    if not future.cancelled():
        future.exception()
