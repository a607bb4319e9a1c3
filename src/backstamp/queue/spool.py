"""Large content on its way in: a draft of its own, written as it arrives, its header last.

So memory for each connection stays bounded, and a client that goes away leaves nothing.
Pieces are written by the reading threads; whoever hands them in waits for each, and so the
client is slowed down to the pace of the disk.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from backstamp.queue import draft
from backstamp.queue.entry import Facts
from backstamp.queue.files import Files
from backstamp.queue.port import Message
from backstamp.queue.record import (
    HEADER_SIZE,
    SALT_SIZE,
    Header,
    Kind,
    checksum,
    encode_envelope,
    encode_header,
)
from backstamp.queue.segment import Segment

T = TypeVar("T")

Done = Callable[[Segment, Facts], None]
Failed = Callable[[OSError], Exception]
Earlier = Callable[[Message], Awaitable[bytes | None]]

_UNDECIDED: Final = OSError(5, "a message could not be taken back")


class Spool:
    """One message that arrives in pieces. Every verb may raise what `failed` makes of an OSError.

    `earlier` is asked at the end, when it could be committed: it returns the id of a message that stands for
    this one already. After it said None either `done` or `undone` is called.
    """

    def __init__(
        self,
        files: Files,
        executor: Executor,
        message: Message,
        *,
        earlier: Earlier,
        done: Done,
        failed: Failed,
        undone: Callable[[], None],
    ) -> None:
        self._files = files
        self._executor = executor
        self._message = message
        self._earlier = earlier
        self._done = done
        self._failed = failed
        self._undone = undone
        self._envelope = encode_envelope(message.envelope)
        self._segment: Segment | None = None
        self._size = 0
        self._crc = 0

    async def begin(self, directory: str, number: int, salt: bytes) -> None:
        """Make the draft and write what is there of the content."""
        self._segment = await self._run(lambda: draft.begin(self._files, directory, number, salt))
        self._crc = self._segment.seed
        await self._write_at(SALT_SIZE + HEADER_SIZE, self._envelope)
        await self.write(self._message.content)

    async def write(self, octets: bytes) -> None:
        """Write the next piece of the content."""
        self._crc = zlib.crc32(octets, self._crc)
        at = SALT_SIZE + HEADER_SIZE + len(self._envelope) + self._size
        self._size += len(octets)
        await self._write_at(at, octets)

    async def commit(self) -> bytes:
        """Make the message durable and hand it over; what is durable will be sent, whoever still waits."""
        # Asked only now: whoever has the same key, and is slow, must not hold this one up.
        try:
            earlier = await self._earlier(self._message)
        except BaseException:
            await self.abandon()
            raise
        if earlier is not None:
            await self.abandon()
            return earlier
        await asyncio.shield(self._commit())
        return self._message.queue_id

    async def abandon(self) -> None:
        """Forget the message."""
        if self._segment is not None:
            segment, self._segment = self._segment, None
            await self._run(lambda: draft.discard(self._files, segment))

    async def _commit(self) -> None:
        assert self._segment is not None
        segment, self._segment = self._segment, None
        message = self._message
        facts = Facts(
            message.queue_id,
            message.arrival,
            SALT_SIZE,
            self._size,
            len(self._envelope),
            0,
            len(message.envelope.recipients),
            int(message.flags),
        )
        try:
            await self._run(lambda: self._publish(segment, facts))
        except BaseException:
            self._undone()
            raise
        self._done(segment, facts)

    def _publish(self, segment: Segment, facts: Facts) -> None:
        header = Header(
            Kind.MAIL,
            facts.flags,
            facts.offset,
            facts.envelope_length,
            facts.recipients,
            facts.size,
            0,
            facts.arrival,
            facts.queue_id,
            SALT_SIZE,
            0,
            checksum(self._envelope, segment.seed),
            self._crc,
        )
        segment.end, segment.used = header.end, facts.recipients
        try:
            self._files.write(segment.mail, [encode_header(header, segment.seed)], SALT_SIZE)
        except OSError:
            draft.discard(self._files, segment)
            raise
        try:
            draft.publish(self._files, segment)
        except draft.UndecidedError:
            # Nobody is told 250; if it is there after the next start, it is sent once too often.
            raise _UNDECIDED from None

    async def _write_at(self, offset: int, octets: bytes) -> None:
        assert self._segment is not None
        mail = self._segment.mail
        try:
            await self._run(lambda: self._files.write(mail, [octets], offset))
        except BaseException:
            await self.abandon()
            raise

    async def _run(self, function: Callable[[], T]) -> T:
        """Run something on a reading thread; it has ended when this ends, even if cancelled."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, function)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
        except OSError as error:
            raise self._failed(error) from None
