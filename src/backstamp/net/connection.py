"""A session with a host, ready for transactions: whoever drives a `Machine`, and streams content.

Content that is not held, or is long, goes out in pieces, stuffed as it goes, and never faster
than the peer takes it. A piece that cannot be read ends the connection before the dot: the
mail is not out, and nobody is in doubt.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from backstamp.mail.content import PIECE, Content, size
from backstamp.mail.fault import Phase
from backstamp.net.client import Client
from backstamp.net.transaction import Dotting, Machine, Result, Settled, Transaction, at_once
from backstamp.smtp.data import Stuffer
from backstamp.text import printable

_SIZE_DIGITS = 20
"""Digits of a declared SIZE, at most (RFC 1870 §4)."""


class Connection:
    """A session with a host. Make it with `open_session`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._timeouts = client.timeouts
        self._protocol = client.wire
        self._reset = False
        self._lost = False
        self.extensions: Mapping[str, str] = {
            name.upper(): value for name, value in client.esmtp_extensions.items()
        }
        """EHLO keywords in upper case, each with its arguments."""
        declared = self.extensions.get("SIZE", "")
        sound = declared.isascii() and declared.isdecimal() and len(declared) <= _SIZE_DIGITS
        self.size_limit = (int(declared) or None) if sound else None
        """The largest message the host takes, in octets; None where it names no limit (RFC 1870 §4)."""
        self.tls = self._protocol.tls
        """Version and cipher, empty in clear text."""
        hello = client.last_ehlo_response.message if client.last_ehlo_response is not None else ""
        self.peer = printable(hello.partition("\n")[0].partition(" ")[0].lower(), 255)
        """What the host calls itself in its reply to EHLO, in lower case; empty where it said nothing."""

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
            OSError: a stored content could not be read; the dot was not sent, the session is over.
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
            # Cancelled in the middle: nobody can tell any more which reply is whose. Or the content
            # cannot be read to its end. What is not out yet stays here: without a reply it could only
            # make a second copy.
            self._lost = True
            protocol.machine = None
            self._client.drop()
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
        """Write a content in pieces, each within its time (RFC 5321 §4.5.3.2.5), then the dot.

        Raises:
            OSError: it could not be read, or not all of it; the dot is not out.
        """
        protocol = self._protocol
        stuffer = Stuffer()
        assert machine.stream is not None
        missing = size(machine.stream)
        async with _pieces(machine.stream) as pieces:
            async for piece in pieces:
                if machine.done:
                    return
                missing -= len(piece)
                if not piece:
                    continue
                protocol.extend(self._timeouts.block)
                protocol.send(stuffer.feed(piece))
                with contextlib.suppress(OSError):  # the machine hears of it from `connection_lost`
                    await protocol.drain()
        if missing:
            raise OSError(f"{missing} octets of the content are missing")
        if not machine.done and (permit := machine.permit()) is not None:
            await permit
        if not machine.done:
            machine.dot(stuffer.end())
            protocol.extend(self._timeouts.final)

    async def close(self) -> None:
        """Say QUIT if the host still listens, and let go within the time for it. Never raises."""
        if self.usable:
            await self._client.leave()
        self._client.drop()


@contextlib.asynccontextmanager
async def _pieces(content: Content) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the pieces of a content, and let go of where they come from though not all are taken."""
    pieces = _blocks(content) if isinstance(content, bytes) else content.pieces()
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _blocks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]
