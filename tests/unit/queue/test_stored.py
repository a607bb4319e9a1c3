"""A large content piece by piece: one ahead, in order, and never a last piece of something else."""

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest
from tests.support.queues import settled

from backstamp.mail.content import PIECE
from backstamp.queue.stored import Known, Piece, StoredContent

CONTENT = bytes(range(256)) * (5 * PIECE // 512)


class Disk:
    """Where a content is read from: each read ends when it is told to."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.reads: list[int] = []
        self.error: OSError | None = None

    def read(self, at: int, length: int, checksum: int) -> "asyncio.Future[Piece]":
        self.reads.append(at)
        reading: asyncio.Future[Piece] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            reading.set_exception(self.error)
        else:
            piece = self.content[at : at + length]
            reading.set_result((piece, zlib.crc32(piece, checksum)))
        return reading

    def stored(self) -> StoredContent:
        return StoredContent(Known(len(CONTENT), False, b"Header: x", zlib.crc32(CONTENT, 7)), 7, self.read)


async def given(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """Return what came, and whether it came to an end."""
    octets = b""
    try:
        async for piece in pieces:
            octets += piece
    except OSError:
        return octets, False
    return octets, True


async def test_the_next_piece_is_read_while_one_is_sent() -> None:
    disk = Disk()
    content = disk.stored()
    assert (content.size, content.ascii, content.header) == (len(CONTENT), False, b"Header: x")
    pieces = content.pieces()
    assert await anext(pieces) == CONTENT[:PIECE]
    assert disk.reads == [0, PIECE]
    assert await anext(pieces) == CONTENT[PIECE : 2 * PIECE]
    assert disk.reads == [0, PIECE, 2 * PIECE]
    assert await anext(pieces) == CONTENT[2 * PIECE :]
    assert await anext(pieces, None) is None
    assert disk.reads == [0, PIECE, 2 * PIECE]


async def test_each_reader_begins_at_the_beginning() -> None:
    content = Disk().stored()
    assert await asyncio.gather(given(content.pieces()), given(content.pieces())) == [(CONTENT, True)] * 2


@pytest.mark.parametrize("at", [0, PIECE, len(CONTENT) - 1])
async def test_what_changed_since_it_was_verified_does_not_come_to_an_end(at: int) -> None:
    disk = Disk()
    content = disk.stored()
    disk.content = CONTENT[:at] + bytes([CONTENT[at] ^ 1]) + CONTENT[at + 1 :]
    assert await given(content.pieces()) == (disk.content[: 2 * PIECE], False)


@pytest.mark.parametrize("length", [0, 10, PIECE, PIECE + 10, len(CONTENT) - 1])
async def test_nor_what_is_shorter_now(length: int) -> None:
    disk = Disk(CONTENT[:length])
    octets, whole = await given(disk.stored().pieces())
    assert not whole
    assert len(octets) <= length


async def test_an_error_of_a_piece_nobody_waits_for_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    pieces = disk.stored().pieces()
    asking = anext(pieces)
    disk.error = OSError(5, "gone")
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    assert await given(pieces) == (b"", False)
    asking.close()  # type: ignore[attr-defined]
    del pieces
    await settled()
    assert not reported
