"""An attempter at work: one lane, hosts with habits, a queue in memory; for tests on virtual time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from tests.sim.virtual import VirtualClock
from tests.support.queues import message

from backstamp.delivery.attempt import Attempter
from backstamp.delivery.feedback import Feedback
from backstamp.delivery.history import History
from backstamp.delivery.lane import Job, Lane, Way
from backstamp.delivery.opening import Opener, Slot
from backstamp.delivery.outside import Candidate, Manner, Source
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Throttle
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result, Transaction
from backstamp.policy.adapt import Adaptations
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.retry import RetryPolicy
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Event

OK, DATA = Reply(250, "2.0.0 ok"), Reply(354, "go on")
TOO_MANY = Reply(452, "4.5.3 too many recipients")
REFUSED = Fault(Phase.CONNECT, "refused", "no connection")
D, F, T, Q, H = Stamp.DELIVERED, Stamp.FAILED, Stamp.TODO, Stamp.DOUBT, Stamp.HELD

Settled = Callable[[Reply, Sequence[int]], None]
Dotting = Callable[[Sequence[int]], Awaitable[None] | None]
Habit = Callable[[Transaction, Settled, Dotting], Awaitable[Result]]


async def takes(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
    """Take the mail for everybody, in a second."""
    return await answering(*[OK] * len(transaction.recipients))(transaction, settled, dotting)


def answering(*replies: Reply, final: Reply = OK, seconds: float = 1.0) -> Habit:
    """Answer each RCPT so, the dot so."""

    async def habit(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
        assert len(replies) == len(transaction.recipients)
        await asyncio.sleep(seconds)
        accepted = [index for index, reply in enumerate(replies) if reply.positive]
        if not accepted:
            return Result([*replies], OK, Reply(503, "5.5.1 nobody"))
        if (permit := dotting(accepted)) is not None:
            await permit
        if final.positive:
            settled(final, accepted)
        return Result([*replies], OK, DATA, final)

    return habit


def at_most(count: int) -> Habit:
    """Take so many recipients in a transaction."""

    async def habit(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
        taken = min(count, len(transaction.recipients))
        refused = [TOO_MANY] * (len(transaction.recipients) - taken)
        return await answering(*[OK] * taken, *refused)(transaction, settled, dotting)

    return habit


async def breaks(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
    """End the session before the dot."""
    nobody: list[Reply | None] = [None] * len(transaction.recipients)
    return Result(nobody, fault=Fault(Phase.MAIL, "disconnected", "gone"))


async def vanishes(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
    """End the session after the dot."""
    everybody = range(len(transaction.recipients))
    if (permit := dotting(everybody)) is not None:
        await permit
    fault = Fault(Phase.FINAL, "disconnected", "gone")
    return Result([OK for _ in everybody], OK, DATA, None, fault, in_doubt=True)


async def is_a_bug(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
    raise ZeroDivisionError


class Session:
    """A session that does, in turn, as its host's habits say; the last one stays."""

    size_limit = None
    peer = tls = ""

    def __init__(self, world: "World", host: str) -> None:
        self.usable = True
        self.extensions = dict(world.extensions)
        self._world = world
        self._host = host

    async def transact(self, transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
        world = self._world
        world.transactions.append((self._host, [one.address.decode() for one in transaction.recipients]))
        habits = world.habits.get(self._host, [takes])
        result = await (habits.pop(0) if len(habits) > 1 else habits[0])(transaction, settled, dotting)
        final = result.final
        self.usable = result.fault is None and (final is None or final.code != 421)
        return result

    async def close(self) -> None:
        self._world.closed += 1


class World:
    """One lane, its hosts by name, a queue in memory."""

    def __init__(self, *hosts: str, suppression: Any = None, **knobs: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self.loop)
        self.events: list[Event] = []
        self.queue = MemoryQueue(clock=self.clock, emit=self.events.append)
        self.hosts = hosts or ("mx",)
        self.habits: dict[str, list[Habit]] = {}
        self.extensions: dict[str, str] = {"8BITMIME": ""}
        self.down: set[str] = set()
        self.dialled: list[str] = []
        self.transactions: list[tuple[str, list[str]]] = []
        self.closed = 0
        self.kicked = 0
        self.wanted = False
        """Whether others wait for the next connection."""
        self.given_back: list[Any] = []
        self.due: list[float] = []
        self.relayed: list[int] = []
        self._give_back = self.queue.give_back
        self.queue.give_back = self._given  # type: ignore[method-assign]
        knobs.setdefault("retry", RetryPolicy((60.0,), 3600.0))
        policy = DestinationPolicy(**knobs)
        throttle = Throttle("d.example", policy)
        throttle.window.size = 10.0
        self.lane: Lane[Any] = Lane("key", Way("d.example", policy, self._find), (throttle,))
        tell = Teller(self.events.append, self.clock, trace=False)
        feedback = Feedback(Adaptations(()), self.clock, tell, lambda: None)
        self.opener = Opener(
            self,
            hostname="r",
            clock=self.clock,
            tell=tell,
            feedback=feedback,
            own_names=frozenset(),
            freed=lambda _: None,
        )
        reporter: Any = SimpleNamespace(relayed=self._relayed)
        self.attempter = Attempter(
            self.queue,
            self.opener,
            clock=self.clock,
            chance=lambda: 0.0,
            tell=tell,
            feedback=feedback,
            reporter=reporter,
            history=History(),
            suppression=suppression,
            kick=self._kick,
            wanted=lambda _: self.wanted,
        )

    def _kick(self, lane: Lane[Any]) -> None:
        self.kicked += 1

    def _given(self, claim: Any, retry_at: float) -> None:
        self.given_back.append(claim)
        self.due.append(retry_at - self.clock.wall())
        self._give_back(claim, retry_at)

    async def _relayed(self, claim: Any, load: Any, outcomes: dict[int, Outcome]) -> None:
        self.relayed += outcomes

    async def _find(self) -> AsyncIterator[tuple[Candidate, ...] | Outcome]:
        for host in self.hosts:
            yield (Candidate(host, host, 25),)

    async def dial(self, candidate: Candidate, source: Source, seconds: float) -> str | Fault:
        await asyncio.sleep(0.01)
        self.dialled.append(candidate.name)
        return REFUSED if candidate.name in self.down else candidate.name

    async def open(self, wire: str, candidate: Candidate, manner: Manner) -> Session:
        return Session(self, wire)

    def hang_up(self, wire: str) -> None:
        raise AssertionError("nobody races here")

    async def post(self, *recipients: bytes, **how: Any) -> bytes:
        """Queue a message, and bring its deliveries to the lane; return its id."""
        sent = message(*recipients, arrival=self.clock.wall(), **how)
        await self.queue.append(sent)
        for claim in await self.queue.claim(100):
            self.lane.offer(claim)
        return sent.queue_id

    def take(self) -> Job:
        job = self.lane.take()
        assert job is not None
        return job

    async def work(self, slot: Slot | None = None) -> Slot:
        """Work until the lane has nothing."""
        slot = slot or Slot(self.lane)
        while (job := self.lane.take()) is not None:
            slot.book(self.clock.monotonic())
            await self.attempter.run(job, self.lane, slot)
            slot.unbook()
        return slot

    def stamps(self, queue_id: bytes) -> list[Stamp]:
        entry = self.queue.find(queue_id)
        return [] if entry is None else [entry.stamp(number) for number in range(entry.facts.recipients)]

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def kinds(self) -> Counter[str]:
        return Counter(type(event).__name__ for event in self.events)

    def balanced(self) -> bool:
        """Whether every claim was given back, once, and nothing is counted any more."""
        [throttle] = self.lane.throttles
        once = len({id(one) for one in self.given_back}) == len(self.given_back)
        once = once and self.queue.ledger.claimed == 0
        return once and (throttle.booked, len(throttle.callers), len(self.lane.turns)) == (0, 0, 0)


def people(count: int, domain: str = "d.example") -> list[bytes]:
    return [b"%d@%b" % (number, domain.encode()) for number in range(count)]
