"""What the sessions of a listener share: the door, the bounds, who judges, what is shown in TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from backstamp.listener.budget import Budget
from backstamp.listener.crowd import Crowd, Refusal
from backstamp.listener.descriptors import Descriptors
from backstamp.listener.intake import Door
from backstamp.listener.settings import ListenerSettings
from backstamp.listener.tally import Key, Tally
from backstamp.telemetry.events import Event, HandshakeFailed, Limited

if TYPE_CHECKING:  # who has no TLS and no AUTH does not pay for what they take
    from backstamp.listener.authority import Authority
    from backstamp.listener.certificates import Certificates


class Flushed(Protocol):
    """What has replies to write."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its loop."""
        ...

    def flush(self) -> None:
        """Write them."""
        ...


class Replies:
    """The replies of all sessions of a listener, written together at the end of the loop's turn.

    A client that has its reply at once asks again at once, alone: every write then wakes a
    sleeping peer, four times a message. Written together, the second finds it awake; that is a
    quarter of the time of a message.
    """

    def __init__(self) -> None:
        self._waiting: list[Flushed] = []

    def add(self, session: Flushed) -> None:
        """Write this session's replies before the loop waits again."""
        if not self._waiting:
            session.loop.call_soon(self._write)
        self._waiting.append(session)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for session in waiting:
            session.flush()


class House:
    """One listener's. `settings` and `certificates` may be replaced; new sessions see it."""

    def __init__(
        self,
        settings: ListenerSettings,
        door: Door,
        *,
        crowd: Crowd,
        budget: Budget,
        descriptors: Descriptors,
        authority: Authority | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.settings = settings
        self.door = door
        self.crowd = crowd
        self.budget = budget
        self.descriptors = descriptors
        self.authority = authority
        self.certificates = certificates
        self.replies = Replies()
        self._unheard = Tally()

    def admit(self, peer: str, transport: asyncio.BaseTransport, now: float) -> bytes | None:
        """Count a connection in, or return the refusal: then it is not counted, and must not leave."""
        last = self.descriptors.last(transport)
        return self.told(self.crowd.full(peer, now) if last else self.crowd.admit(peer, now))

    def told(self, refusal: Refusal | None) -> bytes | None:
        """Return the reply of a limit that is reached, and tell of it."""
        if refusal is None:
            return None
        if refusal.told:
            self.door.emit(limited(refusal, self.door.clock.wall()))
        return refusal.reply

    def unheard(self, client: str, stage: str, reason: str) -> None:
        """Tell that a client could not be heard: at once, and once a minute how often it came since."""
        if count := self._unheard.count((client, stage, reason), self.door.clock.monotonic()):
            self._tell_unheard((client, stage, reason), count)

    def poll(self) -> None:
        """Tell what is owed, and of certificates that end soon, though nobody comes."""
        for key, count in self._unheard.due(self.door.clock.monotonic()):
            self._tell_unheard(key, count)
        if self.certificates is not None:
            self.certificates.poll()

    def _tell_unheard(self, key: Key, count: int) -> None:
        client, stage, reason = key
        now = int(self.door.clock.wall() * 1e6)
        self.door.emit(HandshakeFailed(time=now, client=client, stage=stage, reason=reason, count=count))


class Visitor:
    """One client's rates."""

    def __init__(self, house: House, peer: str, monotonic: Callable[[], float]) -> None:
        self._house = house
        self._peer = peer
        self._monotonic = monotonic
        self._user = ""
        self._client = house.crowd.client(peer)

    def message(self, user: str, before: int) -> bytes | None:
        """Count a message (`transaction.Rates`)."""
        if user != self._user:
            self._user = user
            self._client = self._house.crowd.client(self._peer, user)
        return self._house.told(self._house.crowd.message(self._client, self._monotonic(), before))

    def recipient(self, user: str) -> bytes | None:
        """Count a recipient of the message counted last."""
        assert user == self._user
        return self._house.told(self._house.crowd.recipient(self._client, self._monotonic()))


def limited(refusal: Refusal, wall: float) -> Event:
    """Return the event of a limit that is reached."""
    reply = refusal.reply.decode("ascii").rstrip()
    return Limited(
        time=int(wall * 1e6), client=refusal.client, limit=refusal.limit, reply=reply, count=refusal.told
    )
