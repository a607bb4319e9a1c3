"""The content of a message, read whole before the relay hears of it: 1 MiB in memory, the rest in a file.

What breaks off is never sent, a slow writer holds no session, and MAIL can say whether there are
8-bit octets. The file has no name: nothing is left behind, whatever happens.
"""

from collections.abc import Iterable, Iterator
from typing import IO, Final

MEMORY: Final = 1024 * 1024
"""Octets kept in memory; the header must be among them."""

PIECE: Final = 64 * 1024


class Gathered:
    """A content on its way: `first` is its beginning, or all of it if it is not `long`."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        first: list[bytes] = []
        held = 0
        self._file: IO[bytes] | None = None
        self.eight_bit = False
        self._size = 0
        for piece in pieces:
            if not piece.isascii():
                self.eight_bit = True
            if self._file is None and held + len(piece) > MEMORY:
                # Ten milliseconds that only large messages need.
                from tempfile import TemporaryFile

                self._file = TemporaryFile()  # noqa: SIM115 - it lives as long as this
            if self._file is None:
                first.append(piece)
                held += len(piece)
            else:
                self._file.write(piece)
                self._size += len(piece)
        self.first = b"".join(first)

    @property
    def long(self) -> bool:
        """Whether there is more than `first`."""
        return self._file is not None

    @property
    def rest(self) -> int:
        """Octets there are behind `first`."""
        return self._size

    def pieces(self, first: bytes) -> Iterator[bytes]:
        """Yield the content anew, with another beginning in the place of `first`."""
        yield first
        if self._file is not None:
            self._file.seek(0)
            while piece := self._file.read(PIECE):
                yield piece
