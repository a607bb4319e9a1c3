"""The SMTP client: aiosmtplib's session, with a protocol of ours that takes many replies.

aiosmtplib keeps one reply at a time, re-parses addresses and rewrites content; so it opens
the session here (greeting, EHLO, QUIT, and one day STARTTLS and AUTH), and transactions run
on our subclass of its protocol, which hands every reply to a `Machine` in the callback that
read it. One strict reader serves both: a reply nobody can have asked for is never taken for
another's. Hosts that give no session are values. Sockets are connected here, to the address
that was judged, and nothing is resolved again.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import cast

import aiosmtplib
import msgspec
from aiosmtplib.protocol import SMTPProtocol

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.dial import dial
from backstamp.net.replies import LINE, NonsenseError, ReplyLines
from backstamp.net.transaction import Dotting, Machine, Result, Settled, Transaction, at_once
from backstamp.policy.destination import Timeouts

NO_REPLY = -1
"""The code under which aiosmtplib hands on what was no reply."""

BLOCK = 65536
"""Octets of content written between two looks at back-pressure."""

_SIZE_DIGITS = 20
"""Digits of a declared SIZE, at most (RFC 1870 §4)."""


class Refusal(msgspec.Struct, frozen=True):
    """A host that answered, but gives no session."""

    reply: Reply
    phase: Phase


class _Protocol(SMTPProtocol):
    """aiosmtplib's protocol with a reader of ours; while a machine runs, all replies are its."""

    machine: Machine | None = None
    spoiled = False
    """The peer spoke out of turn or made no sense: the session cannot be used any more."""
    timeouts: Timeouts
    _pipelining = False
    _rest = b""
    _deadline = 0.0
    _armed: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The session begins with the greeting."""
        super().connection_made(transport)
        self._lines = ReplyLines()

    def awaits(self) -> bool:
        """Tell whether aiosmtplib asked for a reply that has not come."""
        waiter = self._response_waiter
        return self._response_pending and waiter is not None and not waiter.done()

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
            if self._armed is not None and self._armed.when() > self._deadline:
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

    # ---- transactions ----

    def begin(self, machine: Machine, timeouts: Timeouts, *, pipelining: bool) -> None:
        """Give the session to a machine."""
        self.machine = machine
        self.timeouts = timeouts
        self._pipelining = pipelining
        self._lines.clear()
        self._rest = b""
        self._deadline = self._loop.time() + self._wait(Phase.MAIL)
        if self._armed is None or self._armed.when() > self._deadline:
            self._arm()
        if self.spoiled:
            machine.broken("protocol", "the server spoke out of turn")
        elif self.is_connected:
            machine.start()
        else:
            machine.broken("disconnected", "the server closed the connection")

    def send(self, octets: bytes | memoryview) -> None:
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
        self._armed = self._loop.call_at(self._deadline, self._expired)

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


class _Client(aiosmtplib.SMTP):
    """aiosmtplib's client over our protocol."""

    protocol: _Protocol | None

    async def _create_connection(self, timeout: float | None) -> aiosmtplib.SMTPResponse:
        """Read the greeting on the socket that was connected for us."""
        loop = asyncio.get_running_loop()
        protocol = _Protocol(loop=loop, connection_lost_callback=self._on_connection_lost)
        self.transport, _ = await loop.create_connection(lambda: protocol, sock=self.sock)
        self.protocol = protocol
        response = await protocol.read_response(timeout=timeout)
        if response.code != 220:
            raise aiosmtplib.SMTPConnectResponseError(response.code, response.message)
        return response


