"""The reference engine: the port's contract with nothing durable. For tests, and to read first.

It keeps everything the contract says except Q1: what it holds ends with the process.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence

import msgspec

from backstamp.clock import Clock
from backstamp.mail import headers
from backstamp.mail.content import HEADER_LIMIT, Content
from backstamp.mail.envelope import Envelope
from backstamp.queue.engine import LARGE, REPORT_AFTER, Engine
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.port import Deposit, Message, Reason, Told, named
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp
from backstamp.queue.stored import Known, Piece, StoredContent
from backstamp.telemetry.events import Event


class MemoryQueue(Engine):
    """A queue in memory."""

    def __init__(
        self,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        report_after: float = REPORT_AFTER,
        large: int = LARGE,
    ) -> None:
        super().__init__(clock=clock, emit=emit, report_after=report_after, hot_limit=0, large=large)
        self._segment = Segment("", 0, bytes(16), -1, -1, bytearray())
        self._messages: dict[Entry, tuple[Envelope, bytes]] = {}

    async def deposit(self, message: Message) -> Deposit:
        """Gather the pieces."""
        return _Gathered(self, message)

    def _write(self, message: Message, told: Told, entered: Callable[[Entry], None]) -> None:
        asyncio.get_running_loop().call_soon(self._written_down, message, told, entered)

    def _written_down(self, message: Message, told: Told, entered: Callable[[Entry], None]) -> None:
        told(message.queue_id)
        segment = self._segment
        count = len(message.envelope.recipients)
        facts = Facts(
            message.queue_id,
            message.arrival,
            0,
            len(message.content),
            0,
            len(segment.image),
            count,
            message.flags,
        )
        segment.image.extend(bytes([Stamp.TODO]) * count)
        entry = self._entered(segment, facts, message)
        self._messages[entry] = (message.envelope, message.content)
        entered(entry)

    def _commit(
        self, entry: Entry, runs: Sequence[tuple[int, bytes]], reasons: Sequence[Reason]
    ) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        durable = loop.create_future()
        self._segment.busy += 1
        loop.call_soon(self._committed, entry, reasons, durable)
        return durable

    def _committed(self, entry: Entry, reasons: Sequence[Reason], durable: asyncio.Future[None]) -> None:
        self._segment.busy -= 1
        if reasons:
            self.owe(entry, named(reasons), reasons, self._segment)
        if entry.closed:
            self._messages.pop(entry, None)
        if not durable.done():
            durable.set_result(None)

    def _jot(self, entry: Entry, runs: Sequence[tuple[int, bytes]]) -> None:
        """Nothing to write: the image says it."""

    async def read(self, entry: Entry, *, content: bool = True) -> tuple[Envelope, Content]:
        """Read a message back; a large content piece by piece, as from any engine."""
        envelope, octets = self._messages[entry]
        if not content:
            return envelope, b""
        return envelope, octets if len(octets) <= self._large else _stored(octets)

    def segments(self) -> Sequence[Segment]:
        """Return the only one there is."""
        return (self._segment,)

    def finished(self, segment: Segment) -> None:
        """Nothing to remove: the segment is never sealed."""


def _stored(octets: bytes) -> StoredContent:
    header = headers.block(octets[: HEADER_LIMIT + 4])[:HEADER_LIMIT]

    def read(at: int, length: int, checksum: int) -> asyncio.Future[Piece]:
        reading = asyncio.get_running_loop().create_future()
        piece = octets[at : at + length]
        reading.set_result((piece, zlib.crc32(piece, checksum)))
        return reading

    return StoredContent(Known(len(octets), octets.isascii(), header, zlib.crc32(octets)), 0, read)


class _Gathered:
    """A message whose pieces are kept in memory until it is whole."""

    def __init__(self, queue: MemoryQueue, message: Message) -> None:
        self._queue = queue
        self._message = message
        self._content = bytearray(message.content)

    async def write(self, octets: bytes) -> None:
        """Take the next piece."""
        self._content += octets

    async def commit(self) -> bytes:
        """Append the message."""
        return await self._queue.append(msgspec.structs.replace(self._message, content=bytes(self._content)))

    async def abandon(self) -> None:
        """Nothing was written."""
