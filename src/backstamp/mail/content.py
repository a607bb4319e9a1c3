"""A content that is too large to be held: what is known of it, and its octets piece by piece."""

from collections.abc import AsyncIterator
from typing import Protocol

from backstamp.mail import headers

PIECE = 65536
"""Octets of a piece, at most."""

HEADER_LIMIT = 262144
"""Octets of a header block that are known of a stored content, at most."""


class Stored(Protocol):
    """A content that stays where it is, verified, until whoever holds it is done."""

    @property
    def size(self) -> int:
        """Octets of it."""
        ...

    @property
    def ascii(self) -> bool:
        """Whether every octet is below 0x80."""
        ...

    @property
    def header(self) -> bytes:
        """Its header block, without the empty line, at most the first 256 KiB of it."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Return its octets in order, at most `PIECE` at a time. Raises OSError: it cannot be read."""
        ...


Content = bytes | Stored
"""Octets with CRLF line ends, not dot-stuffed."""


def size(content: Content) -> int:
    """Return the octets of a content."""
    return len(content) if isinstance(content, bytes) else content.size


def is_ascii(content: Content) -> bool:
    """Tell whether every octet of a content is below 0x80."""
    return content.isascii() if isinstance(content, bytes) else content.ascii


def header(content: Content) -> bytes:
    """Return the header block of a content, without the empty line; of a stored one at most 256 KiB."""
    return headers.block(content) if isinstance(content, bytes) else content.header
