"""A client that does as a test says: for tests of the peers themselves."""

import functools
import random
from collections.abc import Awaitable, Callable, Sequence

from tests.sim.peer import Peer, Visit
from tests.sim.talk import Talk
from tests.sim.virtual import run
from tests.sim.world import World

from backstamp.delivery.outside import Candidate, Manner, Source
from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal
from backstamp.net.transaction import Result, Transaction
from backstamp.policy.destination import DestinationPolicy, Timeouts, Tls


class Client:
    """Talks to one peer, and notes what was settled and when the dot went out."""

    def __init__(self, peer: Peer, source: str = "192.0.2.1", timeouts: Timeouts | None = None) -> None:
        self.peer = peer
        self.world = peer.world
        self.settled: list[tuple[Reply, list[int]]] = []
        self.dots: list[list[int]] = []
        self.hold: Awaitable[None] | None = None
        self._source = Source(source)
        self._policy = DestinationPolicy(timeouts=timeouts or Timeouts())
        self._candidate = Candidate(peer.name, peer.address, 25)

    @property
    def now(self) -> float:
        return self.world.loop.time()

    async def dial(self) -> Visit | Fault:
        return await self.world.dial(self._candidate, self._source, self._policy.timeouts.connect)

    async def open(self, tls: Tls = Tls.MAY) -> Talk | Refusal | Fault:
        wire = await self.dial()
        if isinstance(wire, Fault):
            return wire
        return await self.world.open(wire, self._candidate, Manner(self._policy, "client.test", tls=tls))

    async def session(self) -> Talk:
        """Open a session; there must be one."""
        opened = await self.open()
        assert isinstance(opened, Talk), opened
        return opened

    async def send(self, session: Talk, *recipients: bytes, sender: bytes = b"a@b.example") -> Result:
        """Run a transaction with a message of its own."""
        name = b"Message-ID: <%d>\r\n\r\nHello\r\n" % len(self.dots)
        return await session.transact(
            Transaction(sender, tuple(map(Recipient, recipients or (b"u@d.example",))), name),
            self._settled,
            self._dotting,
        )

    def _settled(self, reply: Reply, accepted: Sequence[int]) -> None:
        self.settled.append((reply, list(accepted)))

    def _dotting(self, accepted: Sequence[int]) -> Awaitable[None] | None:
        self.dots.append(list(accepted))
        return self.hold


def codes(result: Result) -> list[int | None]:
    """Return the codes a transaction's recipients were told."""
    return [None if reply is None else reply.code for reply in result.recipients]


Test = Callable[[World], Awaitable[None]]


def in_a_world(test: Test) -> Callable[[], None]:
    """Run a test on virtual time, in an empty world."""

    async def main(chance: random.Random) -> None:
        await test(World(chance))

    @functools.wraps(test)
    def sync() -> None:
        run(main, 1)

    del sync.__wrapped__  # pytest would ask for the world as a fixture
    return sync
