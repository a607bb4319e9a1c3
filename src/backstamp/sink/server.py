"""A mail-catching SMTP server: takes everything, counts it, and fails as it is told to.

For tests, benchmarks and `backstamp sink`; it must never get mail somebody waits for. It
is small and fast (one protocol, no task per connection), and every reply can be scripted.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import msgspec

from backstamp.sink.script import Script, Step, reply
from backstamp.smtp.data import find_end, unstuff

KEYWORDS: Final = ("PIPELINING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
OK: Final = b"250 2.0.0 Ok\r\n"
GO_AHEAD: Final = b"354 Go ahead\r\n"
_TAKEN: Final = frozenset({b"2", b"3"})


class Received(msgspec.Struct):
    """One message as it came: addresses without brackets, content not dot-stuffed."""

    sender: bytes
    parameters: bytes
    recipients: list[bytes]
    content: bytes
    connection: int


class Options(msgspec.Struct, kw_only=True):
    """How a sink behaves."""

    hostname: str = "sink.example.org"
    keywords: tuple[str, ...] = KEYWORDS
    connections: int | None = None
    """Connections taken at once; more are told 421."""


class Sink:
    """Listens on one address. Counters and `script` may be read and changed while it runs."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        options: Options | None = None,
        script: Script | None = None,
        received: Callable[[Received], None] | None = None,
    ) -> None:
        self.address = (host, port)
        """Where it listens; the port is the real one once it does."""
        self.options = options or Options()
        self.script = script or Script()
        self.received = received
        """Called for each message before its final reply is sent."""
        self.messages = 0
        self.recipients = 0
        self.octets = 0
        self.connections = 0
        """Connections ever taken."""
        self.refused = 0
        """Of them, those that were told 421: more than may be open at once."""
        self.open: set[_Session] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self.address
        self._server = await loop.create_server(lambda: _Session(self), host, port, backlog=1024)
        name = self._server.sockets[0].getsockname()
        self.address = (str(name[0]), int(name[1]))

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for session in list(self.open):
            session.drop()
        await asyncio.sleep(0)

    async def __aenter__(self) -> "Sink":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._scanned = 0
        self._content = False
        self._held = False
        self._out: list[bytes] = []
        self._number = 0
        self._reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        self._transport = cast(asyncio.Transport, transport)
        sink = self._sink
        sink.connections += 1
        self._number = sink.connections
        sink.open.add(self)
        limit = sink.options.connections
        if limit is not None and len(sink.open) > limit:
            sink.refused += 1
            self._do(Step(octets=reply(421, "4.7.0 Too many connections"), close=True))
        else:
            self._answer("CONNECT", reply(220, f"{sink.options.hostname} ESMTP sink"))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._sink.open.discard(self)

    def drop(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take octets, answer what is whole."""
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._held and not self._transport.is_closing():
            if not (self._take_content() if self._content else self._take_command()):
                break
        self._flush()

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _reset(self) -> None:
        self._sender = b""
        self._parameters = b""
        self._recipients: list[bytes] = []

    # ---- commands ----

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        verb = line[:4].upper()
        if verb == b"MAIL":
            self._sender, self._parameters = _path(line)
            self._answer("MAIL", OK, self._sender)
        elif verb == b"RCPT":
            address, _ = _path(line)
            if self._answer("RCPT", OK, address) in _TAKEN:
                self._recipients.append(address)
        elif verb == b"DATA":
            usual = GO_AHEAD if self._recipients else b"554 5.5.1 No valid recipients\r\n"
            self._content = self._answer("DATA", usual) == b"3"
            self._scanned = 0
        elif verb == b"QUIT":
            self._answer("QUIT", b"221 2.0.0 Bye\r\n")
            self._flush()
            self._transport.close()
        else:
            self._other(verb.decode("ascii", "replace"))
        return True

    def _other(self, verb: str) -> None:
        options = self._sink.options
        if verb in {"RSET", "EHLO", "HELO"}:
            self._reset()
        if verb == "EHLO":
            self._answer("EHLO", reply(250, "\n".join([options.hostname, *options.keywords])))
        elif verb in {"HELO", "RSET", "NOOP"}:
            self._answer(verb, OK)
        elif verb == "VRFY":
            self._answer(verb, b"252 2.0.0 Perhaps\r\n")
        else:
            self._out.append(b"500 5.5.1 Not known\r\n")

    def _take_content(self) -> bool:
        found = find_end(self._buffer, self._scanned)
        if found is None:
            self._scanned = len(self._buffer)
            return False
        end, behind = found
        sink = self._sink
        self._content = False
        step = sink.script.answer("DOT") if sink.script.rules else None
        taken = step is None or step.octets[:1] == b"2"
        if taken:
            sink.messages += 1
            sink.recipients += len(self._recipients)
            sink.octets += end
            if sink.received is not None:
                content = unstuff(bytes(self._buffer[:end]))
                message = Received(self._sender, self._parameters, self._recipients, content, self._number)
                sink.received(message)
        del self._buffer[:behind]
        self._reset()
        if step is None:
            self._out.append(OK)
        else:
            self._do(step)
        return True

    # ---- answers ----

    def _answer(self, verb: str, usual: bytes, address: bytes | None = None) -> bytes:
        """Say what the script says, else the usual; return the first digit of what is said."""
        step = self._sink.script.answer(verb, address) if self._sink.script.rules else None
        if step is None:
            self._out.append(usual)
            return usual[:1]
        self._do(step)
        return step.octets[:1]

    def _do(self, step: Step) -> None:
        if step.delay or step.bytewise:
            self._held = True
            loop = asyncio.get_running_loop()
            octets = [bytes([octet]) for octet in step.octets] if step.bytewise else [step.octets]
            loop.call_later(step.delay, self._later, octets, step)
            return
        self._out.append(step.octets)
        if step.close:
            self._flush()
            self._transport.close()

    def _later(self, octets: list[bytes], step: Step) -> None:
        """Say what was held back, piece by piece, then go on."""
        if self._transport.is_closing():
            return
        self._out.append(octets.pop(0))
        self._flush()
        if octets:
            asyncio.get_running_loop().call_later(0.001, self._later, octets, step)
            return
        if step.close:
            self._transport.close()
        self._held = False
        self._go_on()


def _path(line: bytes) -> tuple[bytes, bytes]:
    """Return the address and the parameters of a MAIL or RCPT line."""
    _, _, rest = line.partition(b"<")
    address, _, parameters = rest.rpartition(b">")
    return address, parameters.strip()