class Connection:
    """A session with a host, ready for transactions. Make it with `connect`."""

    def __init__(self, client: _Client, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts
        assert client.protocol is not None
        self._protocol = client.protocol
        self._reset = False
        self._lost = False
        self.extensions: Mapping[str, str] = {
            name.upper(): value for name, value in client.esmtp_extensions.items()
        }
        """EHLO keywords in upper case, each with its arguments."""
        size = self.extensions.get("SIZE", "")
        sound = size.isascii() and size.isdecimal() and len(size) <= _SIZE_DIGITS
        self.size_limit = (int(size) or None) if sound else None
        """The largest message the host takes, in octets; None where it names no limit (RFC 1870 §4)."""

    @property
    def usable(self) -> bool:
        """Whether another MAIL may be sent."""
        return not self._lost and not self._protocol.spoiled and self._protocol.is_connected

    async def transact(
        self, transaction: Transaction, settled: Settled, dotting: Dotting = at_once
    ) -> Result:
        """Run one transaction.

        `dotting` is called when the final dot is about to go out, and may hold it back; what it
        raises is raised here, and the dot was not sent. `settled` is called by the callback that
        parsed the final 2yz, before anything else happens (Q4); a cancellation of this call does
        not undo that. What went wrong is in the result.

        Raises:
            ValueError: a control character in an address or parameter; nothing was sent.
        """
        protocol = self._protocol
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def finished(machine: Machine) -> None:
            protocol.machine = None
            if machine.phase is Phase.CONTENT:
                # The peer is still in the middle of the content. Whoever waits for it to read on
                # must not: it need not ever.
                protocol.abort()
            wake()

        pipelining = "PIPELINING" in self.extensions
        machine = Machine(
            transaction,
            write=protocol.send,
            settled=settled,
            finished=finished,
            large=wake,
            pipelining=pipelining,
            size="SIZE" in self.extensions,
            reset=self._reset,
            dotting=dotting,
        )
        try:
            protocol.begin(machine, self._timeouts, pipelining=pipelining)
            await waiter
            if not machine.done:
                waiter = loop.create_future()
                await self._stream(machine)
                await waiter
        except BaseException:
            # Cancelled in the middle: nobody can tell any more which reply is whose. What is not
            # out yet stays here: without a reply it could only make a second copy.
            self._lost = True
            protocol.machine = None
            protocol.abort()
            self._client.close()
            raise
        self._reset = not machine.clean
        result = machine.result
        replies = (result.mail, *result.recipients, result.data, result.final)
        if result.fault is not None or any(reply is not None and reply.code == 421 for reply in replies):
            self._lost = True
        if machine.error is not None:
            raise machine.error
        return result

    async def _stream(self, machine: Machine) -> None:
        """Write a long content in blocks, each within its time (RFC 5321 §4.5.3.2.5), then the dot."""
        protocol = self._protocol
        assert machine.stream is not None
        view = memoryview(machine.stream)
        for start in range(0, len(view), BLOCK):
            if machine.done:
                return
            protocol.extend(self._timeouts.block)
            protocol.send(view[start : start + BLOCK])
            with contextlib.suppress(OSError):  # the machine hears of it from `connection_lost`
                await protocol.drain()
        if not machine.done and (permit := machine.permit()) is not None:
            await permit
        if not machine.done:
            machine.dot()
            protocol.extend(self._timeouts.final)

    async def close(self) -> None:
        """Say QUIT if the host still listens, and let go within the time for it. Never raises."""
        client = self._client
        try:
            if self.usable:
                await client.quit(timeout=self._timeouts.quit)
        except (aiosmtplib.SMTPException, OSError):
            return
        finally:
            self._protocol.abort()
            client.close()


async def connect(
    address: str, port: int, *, helo: str, timeouts: Timeouts, source: str | None = None
) -> Connection | Refusal | Fault:
    """Open a session: connect, read the greeting, say EHLO (HELO where that is refused, RFC 5321 §3.2)."""
    sock = await dial(address, port, seconds=timeouts.connect, source=source)
    if isinstance(sock, Fault):
        return sock
    client = _Client(sock=sock, local_hostname=helo, start_tls=False, timeout=timeouts.greeting)
    phase = Phase.GREETING
    try:
        await client.connect()
        phase = Phase.EHLO
        await _hello(client, helo, timeouts)
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        if error.code == NO_REPLY:
            return Fault(phase, "protocol", error.message)
        return Refusal(Reply(error.code, error.message), phase)
    except aiosmtplib.SMTPTimeoutError:
        client.close()
        return Fault(phase, "timeout", f"no answer in time ({phase.value})")
    except (aiosmtplib.SMTPException, OSError) as error:
        client.close()
        return Fault(phase, "disconnected", f"the server closed the connection: {error}")
    except BaseException:
        client.close()
        raise
    if client.protocol is None:
        return Fault(phase, "disconnected", "the server closed the connection")
    if client.protocol.spoiled:
        client.close()
        return Fault(phase, "protocol", "the server spoke out of turn")
    return Connection(client, timeouts)


async def _hello(client: _Client, helo: str, timeouts: Timeouts) -> None:
    try:
        await client.ehlo(hostname=helo, timeout=timeouts.greeting)
    except aiosmtplib.SMTPHeloError as error:
        if not 500 <= error.code <= 599:
            raise
        try:
            await client.helo(hostname=helo, timeout=timeouts.greeting)
        except aiosmtplib.SMTPServerDisconnected:
            # It said why, and hung up.
            raise error from None
