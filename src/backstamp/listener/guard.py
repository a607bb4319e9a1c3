"""A client of an HTTP side before it has said anything: counted like every other, or sent away.

Who opens connections and asks for nothing must not take what all clients share. Whoever is let in
is aiohttp's, which gives it some time for the head of its request (`HEAD`); who does not read what it
is told is cut off here.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from backstamp.listener import admission

HEAD: Final = 30.0
"""Seconds a connection may be without a whole head of a request: at its begin, and between two."""

UNREAD: Final = 60.0
"""Seconds a client may leave unread what it is told."""

FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n"
    b"Connection: close\r\n\r\nToo many connections\n"
)


class Guard(asyncio.Protocol):
    """One connection. `admit` counts a peer in or returns False; who was counted `leave`s."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        admit: Callable[[str, asyncio.BaseTransport], bool],
        leave: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._admit = admit
        self._leave = leave
        self._peer: str | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)
        peer = admission.plain(str((transport.get_extra_info("peername") or ("",))[0]))
        if not self._admit(peer, transport):
            self._transport.write(FULL)
            self._transport.close()
            return
        self._peer = peer
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        if self._peer is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return None if self._peer is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """The client does not read what it is told."""
        if self._peer is not None:
            self._unread = asyncio.get_running_loop().call_later(UNREAD, self._transport.abort)
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._peer is not None:
            self._read()
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._read()
        if self._peer is not None:
            self._leave(self._peer)
            self._inner.connection_lost(error)

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


async def listen(
    handlers: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    admit: Callable[[str, asyncio.BaseTransport], bool],
    leave: Callable[[str], None],
) -> asyncio.Server:
    """Listen with a guard before each of an HTTP server's handlers. Raises OSError: no such address."""
    return await asyncio.get_running_loop().create_server(lambda: Guard(handlers(), admit, leave), host, port)


def bugs() -> logging.Logger:
    """Return where aiohttp tells what went wrong: of what is no HTTP nothing is told, it is the client's."""
    logger = logging.getLogger("backstamp.http")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell whether the error behind a line is not one of reading a request."""
    error = record.exc_info[1] if record.exc_info else None
    return not type(error).__module__.startswith("aiohttp.http_")
