"""Messages and engines for tests of the queue."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from backstamp.clock import SystemClock
from backstamp.mail import headers
from backstamp.mail.content import HEADER_LIMIT, PIECE, Content
from backstamp.mail.envelope import Envelope, Recipient, ordered
from backstamp.queue import ids
from backstamp.queue.files import DiskFiles, Files
from backstamp.queue.local import LocalQueue, LocalSettings, open_queue
from backstamp.queue.port import Flag, Message
from backstamp.telemetry.events import Event

_numbers = iter(range(1, 1 << 62))


class TestClock:
    """A clock that stands still until told."""

    __test__ = False

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.since = 0.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.since

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.since += seconds


def message(
    *recipients: bytes,
    sender: bytes = b"sender@example.org",
    content: bytes = b"Subject: test\r\n\r\nHello\r\n",
    parameters: bytes = b"",
    flags: Flag = Flag.NONE,
    arrival: float = 1_800_000_000.0,
    key: bytes = b"",
) -> Message:
    """Return a message with an id of its own."""
    envelope = Envelope(sender, ordered(Recipient(address) for address in recipients), parameters)
    queue_id = ids.make(int(arrival * 1000), next(_numbers).to_bytes(10, "big"))
    return Message(queue_id, int(arrival * 1e6), envelope, content, flags, key)


def at_once(now: float, arrival: float, chance: float) -> float:
    """Make everything a start finds due at once."""
    return now


async def local_queue(
    root: Path,
    events: list[Event] | None = None,
    *,
    files: Files | None = None,
    clock: object = None,
    first_due: Callable[[float, float, float], float] = at_once,
    **settings: object,
) -> LocalQueue:
    """Open the local engine in a directory."""
    queue = await open_queue(
        files or DiskFiles(),
        str(root),
        clock=clock or SystemClock(),  # type: ignore[arg-type]
        emit=(events if events is not None else []).append,
        salt=lambda: os.urandom(16),
        first_due=first_due,
        settings=LocalSettings(**{"compact": 0, **settings}),  # type: ignore[arg-type]
    )
    await queue.recovering
    return queue


async def gathered(content: Content) -> bytes:
    """Return the octets of a content, however they come; a stored one comes in pieces of the right size."""
    if isinstance(content, bytes):
        return content
    pieces = [piece async for piece in content.pieces()]
    assert all(len(piece) == PIECE for piece in pieces[:-1])
    octets = b"".join(pieces)
    assert (len(octets), octets.isascii()) == (content.size, content.ascii)
    assert headers.block(octets)[:HEADER_LIMIT] == content.header
    return octets


async def settled() -> None:
    """Let callbacks that are due run."""
    for _ in range(10):
        await asyncio.sleep(0)
