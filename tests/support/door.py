"""A listener under test: live on loopback, with a queue that only remembers."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import msgspec
from argon2 import PasswordHasher

from backstamp.clock import SystemClock
from backstamp.listener.authority import Authority
from backstamp.listener.budget import Budget
from backstamp.listener.crowd import Crowd
from backstamp.listener.server import Listener
from backstamp.listener.settings import AuthSettings, Limits, ListenerSettings
from backstamp.listener.transaction import Refuse
from backstamp.mail.reply import Reply
from backstamp.queue.handing import Handing
from backstamp.queue.port import Deposit, Intake, Message, Told
from backstamp.telemetry.events import Event

HASHER = PasswordHasher(1, 8, 1)
"""Costs nothing, and protects nothing."""

SETTINGS = ListenerSettings("relay.example.org", "127.0.0.1", 0, (ip_network("127.0.0.0/8"),), False)


class RecordingQueue:
    """Takes everything; may be told to fail or to take its time."""

    def __init__(self) -> None:
        self._handing = Handing()
        self.messages: list[Message] = []
        self.error: Exception | None = None
        self.write_error: Exception | None = None
        self.delay = 0.0
        self.stands = b""
        """The id of an earlier message that stands for whatever comes."""
        self.deposits: list[Gathered] = []
        self.closed: Reply | None = None

    def refusal(self) -> Reply | None:
        return self.closed

    def hand_in(self, message: Message, told: Told, settled: Callable[[], None]) -> None:
        self._handing.begin(self.append(message), told, settled)

    async def append(self, message: Message) -> bytes:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        self.messages.append(message)
        return self.stands or message.queue_id

    async def deposit(self, message: Message) -> Deposit:
        if self.error is not None:
            raise self.error
        return Gathered(self, message)


class Gathered:
    """A large message, piece by piece."""

    def __init__(self, queue: RecordingQueue, message: Message) -> None:
        self._queue = queue
        self._message = message
        self.pieces = [message.content]
        queue.deposits.append(self)
        self.ended = ""

    async def write(self, octets: bytes) -> None:
        if self._queue.write_error is not None:
            raise self._queue.write_error
        self.pieces.append(octets)

    async def commit(self) -> bytes:
        self.ended = "committed"
        return await self._queue.append(msgspec.structs.replace(self._message, content=b"".join(self.pieces)))

    async def abandon(self) -> None:
        self.ended = self.ended or "abandoned"


class Door:
    """The listener, its queue, its events, its bounds."""

    def __init__(
        self, listener: Listener, queue: RecordingQueue, events: list[Event], crowd: Crowd, budget: Budget
    ) -> None:
        self.listener = listener
        self.queue = queue
        self.events = events
        self.crowd = crowd
        self.budget = budget

    def reload(self, **changes: object) -> None:
        """Change fields of the settings; new sessions see it."""
        self.listener.reload(msgspec.structs.replace(self.listener.settings, **changes))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.address, limit=1 << 20)

    async def empty(self) -> None:
        """Wait until no client is left, in the listener's count and in the crowd's."""
        async with asyncio.timeout(10):
            while self.listener.connections or self.crowd.connections:
                await asyncio.sleep(0.01)

    async def talk(self, octets: bytes, *, piece: int | None = None) -> bytes:
        """Send octets, end the sending side, and return all that comes back."""
        reader, writer = await self.connect()
        if piece is None:
            writer.write(octets)
        else:
            for start in range(0, len(octets), piece):
                writer.write(octets[start : start + piece])
                await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            writer.write_eof()
        async with asyncio.timeout(20):
            answer = await _read(reader)
        writer.close()
        return answer


async def _read(reader: asyncio.StreamReader) -> bytes:
    octets = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            octets += piece
    return octets


@contextlib.asynccontextmanager
async def door(
    limits: Limits | None = None,
    behind: Intake | None = None,
    refuse: Refuse = lambda *_: None,
    accounts: AuthSettings | None = None,
    authority: Authority | None = None,
    **changes: object,
) -> AsyncIterator[Door]:
    """Open a listener, with a queue of its own or one `behind` it; `changes` are fields of its settings.

    Failures of `accounts` are not held back; an `authority` that is given is opened and closed by its owner.
    """
    settings = msgspec.structs.replace(SETTINGS, limits=limits or Limits(), **changes)
    queue, events = RecordingQueue(), list[Event]()
    numbers = itertools.count(1)
    crowd, budget = Crowd(settings.limits), Budget(settings.limits.content_memory)
    own: Authority | None = None
    if accounts is not None:
        own = authority = Authority(
            accounts,
            clock=SystemClock(),
            emit=events.append,
            entropy=os.urandom,
            sleep=lambda _: asyncio.sleep(0),
            hasher=HASHER,
        )
        own.open()
    listener = Listener(
        settings,
        behind or queue,
        clock=SystemClock(),
        emit=events.append,
        entropy=lambda count: next(numbers).to_bytes(count, "big"),
        refuse=refuse,
        crowd=crowd,
        budget=budget,
        authority=authority,
    )
    await listener.start()
    try:
        yield Door(listener, queue, events, crowd, budget)
    finally:
        await listener.close(1)
        if own is not None:
            await own.close()
