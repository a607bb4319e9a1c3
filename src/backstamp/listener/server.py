"""A listener: one address, its sessions, and their orderly end."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from backstamp.clock import Clock
from backstamp.listener import local
from backstamp.listener.conversation import Refuse
from backstamp.listener.intake import Door
from backstamp.listener.session import Replies, Session
from backstamp.listener.settings import ListenerSettings
from backstamp.mail.envelope import Envelope
from backstamp.queue.port import Intake
from backstamp.telemetry.events import Event

FULL = b"421 4.3.2 Too many connections\r\n"
BACKLOG = 1024
"""Connections the kernel keeps while the loop is busy."""


class Listener:
    """Accepts clients on one address. `settings` may be replaced while it runs; new sessions see it."""

    def __init__(
        self,
        settings: ListenerSettings,
        queue: Intake,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        entropy: Callable[[int], bytes],
        once: Callable[[Envelope], bool] = lambda _: False,
        refuse: Refuse = lambda *_: None,
    ) -> None:
        self.settings = settings
        self._door = Door(queue, clock=clock, emit=emit, entropy=entropy, once=once, refuse=refuse)
        self._replies = Replies()
        self._sessions: set[Session] = set()
        self._server: asyncio.Server | None = None
        self._file: local.SocketFile | None = None
        self._empty = asyncio.Event()
        self.address = (settings.host, settings.port)
        """Where it listens; the port is the real one once it does. A socket file is its path and 0."""

    @property
    def connections(self) -> int:
        """Clients connected."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        settings = self.settings
        if settings.local:
            self._file = local.SocketFile(settings.host, settings.mode)
            self._server = await loop.create_unix_server(
                self._session, sock=self._file.socket, backlog=BACKLOG
            )
            return
        self._server = await loop.create_server(
            self._session, settings.host, settings.port, backlog=BACKLOG, reuse_address=True
        )
        name = self._server.sockets[0].getsockname()
        self.address = (str(name[0]), int(name[1]))

    def stop_accepting(self) -> None:
        """Take no more clients."""
        if self._server is not None:
            self._server.close()
        if self._file is not None:
            self._file.remove()

    async def close(self, grace: float) -> None:
        """Send clients away: idle ones at once, those in a message after it, in at most `grace` seconds."""
        self.stop_accepting()
        for session in list(self._sessions):
            session.end()
        try:
            async with asyncio.timeout(grace):
                while self._sessions:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for session in list(self._sessions):
                if session.transport is not None:
                    cast(asyncio.WriteTransport, session.transport).abort()

    def _session(self) -> Session:
        return Session(
            self.settings,
            self._door,
            self._replies,
            opened=self._opened,
            left=self._left,
            loop=asyncio.get_running_loop(),
        )

    def _opened(self, session: Session) -> bytes | None:
        """Count a session in; return the refusal if there are too many."""
        self._sessions.add(session)
        assert session.transport is not None
        sock = session.transport.get_extra_info("socket")
        if sock is not None and not self.settings.local:
            # Replies are written in groups; waiting for more would only add delay (Nagle).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return FULL if len(self._sessions) > self.settings.limits.connections else None

    def _left(self, session: Session) -> None:
        self._sessions.discard(session)
        if not self._sessions:
            self._empty.set()
