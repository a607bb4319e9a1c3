"""A client of the HTTP door before it has said anything: counted like every other, or sent away.

Who opens connections and asks for nothing must not take what all clients share. Whoever is let in
is aiohttp's, which gives it some time for the head of its request (`HEAD`).
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from backstamp.listener import admission

HEAD: Final = 30.0
"""Seconds a connection may be without a whole head of a request: at its begin, and between two."""

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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        peer = admission.plain(str((transport.get_extra_info("peername") or ("",))[0]))
        if not self._admit(peer, transport):
            # uvloop's transports are no subclasses of asyncio's.
            cast(asyncio.WriteTransport, transport).write(FULL)
            transport.close()
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
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._peer is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        if self._peer is not None:
            self._leave(self._peer)
            self._inner.connection_lost(error)
