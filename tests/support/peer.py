"""A peer that says exactly the octets a test gives it, when it says so.

For manners no sink has: replies before their commands, cut anywhere, or none any more.
Where the usual replies and faults will do, `backstamp.sink` is the peer to take.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

GREETING = b"220 peer.example ESMTP\r\n"
PIPELINING = b"250-peer.example\r\n250 PIPELINING\r\n"
ONE_BY_ONE = b"250 peer.example\r\n"


class ExactSession:
    """The peer's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.heard: list[bytes] = []
        """Lines and contents, in order."""
        self.rest = 0

    async def say(self, octets: bytes, *, alone: bool = False) -> None:
        """Write; `alone` waits a little so that what follows comes as a segment of its own."""
        self._writer.write(octets)
        await self._writer.drain()
        if alone:
            await asyncio.sleep(0.002)

    async def hear(self, lines: int = 1) -> None:
        """Read so many lines."""
        for _ in range(lines):
            self.heard.append((await self._reader.readuntil(b"\n")).rstrip(b"\r\n"))

    async def hear_content(self) -> None:
        """Read up to the final dot."""
        self.heard.append(await self._reader.readuntil(b"\r\n.\r\n"))

    async def content(self) -> bytes:
        """Read up to the final dot, however much it is, and return what came, dots and all."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]
        octets = bytearray()
        while not octets.endswith(b"\r\n.\r\n"):
            if not (piece := await self._reader.read(1 << 16)):
                raise asyncio.IncompleteReadError(bytes(octets[-80:]), None)
            octets += piece
        return bytes(octets[:-3])

    def stop_reading(self) -> None:
        """Let the client's octets pile up."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def count_rest(self) -> None:
        """Read on to the end, orderly or not, and count in `rest`."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            while octets := await self._reader.read(1 << 20):
                self.rest += len(octets)

    def hang_up(self) -> None:
        """Close in order: what was said arrives."""
        self._writer.close()

    async def wait(self) -> None:
        """Say nothing until the test is over."""
        await asyncio.get_running_loop().create_future()


Play = Callable[[ExactSession], Awaitable[None]]


class ExactPeer:
    """Listens on loopback and plays one part for every connection, after greeting and EHLO.

    `window` is the size of its receive buffer: what is above stays with the client while it does not read.
    """

    def __init__(
        self,
        play: Play,
        *,
        greeting: bytes = GREETING,
        ehlo: bytes = PIPELINING,
        window: int | None = None,
    ) -> None:
        self._play = play
        self._greeting = greeting
        self._ehlo = ehlo
        self._window = window
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.sessions: list[ExactSession] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.sockets[0].getsockname()
        return host, port

    async def __aenter__(self) -> "ExactPeer":
        sock = socket.create_server(("127.0.0.1", 0))
        if self._window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
        self._server = await asyncio.start_server(self._begin, sock=sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0)
        await self._server.wait_closed()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Segments are this peer's to choose, so nothing may be held back (Nagle).
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = ExactSession(reader, writer)
        self.sessions.append(session)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await session.say(self._greeting)
                await session.hear()
                await session.say(self._ehlo)
                await self._play(session)
        except BaseException:
            writer.transport.abort()
            raise
        # An end in order: what was said must not be lost to a reset.
        writer.close()
