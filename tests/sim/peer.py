"""One address of a mail host in memory: its habits, what it was promised, and its books."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from tests.sim.habits import Answer, Habit
from tests.sim.promise import Promise

from backstamp.mail.fault import Phase

if TYPE_CHECKING:
    from tests.sim.world import World

Take = tuple[float, bytes, int, bool]
"""When, which message (`World.name`), for how many recipients, and whether that was acknowledged."""


class Pace(msgspec.Struct, frozen=True):
    """How far a host is and how fast. Seconds, seconds, and octets in a second."""

    trip: float = 0.02
    """A round trip, on the average; each takes between half and one and a half of it."""
    work: float = 0.02
    """What it needs to take a message."""
    octets: float = 10e6


class Peer:
    """One address of a mail host. `books` are what it saw: `(second, source)`, with recipients for a MAIL."""

    def __init__(
        self,
        world: "World",
        name: str,
        address: str,
        habits: Sequence[Habit],
        promises: Sequence[Promise],
        *,
        pace: Pace,
        extensions: dict[str, str],
        tls: str = "",
    ) -> None:
        self.world = world
        self.name = name
        self.address = address
        self.promises = promises
        self.pace = pace
        self.tls = tls
        """Empty: it offers none; `broken`: it offers it and fails; else its version and cipher."""
        self.extensions = extensions | ({"STARTTLS": ""} if tls else {})
        size = extensions.get("SIZE", "")
        self.size_limit = int(size) if size else None
        self.connections: list[tuple[float, str]] = []
        self.mails: list[tuple[float, str, int]] = []
        self.takes: list[Take] = []
        self.codes: Counter[int] = Counter()
        """Replies given, by code; one for a transaction's recipients each."""
        self.present = 0
        self.of_connect = _who(habits, "connect")
        self.of_greet = _who(habits, "greet")
        self.of_mail = _who(habits, "mail")
        self.of_rcpt = _who(habits, "rcpt")
        self.of_data = _who(habits, "data")
        self.of_final = _who(habits, "final")
        self.waits = _who(habits, "wait")
        self.of_end = _who(habits, "ended")

    def trip(self) -> float:
        """Return how long a round trip takes now."""
        return self.pace.trip * (0.5 + self.world.chance.random())


def _who(habits: Sequence[Habit], step: str) -> tuple[Callable[..., Any], ...]:
    """Return the methods of those habits that do something at a step."""
    return tuple(getattr(one, step) for one in habits if getattr(type(one), step) is not getattr(Habit, step))


class Visit:
    """One connection, from the begin of its dialling to its end."""

    __slots__ = ("_ended", "mails", "peer", "source")

    def __init__(self, peer: Peer, source: str) -> None:
        self.peer = peer
        self.source = source
        self.mails = 0
        self._ended = False
        now = self.now
        peer.present += 1
        peer.connections.append((now, source))
        for promise in peer.promises:
            promise.dialled(now, source)

    @property
    def now(self) -> float:
        return self.peer.world.loop.time()

    @property
    def chance(self) -> random.Random:
        return self.peer.world.chance

    @property
    def ended(self) -> bool:
        return self._ended

    def ask(self, step: Sequence[Callable[..., Answer]], *about: Any) -> Answer:
        """Return what the first habit says that speaks up."""
        for habit in step:
            if (answer := habit(self, *about)) is not None:
                return answer
        return None

    def wait(self, phase: Phase) -> float:
        """Return how much longer a step takes than usual."""
        return float(sum(habit(self, phase) for habit in self.peer.waits))

    def end(self) -> None:
        """It is over; again changes nothing."""
        if self._ended:
            return
        self._ended = True
        self.peer.present -= 1
        for promise in self.peer.promises:
            promise.ended(self.source)
        for habit in self.peer.of_end:
            habit(self)
