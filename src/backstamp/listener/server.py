"""A listener: one address, its sessions, and their orderly end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from backstamp.clock import Clock
from backstamp.listener import local
from backstamp.listener.budget import Budget
from backstamp.listener.crowd import Crowd
from backstamp.listener.descriptors import Descriptors
from backstamp.listener.house import House
from backstamp.listener.intake import Door
from backstamp.listener.session import Session
from backstamp.listener.settings import Auth, ListenerSettings
from backstamp.listener.transaction import Refuse
from backstamp.mail.envelope import Envelope
from backstamp.queue.port import Intake
from backstamp.telemetry.events import Event
from backstamp.text import reason

if TYPE_CHECKING:
    from backstamp.listener.authority import Authority
    from backstamp.listener.certificates import Certificates

BACKLOG = 1024
"""Connections the kernel keeps while the loop is busy."""

REFUSED = 1000
"""Connections that were refused and linger, at a time; more are dropped without a word."""


FAREWELL = 1.0
"""Seconds for the last words to those whose time is over at the end."""


class ReloadError(Exception):
    """New settings cannot be taken; the text is one line for the operator."""


class Listener:
    """Accepts clients on one address. `settings` may be replaced while it runs; new sessions see it.

    `crowd`, `budget` and `descriptors` are those of all listeners of a process, where there are several.
    """

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
        crowd: Crowd | None = None,
        budget: Budget | None = None,
        descriptors: Descriptors | None = None,
        authority: Authority | None = None,
    ) -> None:
        """Raises CertificateError if a file of `tls` is no good."""
        self._clock = clock
        self._emit = emit
        self._house = House(
            settings,
            Door(queue, clock=clock, emit=emit, entropy=entropy, once=once, refuse=refuse),
            # An empty crowd has the length 0, and is one all the same.
            crowd=Crowd(settings.limits) if crowd is None else crowd,
            budget=Budget(settings.limits.content_memory) if budget is None else budget,
            descriptors=descriptors or Descriptors(clock=clock, emit=emit),
            authority=authority,
            certificates=self._certificates(settings),
        )
        self._sessions: set[Session] = set()
        self._counted: dict[Session, str] = {}
        self._server: asyncio.Server | None = None
        self._file: local.SocketFile | None = None
        self._empty = asyncio.Event()
        self.address = (settings.host, settings.port)
        """Where it listens; the port is the real one once it does. A socket file is its path and 0."""

    @property
    def settings(self) -> ListenerSettings:
        """What it was told."""
        return self._house.settings

    def reload(self, settings: ListenerSettings) -> None:
        """Take new settings; sessions keep theirs.

        Raises:
            CertificateError, ReloadError: all stays as it was.
        """
        house = self._house
        if settings.auth is not Auth.OFF and house.authority is None:
            # Everybody would be refused for good (530), and nobody offered AUTH.
            raise ReloadError(f"{settings.place}: auth begins at a start only; restart to apply")
        certificates = house.certificates
        if settings.tls != house.settings.tls:
            certificates = self._certificates(settings)
        if self._file is not None and settings.mode != house.settings.mode:
            try:
                self._file.change(settings.mode)
            except OSError as error:
                why = reason(error, place=False)
                raise ReloadError(f"{settings.place}: its mode cannot be changed: {why}") from None
        house.settings, house.certificates = settings, certificates

    def poll(self) -> None:
        """Look at what nobody else would look at (`House.poll`)."""
        self._house.poll()

    def _certificates(self, settings: ListenerSettings) -> Certificates | None:
        if settings.tls.mode == "none":
            return None
        from backstamp.listener.certificates import Certificates  # and 8 MB of cryptography

        return Certificates(settings.tls, clock=self._clock, emit=self._emit)

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
        if await self._all_left(grace):
            return
        for session in list(self._sessions):
            session.dismiss()
        if await self._all_left(FAREWELL):
            return
        for session in list(self._sessions):
            if session.channel is not None:
                session.channel.abort()

    async def _all_left(self, seconds: float) -> bool:
        """Wait until no client is left; tell whether that came in time."""
        try:
            async with asyncio.timeout(seconds):
                while self._sessions:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _session(self) -> Session:
        return Session(
            self._house,
            opened=self._opened,
            admit=self._admit,
            left=self._left,
            loop=asyncio.get_running_loop(),
        )

    def _opened(self, session: Session) -> None:
        """Know of a session."""
        self._sessions.add(session)
        assert session.channel is not None
        sock = session.channel.get_extra_info("socket")
        if sock is not None and not self.settings.local:
            # Replies are written in groups; waiting for more would only add delay (Nagle).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._sessions) - len(self._counted) > REFUSED:
            session.channel.abort()

    def _admit(self, session: Session) -> bytes | None:
        """Count a client in; return the refusal if there are too many."""
        if session.channel is None:  # gone already
            return None
        refusal = self._house.admit(session.peer, session.channel, session.loop.time())
        if refusal is None:
            self._counted[session] = session.peer
        return refusal

    def _left(self, session: Session) -> None:
        self._sessions.discard(session)
        if (peer := self._counted.pop(session, None)) is not None:
            self._house.crowd.leave(peer)
        if not self._sessions:
            self._empty.set()
