"""A pytest plugin: aiosmtpd's own tests meet this relay's session where they ask for aiosmtpd's.

Loaded before their tests are (`test_aiosmtpd.py`), it puts the relay's `Session` in the place of
`aiosmtpd.smtp.SMTP`. Their handlers' `handle_DATA` becomes the queue behind it, their authenticators judge
what PLAIN and LOGIN claim, their contexts are what is shown in TLS; other hooks have no counterpart.
A reply is compared by its code: the texts, and the enhanced codes in them, are ours.
"""

import asyncio
import inspect
import itertools
import re
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, ClassVar

import aiosmtpd.smtp
import msgspec
from aiosmtpd.testing.statuscodes import StatusCode

from backstamp.clock import SystemClock
from backstamp.listener import authority
from backstamp.listener.accounts import Scram
from backstamp.listener.authentication import Authentication, Refusal
from backstamp.listener.budget import Budget
from backstamp.listener.crowd import Crowd
from backstamp.listener.descriptors import Descriptors
from backstamp.listener.house import House
from backstamp.listener.intake import Door
from backstamp.listener.mechanisms import Password
from backstamp.listener.session import Session
from backstamp.listener.settings import Auth, Limits, ListenerSettings, TlsSettings
from backstamp.policy.user import User
from backstamp.queue import handing
from backstamp.queue.port import Deposit, Message, QueueRefusedError, Told

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

BARE = re.compile(rb"\A((?i:MAIL FROM|RCPT TO):) *([^<\s\r\n][^\r\n]*@[^\r\n<> ]+)\r\n\Z")

TRACE = re.compile(rb"\AReceived: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*")
"""The relay's own field."""


class Handing:
    """The queue behind the session: it hands a message to a handler, as aiosmtpd does."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._handing = handing.Handing()
        self.session: Any = None

    def refusal(self) -> None:
        """It takes everything."""

    def hand_in(self, message: Message, told: Told, settled: Callable[[], None]) -> None:
        """Call the handler in a task."""
        self._handing.begin(self.append(message), told, settled)

    async def append(self, message: Message) -> bytes:
        """Call the handler; what it says no to is refused in its words."""
        hook = getattr(self._handler, "handle_DATA", None)
        if hook is None:
            return message.queue_id
        envelope = aiosmtpd.smtp.Envelope()
        envelope.mail_from = message.envelope.sender.decode()
        envelope.rcpt_tos = [one.address.decode() for one in message.envelope.recipients]
        envelope.content = TRACE.sub(b"", message.content)
        answer = hook(self.session, None, envelope)
        if inspect.isawaitable(answer):
            answer = await answer
        if not str(answer).startswith("2"):
            raise QueueRefusedError(str(answer))
        return message.queue_id

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

    async def commit(self) -> bytes:
        """Hand it over."""
        return await self._queue.append(
            msgspec.structs.replace(self._message, content=b"".join(self._pieces))
        )

    async def abandon(self) -> None:
        """Forget it."""


class Judging:
    """The authority of a session: it asks an authenticator, or a callback, as aiosmtpd does."""

    def __init__(self, authenticator: Any, callback: Any) -> None:
        self._authenticator = authenticator
        self._callback = callback
        self.session: Any = None

    def authentication(self, failures: int = 0) -> Authentication:
        """Return a session's part."""
        return Authentication(("PLAIN", "LOGIN"), verifier=self._verifier, nonce=str, failures=failures)

    async def check(self, claim: Password, peer: str) -> User | Refusal:
        """Judge a claim."""
        data = aiosmtpd.smtp.LoginPassword(claim.username.encode(), claim.password.encode())
        message = None
        if self._authenticator is not None:
            theirs = self.session.session
            result = self._authenticator(self.session, theirs, None, claim.mechanism, data)
            right, message = result.success, result.message
            theirs.authenticated, theirs.auth_data = right, result.auth_data
        else:
            right = self._callback is not None and self._callback(claim.mechanism, *data)
        wrong = authority.WRONG if message is None else f"{message}\r\n".encode()
        return User(claim.username) if right else Refusal(wrong)

    def _verifier(self, name: str) -> Scram:
        raise AssertionError("SCRAM is not offered")


class Showing:
    """The certificates of a session: a context of theirs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def context(self) -> ssl.SSLContext:
        """Return it."""
        return self._context

    def trusts(self, client: object) -> bool:
        """Tell whether a client may relay for its certificate."""
        return False


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
        tls_context: ssl.SSLContext | None = None,
        auth_required: bool = False,
        auth_require_tls: bool = True,
        auth_callback: Any = None,
        authenticator: Any = None,
        **_: Any,
    ) -> None:
        queue = Handing(handler)
        judge: Any = Judging(authenticator, auth_callback)
        shown: Any = Showing(tls_context) if tls_context is not None else None
        limits = Limits(message_size=data_size_limit or 2_000_000_000, idle=timeout)
        house = House(
            ListenerSettings(
                hostname or socket.getfqdn(),
                # In clear text AUTH is offered on loopback addresses only.
                "192.0.2.1" if auth_require_tls else "127.0.0.1",
                0,
                # Who must authenticate may not relay for where they are.
                () if auth_required else LOOPBACK,
                submission=False,
                auth=Auth.REQUIRED if auth_required else Auth.OPTIONAL,
                limits=limits,
                tls=TlsSettings("none" if tls_context is None else "starttls"),
            ),
            Door(
                queue,
                clock=SystemClock(),
                emit=lambda _: None,
                entropy=lambda count: next(self.numbers).to_bytes(count, "big"),
            ),
            crowd=Crowd(limits),
            budget=Budget(limits.content_memory),
            descriptors=Descriptors(clock=SystemClock(), emit=lambda _: None),
            authority=judge,
            certificates=shown,
        )
        super().__init__(
            house,
            opened=lambda _: None,
            admit=lambda _: None,
            left=lambda _: None,
            loop=loop or asyncio.get_event_loop(),
        )
        queue.session = judge.session = self

    def data_received(self, data: bytes) -> None:
        """Take octets; an address without brackets gets some, so that their addresses are tried."""
        super().data_received(BARE.sub(rb"\1<\2>\r\n", data))


def _same_code(self: StatusCode, other: object) -> bool:
    return isinstance(other, tuple) and bool(other) and bool(other[0] == self[0])


aiosmtpd.smtp.SMTP = Adapted
StatusCode.__eq__ = _same_code
StatusCode.__hash__ = lambda self: hash(self[0])
