"""The ways in, put together: every listener and the door of HTTP, with the bounds and the judge they share.

One crowd, one budget and one authority for the whole process, so that a limit holds over all listeners and
who guesses passwords cannot begin anew at the next port.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backstamp.clock import Clock
from backstamp.config import Settings
from backstamp.listener.authentication import Refusal
from backstamp.listener.budget import Budget
from backstamp.listener.crowd import Crowd
from backstamp.listener.descriptors import PROBLEM, Descriptors
from backstamp.listener.house import House, Visitor, limited
from backstamp.listener.intake import Door
from backstamp.listener.mechanisms import Claim, Password, Token
from backstamp.listener.server import Listener, ReloadError
from backstamp.listener.settings import ListenerSettings
from backstamp.listener.transaction import Refuse
from backstamp.mail.envelope import Envelope
from backstamp.net.server_tls import CertificateError
from backstamp.policy.user import User
from backstamp.queue.port import Intake
from backstamp.telemetry.events import Alarm, Event

if TYPE_CHECKING:  # who takes no mail by HTTP, and knows no users, does not pay for what that takes
    from backstamp.inject.server import InjectServer
    from backstamp.listener.authority import Authority

EVERY = 60.0
"""Seconds between two looks at certificates and at limits of which something is owed."""

SOON = 1.0
"""Seconds between two looks at how many file descriptors are left."""


class Entrance:
    """All ways in of one relay."""

    def __init__(
        self,
        settings: Settings,
        queue: Intake,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        entropy: Callable[[int], bytes],
        once: Callable[[Envelope], bool],
        refuse: Refuse,
        grace: float,
    ) -> None:
        """Raises CertificateError if a file of a listener's TLS is no good."""
        self._settings = settings
        self._clock = clock
        self._emit = emit
        self._grace = grace
        limits = settings.listeners[0].limits
        self._crowd = Crowd(limits)
        self._budget = Budget(limits.content_memory)
        self._descriptors = Descriptors(clock=clock, emit=emit)
        self._authority: Authority | None = None
        if settings.auth.users or settings.auth.endpoint is not None:
            from backstamp.listener.authority import Authority

            self._authority = Authority(settings.auth, clock=clock, emit=emit, entropy=entropy)
        self.listeners = [
            Listener(
                listen,
                queue,
                clock=clock,
                emit=emit,
                entropy=entropy,
                once=once,
                refuse=refuse,
                crowd=self._crowd,
                budget=self._budget,
                descriptors=self._descriptors,
                authority=self._authority,
            )
            for listen in settings.listeners
        ]
        self.http: InjectServer | None = None
        if settings.http is not None:
            from backstamp.inject.server import InjectServer

            door = Door(queue, clock=clock, emit=emit, entropy=entropy, once=once, refuse=refuse)
            house = House(
                settings.http.listener,
                door,
                crowd=self._crowd,
                budget=self._budget,
                descriptors=self._descriptors,
            )
            self.http = InjectServer(
                settings.http,
                door,
                authenticate=self._authenticate,
                rates=lambda peer: Visitor(house, peer, clock.monotonic),
                admit=lambda peer, transport: house.admit(peer, transport, clock.monotonic()) is None,
                leave=self._crowd.leave,
                grace=grace,
            )

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where the listeners listen, then the door of HTTP."""
        found = [listener.address for listener in self.listeners]
        return found if self.http is None else [*found, self.http.address]

    @property
    def clients(self) -> int:
        """Clients connected, as the limit of connections counts them."""
        return self._crowd.connections

    def problem(self) -> str | None:
        """Return what keeps clients from being taken, None while all is well."""
        return PROBLEM if self._descriptors.scarce() else None

    def open(self) -> None:
        """Read the users file. Raises UsersError: it cannot be used."""
        if self._authority is not None:
            self._authority.open()

    async def run(self) -> None:
        """Look now and then at what nobody else would look at, at the users file every second."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look(), name="look")
            group.create_task(self._count(), name="descriptors")
            if self._authority is not None:
                group.create_task(self._authority.run(), name="users")

    async def _look(self) -> None:
        while True:
            for refusal in self._crowd.due(self._clock.monotonic()):
                self._emit(limited(refusal, self._clock.wall()))
            for listener in self.listeners:
                listener.poll()
            await asyncio.sleep(EVERY)

    async def _count(self) -> None:
        """Look at the file descriptors though nobody comes: where there is none left, nobody can."""
        while True:
            self._descriptors.scarce()
            await asyncio.sleep(SOON)

    def reload(self, settings: Settings) -> Sequence[str]:
        """Take new settings; return the names of what differs and takes a restart: addresses."""
        found = []
        new = list(settings.listeners)
        for old, listener in zip(self._settings.listeners, self.listeners, strict=True):
            # In their order: of two that let the system choose a port each has its own.
            if (fits := next((one for one in new if _place(one) == _place(old)), None)) is None:
                found = ["listen addresses"]
                continue
            new.remove(fits)
            try:
                listener.reload(self._named(fits))
            except (CertificateError, ReloadError) as error:
                self._alarm(str(error), "the listener stays as it was")
        if new:
            found = ["listen addresses"]
        self._crowd.limits = settings.listeners[0].limits
        self._budget.resize(settings.listeners[0].limits.content_memory)
        http, was = settings.http, self._settings.http
        if (http and _place(http.listener)) != (was and _place(was.listener)):
            found.append("http address")
        elif self.http is not None and http is not None:
            if http.auth and self._authority is None:
                text = f"{http.listener.place}: auth begins at a start only; restart to apply"
                self._alarm(text, "mail by HTTP is taken as it was")
            else:
                self.http.settings = replace(http, listener=self._named(http.listener))
        return found

    def _named(self, settings: ListenerSettings) -> ListenerSettings:
        """Return settings with the name the relay has everywhere until a restart."""
        return replace(settings, hostname=self._settings.hostname)

    def _alarm(self, problem: str, action: str) -> None:
        self._emit(Alarm(time=int(self._clock.wall() * 1e6), problem=problem, action=action))

    async def close(self) -> None:
        """Take nothing more; idle clients are sent away, those in a message may end it."""
        for listener in self.listeners:
            listener.stop_accepting()
        async with asyncio.TaskGroup() as group:
            for listener in self.listeners:
                group.create_task(listener.close(self._grace))
            if self.http is not None:
                group.create_task(self.http.close())
        if self._authority is not None:
            await self._authority.close()

    async def _authenticate(self, scheme: str, credentials: str, peer: str) -> User | None:
        """Judge credentials that came by HTTP (RFC 7617, RFC 6750)."""
        claim = _claim(scheme, credentials)
        if claim is None or self._authority is None:
            return None
        from backstamp.inject.server import UndecidedError

        verdict = await self._authority.check(claim, peer)
        if isinstance(verdict, Refusal):
            if verdict.reply.startswith(b"4"):
                raise UndecidedError(verdict.reply.decode("ascii").rstrip())
            return None
        return verdict


def _claim(scheme: str, credentials: str) -> Claim | None:
    if not credentials.isascii():
        return None
    if scheme == "bearer":
        return Token("", credentials, "Bearer")
    if scheme != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Password(name, password, "Basic") if colon else None


def _place(settings: ListenerSettings) -> tuple[str, int]:
    return settings.host, settings.port
