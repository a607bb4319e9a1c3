"""A relay's delivery side on virtual time: queue, dispatcher and reports, in a world of peers.

`Simulation` feeds it, listens to its events and compares what it says with what the peers
saw. `verdict` is what every simulation must survive: no promise broken, nothing delivered
twice, nobody lost, no word that is not true.
"""

import asyncio
import contextlib
import hashlib
import random
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from tests.sim import balance, build
from tests.sim.traffic import Post
from tests.sim.virtual import VirtualClock, run
from tests.sim.world import World

from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Tables
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Learned
from backstamp.mail.envelope import Envelope, Recipient, ordered
from backstamp.mail.release import date_time
from backstamp.policy.destination import PolicyTable
from backstamp.policy.route import RouteTable
from backstamp.queue import ids
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.port import Message
from backstamp.queue.stamps import Stamp
from backstamp.telemetry import events
from backstamp.telemetry.events import Event

Fate = tuple[str, str]
"""Queue id and recipient."""

BODY = b"x" * 1_000_000

T = TypeVar("T")


class Simulation:
    """One relay in one world. Make it on a running virtual loop."""

    def __init__(
        self,
        chance: random.Random,
        *,
        policies: PolicyTable | None = None,
        routes: RouteTable | None = None,
        tables: Tables | None = None,
        connections: int = 1000,
        learned: Iterable[Learned] = (),
        looks: float = 0.0,
    ) -> None:
        """Make one; every `looks` seconds on the average its books are checked (0: only at the end)."""
        self.chance = chance
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self.loop)
        self.world = World(chance)
        self.queue = MemoryQueue(clock=self.clock, emit=self._emit)
        self.posts: dict[str, tuple[Post, bytes]] = {}
        """By queue id: what was handed in, and its name (`World.name`)."""
        self.counts: Counter[str] = Counter()
        """Events by name."""
        self.delivered: dict[Fate, float] = {}
        """When (virtual seconds)."""
        self.failed: dict[Fate, str] = {}
        """With which reply."""
        self.reported: set[Fate] = set()
        self.alarms: list[str] = []
        self.delays: dict[bytes, array[float]] = {}
        """Seconds from acceptance to delivery, by tenant."""
        self.in_doubt: set[Fate] = set()
        self._trace = hashlib.blake2b()
        self._quiet: asyncio.Future[None] | None = None
        self.dispatcher = build.dispatcher(
            self.queue,
            self.world,
            tables=tables or Tables(routes or RouteTable(), policies or PolicyTable()),
            reporter=Reporter(
                self.queue,
                hostname=build.HOSTNAME,
                clock=self.clock,
                entropy=chance.randbytes,
                emit=self._emit,
            ),
            clock=self.clock,
            chance=chance.random,
            tell=Teller(self._emit, self.clock, trace=False),
            connections=connections,
            learned=learned,
        )
        self._looks = looks
        self.unbalanced: list[str] = []
        """What was wrong in the dispatcher's books (`balance`), and when."""

    # ---- running it ----

    @contextlib.asynccontextmanager
    async def running(self, grace: float = 700.0) -> AsyncIterator[None]:
        """Deliver meanwhile; at the end what is under way may finish within `grace` seconds."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.dispatcher.run(), name="dispatcher")
            looker = group.create_task(self._look(), name="looker")
            await asyncio.sleep(0)
            yield
            self._note(balance.wrong(self.dispatcher))
            looker.cancel()
            await self.dispatcher.drain(grace)
            task.cancel()

    async def _look(self) -> None:
        """Check the dispatcher's books at moments that have nothing to do with what it does."""
        chance = random.Random(1)
        while self._looks:
            await asyncio.sleep(chance.expovariate(1 / self._looks))
            self._note(balance.wrong(self.dispatcher))
            if balance.forgotten(self.dispatcher):
                # Between a place in a lane and somebody who takes it may be a turn of the loop.
                await asyncio.sleep(1.0)
                self._note(balance.forgotten(self.dispatcher))

    def _note(self, lines: Iterable[str]) -> None:
        self.unbalanced += [f"second {self.loop.time():.6f}: {line}" for line in lines]

    async def idle(self) -> list[str]:
        """Wait until idle sessions are over; return what the dispatcher has not put away then."""
        await asyncio.sleep(3600)
        return balance.left(self.dispatcher)

    async def feed(self, posts: Iterable[Post]) -> None:
        """Hand mail in, each at its moment."""
        for post in posts:
            if post.at > self.loop.time():
                await asyncio.sleep(post.at - self.loop.time())
            await self.hand_in(post)

    async def hand_in(self, post: Post) -> str:
        """Hand a message in now; return its queue id."""
        now = self.clock.wall()
        queue_id = ids.make(int(now * 1000), self.chance.randbytes(10))
        name = b"Message-ID: <%d@sim.example>" % len(self.posts)
        parameters = b"TENANT=%b" % post.tenant
        if post.priority is not None:
            parameters += b" MT-PRIORITY=%d" % post.priority
        if post.hold:
            parameters += b" HOLDUNTIL=" + date_time(now + post.hold).encode()
        envelope = Envelope(post.sender, ordered(map(Recipient, post.recipients)), parameters)
        text = ids.text(queue_id)
        self.posts[text] = (post, name)
        content = name + b"\r\n\r\n" + BODY[: post.size]
        await self.queue.append(Message(queue_id, int(now * 1e6), envelope, content))
        return text

    async def empty(self, within: float) -> bool:
        """Wait until nothing waits any more, at most so many seconds; tell whether nothing does."""
        if self.queue.ledger.messages:
            self._quiet = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._quiet
            self._quiet = None
        return not self.queue.ledger.messages

    # ---- listening ----

    def _emit(self, event: Event) -> None:
        self.counts[str(event.__struct_config__.tag)] += 1
        self._trace.update(repr(event).encode())
        if isinstance(event, events.Delivered):
            self._delivered(event)
        elif isinstance(event, events.Failed):
            self.failed[event.queue_id, event.recipient] = event.reply
        elif isinstance(event, events.Bounced):
            self.reported.update((event.queue_id, recipient) for recipient in event.recipients)
        elif isinstance(event, events.InDoubt):
            self.in_doubt.add((event.queue_id, event.recipient))
        elif isinstance(event, events.Alarm):
            self.alarms.append(f"{event.problem} ({event.action})")
        if self._quiet is not None and not self.queue.ledger.messages and not self._quiet.done():
            self._quiet.set_result(None)

    def _delivered(self, event: events.Delivered) -> None:
        known = self.posts.get(event.queue_id)
        if known is not None:
            self.delivered[event.queue_id, event.recipient] = self.loop.time()
            self.delays.setdefault(known[0].tenant, array("d")).append(event.delay)

    # ---- questions ----

    @property
    def trace(self) -> str:
        """A digest of every event so far."""
        return self._trace.hexdigest()

    def percentile(self, tenant: bytes, share: float) -> float:
        """Return the delay (seconds) within which so large a share of a tenant's recipients was delivered."""
        delays = sorted(self.delays[tenant])
        return delays[min(len(delays) - 1, int(share * len(delays)))]

    def delay(self, queue_id: str) -> float:
        """Return the delay of a message's last recipient, in seconds from when it was handed in."""
        post, _ = self.posts[queue_id]
        return max(self.delivered[queue_id, one.decode()] for one in post.recipients) - post.at

    async def waiting(self) -> set[Fate]:
        """Return whom the queue still has on its list."""
        found = set()
        for segment in self.queue.segments():
            for entry in segment.entries:
                if entry is not None:
                    text = ids.text(entry.queue_id)
                    envelope, _ = await self.queue.read(entry)
                    for ordinal in entry.ordinals(Stamp.TODO, Stamp.DOUBT, Stamp.FAILED, Stamp.HELD):
                        found.add((text, envelope.recipients[ordinal].address.decode()))
        return found

    async def verdict(self) -> list[str]:
        """Return everything that no relay may do, in words; empty when all is well."""
        wrong = [f"alarm: {alarm}" for alarm in self.alarms]
        wrong += [f"unbalanced: {line}" for line in self.unbalanced]
        wrong += [f"broken promise: {line}" for line in self.world.violations()]
        wrong += [f"sent again: {name.decode()} to {who.decode()}" for name, who in self.world.duplicates]
        waiting = await self.waiting()
        for queue_id, (post, name) in self.posts.items():
            for recipient in {*post.recipients}:
                fate = (queue_id, recipient.decode())
                told, acknowledged = fate in self.delivered, self.world.taken.get((name, recipient))
                if told and not acknowledged:
                    wrong.append(f"said to be delivered and is not: {fate}")
                if told + (fate in self.reported) + (fate in waiting) != 1:
                    wrong.append(
                        f"not exactly one of delivered {told}, reported {fate in self.reported},"
                        f" waiting {fate in waiting}: {fate}"
                    )
        return wrong


def simulate(test: Callable[[Simulation], Awaitable[T]], seed: int = 1, **options: Any) -> T:
    """Run a test with a simulation of its own on virtual time; options are `Simulation`'s."""

    async def main(chance: random.Random) -> T:
        return await test(Simulation(chance, **options))

    return run(main, seed)
