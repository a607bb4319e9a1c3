"""aiosmtplib, as far as it goes: its session, over a protocol of ours that takes many replies.

aiosmtplib keeps one reply at a time, re-parses addresses and rewrites content; so it opens
sessions and ends them (greeting, EHLO, STARTTLS, AUTH, QUIT), and transactions run on our subclass
of its protocol, which hands every reply to a `Machine` in the callback that read it. One strict
reader serves both: a reply nobody can have asked for is never taken for another's. No exception
of aiosmtplib leaves this module; what keeps a host from giving a session is a value.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Iterator
from typing import TypeVar, cast

import aiosmtplib
import msgspec
from aiosmtplib.protocol import SMTPProtocol

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net import tls
from backstamp.net.replies import LINE, NonsenseError, ReplyLines
from backstamp.net.timer import Timer
from backstamp.net.transaction import Machine
from backstamp.policy.destination import Timeouts

NO_REPLY = -1
"""The code under which aiosmtplib hands on what was no reply."""

_GONE = Fault(Phase.TLS, "handshake", tls.failure(ConnectionResetError()))

T = TypeVar("T")


class Refusal(msgspec.Struct, frozen=True):
    """A host that answered, but gives no session."""

    reply: Reply
    phase: Phase


class NoSessionError(Exception):
    """A host gives no session: why, as the value that is handed on."""

    def __init__(self, value: Refusal | Fault) -> None:
        super().__init__(str(value))
        self.value = value


class ReplyProtocol(SMTPProtocol):
    """aiosmtplib's protocol with a reader of ours; while a machine runs, all replies are its."""

    machine: Machine | None = None
    spoiled = False
    """The peer spoke out of turn or made no sense: the session cannot be used any more."""
    timeouts: Timeouts
    _pipelining = False
    _rest = b""
    _deadline = 0.0
    _armed: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The session begins with the greeting."""
        super().connection_made(transport)
        self._lines = ReplyLines()

    def awaits(self) -> bool:
        """Tell whether aiosmtplib asked for a reply that has not come."""
        waiter = self._response_waiter
        return self._response_pending and waiter is not None and not waiter.done()

    async def read_response(self, timeout: float | None = None) -> aiosmtplib.SMTPResponse:
        """Wait for the reply aiosmtplib asked for.

        Its own way, `wait_for`, forgets a cancellation that comes in one turn with the reply (Python 3.11).
        """
        waiter = self._response_waiter
        if waiter is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        self._response_pending = True
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except TimeoutError:
            raise aiosmtplib.SMTPReadTimeoutError("no answer in time") from None
        finally:
            self._response_pending = False
            self._response_waiter = None if self.transport is None else self._loop.create_future()

    def data_received(self, data: bytes) -> None:
        """Take octets from the peer."""
        if self.machine is None and not self.awaits():
            self.spoiled = True
            return
        if self._rest:
            data = self._rest + data
        start = 0
        whole = False
        try:
            while (end := data.find(b"\n", start)) >= 0:
                reply = self._lines.take(data[start:end])
                start = end + 1
                if reply is None:
                    continue
                whole = True
                if start < len(data) and self._last(reply) and not data.startswith(b"421", start):
                    raise NonsenseError(f"a reply before its command: {data[start : start + 80]!r}")
                if self.machine is not None:
                    self.machine.reply(reply)
                else:
                    self._answer(reply)
                if self.machine is None and not self.awaits():
                    self.spoiled = self.spoiled or start < len(data)
                    self._rest = b""
                    return
            self._rest = data[start:]
            if len(self._rest) > LINE:
                raise NonsenseError("a reply line without an end")
        except NonsenseError as error:
            self._rest = b""
            self._nonsense(str(error))
            return
        if self.machine is not None and whole:
            self._deadline = self._loop.time() + self._wait(self.machine.phase)
            if self._armed is not None and self._armed.when > self._deadline:
                # The next wait is a shorter one.
                self._arm()

    def _last(self, reply: Reply) -> bool:
        """Tell whether nothing else was asked for, so that octets behind this reply belong to no command.

        Taken for the next command's, they would count for the wrong recipient, or stand for the
        reply to a content that was not sent yet. Behind the reply to the final dot they only spoil
        the session. A 421 may come at any time (RFC 5321 §3.8).
        """
        machine = self.machine
        if machine is None or machine.phase is Phase.FINAL:
            return False
        return not self._pipelining or reply.code == 354

    def _answer(self, reply: Reply) -> None:
        """Give a reply to aiosmtplib, which waits for it."""
        assert self._response_waiter is not None
        self._response_waiter.set_result(aiosmtplib.SMTPResponse(reply.code, reply.text))

    def _nonsense(self, text: str) -> None:
        self.spoiled = True
        if self.machine is not None:
            self.machine.broken("protocol", text)
        elif self._response_waiter is not None and not self._response_waiter.done():
            error = aiosmtplib.SMTPResponseException(NO_REPLY, text)
            self._set_response_exception(self._response_waiter, error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is over; what was not answered will not be."""
        super().connection_lost(exc)
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        if self.machine is not None:
            reason = f": {exc}" if exc is not None else ""
            self.machine.broken("disconnected", f"the server closed the connection{reason}")

    # ---- TLS ----

    async def wrap(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Shake hands on the connection as it is; what follows is read and written in TLS.

        Raises:
            NoSessionError: the handshake failed. The connection is gone.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise NoSessionError(_GONE)
        wrapped = await _shaken(
            self._loop.start_tls(
                cast(asyncio.WriteTransport, transport),
                self,
                context,
                server_hostname=host,
                ssl_handshake_timeout=seconds,
            )
        )
        self.transport = wrapped
        self._over_ssl = True

    @property
    def tls(self) -> str:
        """Version and cipher, empty in clear text."""
        found = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        return "" if found is None else tls.described(found)

    @property
    def local(self) -> bool:
        """Whether the connection stays on this machine."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return name is not None and ipaddress.ip_address(name[0].partition("%")[0]).is_loopback

    # ---- transactions ----

    def begin(self, machine: Machine, timeouts: Timeouts, *, pipelining: bool) -> None:
        """Give the session to a machine."""
        self.machine = machine
        self.timeouts = timeouts
        self._pipelining = pipelining
        self._lines.clear()
        self._rest = b""
        self._deadline = self._loop.time() + self._wait(Phase.MAIL)
        if self._armed is None or self._armed.when > self._deadline:
            self._arm()
        if self.spoiled:
            machine.broken("protocol", "the server spoke out of turn")
        elif self.is_connected:
            machine.start()
        else:
            machine.broken("disconnected", "the server closed the connection")

    def send(self, octets: bytes) -> None:
        """Write, or leave it: where the connection is going down, its end is on the way to the machine."""
        if self.transport is not None and not self.transport.is_closing():
            cast(asyncio.WriteTransport, self.transport).write(octets)

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was written. Raises OSError if it is gone."""
        await self._drain_helper()

    def _wait(self, phase: Phase) -> float:
        """Return how long to wait for the next reply (RFC 5321 §4.5.3.2)."""
        timeouts = self.timeouts
        if phase is Phase.FINAL:
            return timeouts.final
        if phase is Phase.DATA:
            return timeouts.data
        return timeouts.rcpt if phase is Phase.RCPT else timeouts.mail

    def extend(self, seconds: float) -> None:
        """Move the deadline: something else than a reply was progress."""
        self._deadline = self._loop.time() + seconds
        self._arm()

    def _arm(self) -> None:
        # One timer for the session, looked at again when it fires: a deadline moves with every
        # reply, and a timer set and cancelled each time would cost more than the reply.
        if self._armed is not None:
            self._armed.cancel()
        self._armed = Timer(self._loop, self._deadline, self._expired)

    def _expired(self) -> None:
        self._armed = None
        if self.machine is None:
            return
        if self._loop.time() < self._deadline:
            self._arm()
            return
        self.spoiled = True
        self.machine.broken("timeout", f"no answer in time ({self.machine.phase.value})")
        self.abort()

    def abort(self) -> None:
        """Drop the connection and what is not sent: `close` would wait for a peer that may never read."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()


class Client(aiosmtplib.SMTP):
    """aiosmtplib's client over our protocol, on a socket that was connected for it.

    Each step of opening a session raises `NoSessionError` where the host does not take it.
    """

    protocol: ReplyProtocol | None

    def __init__(self, sock: socket.socket, *, host: str, helo: str, timeouts: Timeouts) -> None:
        super().__init__(
            sock=sock, hostname=host, local_hostname=helo, start_tls=False, timeout=timeouts.greeting
        )
        self.timeouts = timeouts
        self.wire = ReplyProtocol(
            loop=asyncio.get_running_loop(), connection_lost_callback=self._on_connection_lost
        )
        """The protocol, also when aiosmtplib has let go of it."""
        self._context: ssl.SSLContext | None = None

    async def greet(self, context: ssl.SSLContext | None) -> None:
        """Read the greeting, with a context in TLS from the first octet (RFC 8314 §3)."""
        self._context = context
        with self._step(Phase.GREETING):
            await self.connect()

    async def _create_connection(self, timeout: float | None) -> aiosmtplib.SMTPResponse:
        """Read the greeting on the socket that was connected for us."""
        loop = asyncio.get_running_loop()
        protocol = self.wire
        if self._context is None:
            self.transport, _ = await loop.create_connection(lambda: protocol, sock=self.sock)
        else:
            self.transport, _ = await _shaken(
                loop.create_connection(
                    lambda: protocol,
                    sock=self.sock,
                    ssl=self._context,
                    server_hostname=self.hostname,
                    ssl_handshake_timeout=timeout,
                )
            )
        self.protocol = protocol
        response = await protocol.read_response(timeout=timeout)
        if response.code != 220:
            raise aiosmtplib.SMTPConnectResponseError(response.code, response.message)
        return response

    async def hello(self) -> None:
        """Say EHLO, HELO where that is refused (RFC 5321 §3.2)."""
        with self._step(Phase.EHLO):
            try:
                await self.ehlo()
            except aiosmtplib.SMTPHeloError as error:
                if not 500 <= error.code <= 599:
                    raise
                try:
                    await self.helo()
                except aiosmtplib.SMTPServerDisconnected:
                    # It said why, and hung up.
                    raise error from None

    async def ask(self, phase: Phase, line: bytes) -> Reply:
        """Say one line and return its reply, whatever it is."""
        with self._step(phase):
            response = await self.execute_command(line)
        return Reply(response.code, response.message)

    async def begin_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands behind the 220 to STARTTLS, and forget what was said before it (RFC 3207 §4.2)."""
        with self._step(Phase.TLS):
            await self.wire.wrap(context, self.hostname or "", self.timeouts.greeting)
            self.transport = self.wire.transport
            self._reset_server_state()

    async def leave(self) -> None:
        """Say QUIT if the host still listens, and let go within the time for it. Never raises."""
        try:
            if self.protocol is not None and not self.protocol.spoiled:
                await self.quit(timeout=self.timeouts.quit)
        except (aiosmtplib.SMTPException, OSError):
            return
        finally:
            self.drop()

    def drop(self) -> None:
        """Let go without a word."""
        self.wire.abort()
        self.close()

    @contextlib.contextmanager
    def _step(self, phase: Phase) -> Iterator[None]:
        """Turn what aiosmtplib raises into values, and see that nothing was said out of turn."""
        try:
            yield
        except aiosmtplib.SMTPResponseException as error:
            if error.code == NO_REPLY:
                raise NoSessionError(Fault(phase, "protocol", error.message)) from None
            raise NoSessionError(Refusal(Reply(error.code, error.message), phase)) from None
        except aiosmtplib.SMTPTimeoutError:
            raise NoSessionError(Fault(phase, "timeout", f"no answer in time ({phase.value})")) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            text = f"the server closed the connection: {error}"
            raise NoSessionError(Fault(phase, "disconnected", text)) from None
        if self.wire.spoiled:
            raise NoSessionError(Fault(phase, "protocol", "the server spoke out of turn"))


async def _shaken(handshake: Awaitable[T | None]) -> T:
    """Return what a handshake gives. Raises NoSessionError where it fails."""
    try:
        found = await handshake
    except (OSError, ValueError) as error:
        raise NoSessionError(Fault(Phase.TLS, "handshake", tls.failure(error))) from None
    if found is None:
        raise NoSessionError(_GONE)
    return found
