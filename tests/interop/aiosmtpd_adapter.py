"""A pytest plugin: aiosmtpd's own tests meet this relay's session where they ask for aiosmtpd's.

Loaded before their tests are (`test_aiosmtpd.py`), it puts the relay's `Session` in the place of
`aiosmtpd.smtp.SMTP`. Their handlers' `handle_DATA` becomes the queue behind it; other hooks have no
counterpart. A reply is compared by its code: the texts, and the enhanced codes in them, are ours.
"""

import asyncio
import inspect
import itertools
import re
import socket
from ipaddress import ip_network
from typing import Any, ClassVar

import aiosmtpd.smtp
import msgspec
from aiosmtpd.testing.statuscodes import StatusCode

from backstamp.clock import SystemClock
from backstamp.listener.intake import Door
from backstamp.listener.session import Replies, Session
from backstamp.listener.settings import Limits, ListenerSettings
from backstamp.queue.port import Deposit, Message, QueueRefusedError

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

BARE = re.compile(rb"\A((?i:MAIL FROM|RCPT TO):) *([^<\s\r\n][^\r\n]*@[^\r\n<> ]+)\r\n\Z")


class Handing:
    """The queue behind the session: it hands a message to a handler, as aiosmtpd does."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self.session: Any = None

    async def append(self, message: Message) -> None:
        """Call the handler; what it says no to is refused in its words."""
        hook = getattr(self._handler, "handle_DATA", None)
        if hook is None:
            return
        envelope = aiosmtpd.smtp.Envelope()
        envelope.mail_from = message.envelope.sender.decode()
        envelope.rcpt_tos = [one.address.decode() for one in message.envelope.recipients]
        # Behind the Received field of the relay's, which has three lines.
        envelope.content = message.content.split(b"\r\n", 3)[3]
        answer = hook(self.session, None, envelope)
        if inspect.isawaitable(answer):
            answer = await answer
        if not str(answer).startswith("2"):
            raise QueueRefusedError(str(answer))

    async def deposit(self, message: Message) -> Deposit:
        """Gather a large message."""
        return Gathered(self, message)


class Gathered:
    """A large message, piece by piece."""

    def __init__(self, queue: Handing, message: Message) -> None:
        self._queue = queue
        self._message = message
        self._pieces = [message.content]

    async def write(self, octets: bytes) -> None:
        """Take a piece."""
        self._pieces.append(octets)

    async def commit(self) -> None:
        """Hand it over."""
        await self._queue.append(msgspec.structs.replace(self._message, content=b"".join(self._pieces)))

    async def abandon(self) -> None:
        """Forget it."""


class Adapted(Session):
    """The relay's session, made the way aiosmtpd's is."""

    numbers: ClassVar[Any] = itertools.count(1)

    def __init__(
        self,
        handler: Any,
        *,
        data_size_limit: int | None = aiosmtpd.smtp.DATA_SIZE_DEFAULT,
        hostname: str | None = None,
        timeout: float = 300,
        loop: asyncio.AbstractEventLoop | None = None,
        **_: Any,
    ) -> None:
        queue = Handing(handler)
        limits = Limits(message_size=data_size_limit or 2_000_000_000, idle=timeout)
        super().__init__(
            ListenerSettings(hostname or socket.getfqdn(), "127.0.0.1", 0, LOOPBACK, False, limits),
            Door(
                queue,
                clock=SystemClock(),
                emit=lambda _: None,
                entropy=lambda count: next(self.numbers).to_bytes(count, "big"),
            ),
            Replies(),
            opened=lambda _: None,
            left=lambda _: None,
            loop=loop or asyncio.get_event_loop(),
        )
        queue.session = self

    def data_received(self, data: bytes) -> None:
        """Take octets; an address without brackets gets some, so that their addresses are tried."""
        super().data_received(BARE.sub(rb"\1<\2>\r\n", data))


def _same_code(self: StatusCode, other: object) -> bool:
    return isinstance(other, tuple) and bool(other) and bool(other[0] == self[0])


aiosmtpd.smtp.SMTP = Adapted
StatusCode.__eq__ = _same_code
StatusCode.__hash__ = lambda self: hash(self[0])
