"""A mail-catching SMTP server: takes everything, counts it, and fails as it is told to.

For tests, benchmarks and `backstamp sink`; it must never get mail somebody waits for. It
is small and fast (one protocol, no task per connection), and every reply can be scripted.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from backstamp.sink.auth import MECHANISMS
from backstamp.sink.script import Script
from backstamp.sink.session import OK, Heard, Received, Session
from backstamp.sink.tls import self_signed

__all__ = ["KEYWORDS", "OK", "Heard", "Options", "Received", "Sink", "keywords"]

KEYWORDS: Final = ("PIPELINING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
"""What it offers; others (DSN, MT-PRIORITY) may be added, and their parameters are recorded."""


class Options(msgspec.Struct, kw_only=True):
    """How a sink behaves."""

    hostname: str = "sink.example.org"
    keywords: tuple[str, ...] = KEYWORDS
    connections: int | None = None
    """Connections taken at once; more are told 421."""
    tls: Literal["none", "starttls", "implicit"] = "none"
    context: ssl.SSLContext | None = None
    """What TLS is done with; None: a self-signed certificate, made at the start."""
    auth: tuple[str, str] | None = None
    """User and password (or token) that MAIL is taken from; None: from everybody."""
    mechanisms: tuple[str, ...] = MECHANISMS


def keywords(*added: str, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the usual keywords, some more, and without those whose name is in `without`."""
    return tuple(one for one in (*KEYWORDS, *added) if one.partition(" ")[0] not in without)


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
        heard: Callable[[Heard], None] | None = None,
    ) -> None:
        self.address = (host, port)
        """Where it listens; the port is the real one once it does."""
        self.options = options or Options()
        self.script = script or Script()
        self.received = received
        """Called for each message before its final reply is sent."""
        self.heard = heard
        """Called for each connection and command before it is answered."""
        self.messages = 0
        self.recipients = 0
        self.octets = 0
        self.connections = 0
        """Connections ever taken."""
        self.refused = 0
        """Of them, those that were told 421: more than may be open at once."""
        self.open: set[Session] = set()
        self.context: ssl.SSLContext | None = None
        """What TLS is done with, once it runs."""
        self.tasks: set[asyncio.Task[None]] = set()
        """Handshakes under way."""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self.address
        options = self.options
        if options.tls != "none":
            self.context = options.context or self_signed(options.hostname)
        self._server = await loop.create_server(
            lambda: Session(self),
            host,
            port,
            backlog=1024,
            ssl=self.context if options.tls == "implicit" else None,
        )
        name = self._server.sockets[0].getsockname()
        self.address = (str(name[0]), int(name[1]))

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for session in list(self.open):
            session.drop()
        for task in self.tasks:
            task.cancel()
        await asyncio.sleep(0)

    async def __aenter__(self) -> "Sink":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
