"""Lanes at work: bounds shared by all, bugs that cost nobody anything, and the way out."""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from tests.sim.virtual import VirtualClock, run
from tests.support.queues import message

from backstamp.clock import Clock, SystemClock
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.outside import Candidate, Manner, Source
from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Tables
from backstamp.delivery.tell import Teller
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result, Transaction
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Rate
from backstamp.policy.mx import Addresses, DnsFault, Exchanger, Exchangers
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import NextHop, Route, RouteTable, Smarthost
from backstamp.queue.memory import MemoryQueue
from backstamp.telemetry import events
from backstamp.telemetry.events import Event

OK = Reply(250, "2.0.0 ok")
CLOCK = SystemClock()


class Names:
    """Every domain is its own host, each with an address of its own."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        return Exchangers((Exchanger(0, domain),))

    async def addresses(self, host: str) -> Addresses | DnsFault:
        number = len(self._known) + 1
        return Addresses((self._known.setdefault(host, f"127.0.{number // 256}.{number % 256}"),))


class Session:
    """A connection that takes everything, when it is let."""

    size_limit = None
    peer = ""
    tls = ""

    def __init__(self, world: "World", host: str) -> None:
        self.usable = True
        self.extensions: dict[str, str] = {}
        self._world = world
        self._host = host

    async def transact(
        self,
        transaction: Transaction,
        settled: Callable[[Reply, Sequence[int]], None],
        dotting: Callable[[Sequence[int]], object],
    ) -> Result:
        world = self._world
        world.busy[self._host] += 1
        world.most = max(world.most, world.held)
        await world.during(self._host)
        world.busy[self._host] -= 1
        dotting(range(len(transaction.recipients)))
        settled(OK, range(len(transaction.recipients)))
        return Result([OK] * len(transaction.recipients), OK, Reply(354), OK)

    async def close(self) -> None:
        self._world.held -= 1


class World:
    """A dispatcher over a queue in memory and hosts that do as they are told."""

    def __init__(
        self,
        *,
        connections: int = 100,
        routes: Sequence[Route] = (),
        clock: Clock = CLOCK,
        names: Any = None,
        **policy: Any,
    ) -> None:
        self.events: list[Event] = []
        self.told = asyncio.Event()
        self.queue = MemoryQueue(clock=clock, emit=self.emit)
        self.busy: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.held = self.most = 0
        self.healed = False
        self.delay = 0.0
        """Seconds a connect takes."""
        self.during: Callable[[str], Awaitable[None]] = self._at_once
        self.breaks: set[str] = set()
        policy.setdefault("retry", RetryPolicy((0.05,), 60.0))
        policy.setdefault("private_addresses", True)
        self.policy = DestinationPolicy(**policy)
        self.routes = list(routes)
        self.dispatcher = Dispatcher(
            self.queue,
            self,
            names or Names(),
            tables=self.tables(),
            reporter=Reporter(self.queue, hostname="r", clock=clock, entropy=bytes, emit=self.emit),
            clock=clock,
            chance=lambda: 0.0,
            tell=Teller(self.emit, clock, trace=False),
            hostname="r",
            connections=connections,
        )

    def tables(self) -> Tables:
        return Tables(RouteTable(self.routes), PolicyTable(self.policy))

    async def _at_once(self, host: str) -> None:
        await asyncio.sleep(0)

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()

    async def dial(self, candidate: Candidate, source: Source, seconds: float) -> str | Fault:
        await asyncio.sleep(self.delay)
        self.tries[candidate.name] += 1
        if candidate.name in self.breaks:
            raise ZeroDivisionError(candidate.name)
        if candidate.name.startswith("dead") and not self.healed:
            return Fault(Phase.CONNECT, "refused", "no connection")
        return candidate.name

    async def open(self, wire: str, candidate: Candidate, manner: Manner) -> Session:
        self.held += 1
        self.opened[candidate.name] += 1
        return Session(self, candidate.name)

    def hang_up(self, wire: str) -> None:
        raise AssertionError("nobody races here")

    async def until(self, kind: type[Event], count: int) -> None:
        async with asyncio.timeout(10):
            while sum(isinstance(event, kind) for event in self.events) < count:
                self.told.clear()
                await self.told.wait()

    @contextlib.asynccontextmanager
    async def running(self, grace: float = 1.0) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.dispatcher.run())
            await asyncio.sleep(0)
            yield
            await self.dispatcher.drain(grace)
            task.cancel()


async def test_all_lanes_share_a_bound_and_each_gets_its_turn() -> None:
    world = World(connections=3, idle=0.01)
    for number in range(30):
        await world.queue.append(message(b"a@d%d.example" % (number % 10)))
    async with world.running():
        await world.until(events.Delivered, 30)
    assert world.most <= 3
    assert len(world.opened) == 10


async def test_a_lane_is_forgotten_when_nobody_needs_it() -> None:
    world = World(idle=0.01)
    await world.queue.append(message(b"a@d.example"))
    async with world.running():
        await world.until(events.Delivered, 1)
        assert world.dispatcher.lanes == 1
        async with asyncio.timeout(5):
            while world.dispatcher.lanes or world.dispatcher.connections:
                await asyncio.sleep(0.01)
        assert world.held == 0
        await world.queue.append(message(b"b@d.example"))
        await world.until(events.Delivered, 2)


async def test_a_bug_in_one_attempt_costs_no_mail_and_nobody_else() -> None:
    """Security 20."""
    world = World()
    world.breaks.add("broken.example")
    await world.queue.append(message(b"a@broken.example"))
    await world.queue.append(message(b"b@fine.example"))
    async with world.running():
        await world.until(events.Delivered, 1)
        await world.until(events.Alarm, 2)
        world.breaks.clear()
        await world.until(events.Delivered, 2)
    assert not [event for event in world.events if isinstance(event, events.Failed)]
    alarm = next(event for event in world.events if isinstance(event, events.Alarm))
    assert "ZeroDivisionError" in alarm.problem


async def test_a_bug_that_stays_ends_with_the_lifetime_and_a_report() -> None:
    """Security 20."""
    world = World(retry=RetryPolicy((0.02,), 0.0))
    world.breaks.add("broken.example")
    await world.queue.append(message(b"a@broken.example", arrival=0.0))
    async with world.running():
        await world.until(events.Bounced, 1)


async def test_dead_hosts_hold_up_nobody() -> None:
    world = World(connections=4)
    for number in range(50):
        await world.queue.append(message(b"a@dead%d.example" % number))
    await world.queue.append(message(b"b@fine.example"))
    async with world.running():
        await world.until(events.Delivered, 1)


async def test_new_routes_are_for_new_lanes() -> None:
    world = World(idle=0.01)
    async with world.running():
        await world.queue.append(message(b"a@d.example"))
        await world.until(events.Delivered, 1)
        async with asyncio.timeout(5):
            while world.dispatcher.lanes:
                await asyncio.sleep(0.01)
        world.routes = [Route("*", Smarthost((NextHop("hub.example", 2525),)))]
        world.dispatcher.reload(world.tables(), 100)
        await world.queue.append(message(b"a@d.example"))
        await world.queue.append(message(b"a@e.example"))
        await world.until(events.Delivered, 3)
    assert world.opened["hub.example"] >= 1
    assert world.opened["e.example"] == 0


async def test_draining_lets_transactions_end_and_starts_no_new_ones() -> None:
    world = World(connections=1)
    going = asyncio.Event()

    async def slow(_: str) -> None:
        going.set()
        await asyncio.sleep(0.1)

    world.during = slow
    for _ in range(5):
        await world.queue.append(message(b"a@d.example"))
    async with world.running(grace=5.0):
        await going.wait()
    assert len([event for event in world.events if isinstance(event, events.Delivered)]) == 1
    assert world.queue.ledger.waiting == 4


async def test_draining_gives_up_after_its_grace() -> None:
    world = World()
    going = asyncio.Event()

    async def for_ever(_: str) -> None:
        going.set()
        await asyncio.sleep(1000)

    world.during = for_ever
    await world.queue.append(message(b"a@d.example"))
    async with asyncio.timeout(5), world.running(grace=0.05):
        await going.wait()
    assert world.queue.ledger.waiting == 1
    assert world.queue.ledger.claimed == 0


async def test_a_dead_host_is_tried_by_one_and_not_by_every_message() -> None:
    """A lane whose first host is dead: its mail goes to the second, and nobody waits for the first again."""
    world = World(retry=RetryPolicy((60.0,), 600.0), connections=1)
    for _ in range(20):
        await world.queue.append(message(b"a@dead.example"))
    async with world.running():
        await world.until(events.Deferred, 20)
    assert world.tries["dead.example"] == 1
    assert [event.mx for event in world.events if isinstance(event, events.HostDown)] == [
        "dead.example[127.0.0.1]:25"
    ]


async def test_a_host_that_comes_back_is_told_and_used() -> None:
    world = World(retry=RetryPolicy((0.05,), 60.0))
    await world.queue.append(message(b"a@dead.example"))
    async with world.running():
        await world.until(events.Deferred, 1)
        world.healed = True
        await world.until(events.Delivered, 1)
    assert sum(isinstance(event, events.HostUp) for event in world.events) == 1


# ---- on virtual time ----


def virtually(test: Callable[[Callable[..., World]], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a virtual loop of its own; it makes its world with what it is given."""

    def wrapped() -> None:
        async def main(_: object) -> None:
            await test(functools.partial(World, clock=VirtualClock(asyncio.get_running_loop())))

        run(main)

    wrapped.__name__ = test.__name__
    return wrapped


def delivered(world: World) -> int:
    return sum(isinstance(event, events.Delivered) for event in world.events)


@virtually
async def test_dead_hosts_leave_the_bound_of_all_lanes_as_it_is(make: Callable[..., World]) -> None:
    """Each failure halves the window of its own lane, never what the operator allows for all."""
    world = make(connections=8, idle=100.0)
    world.during = lambda _: asyncio.sleep(5.0)
    async with world.running():
        for number in range(10):
            await world.queue.append(message(b"a@dead%d.example" % number))
            await asyncio.sleep(1.5)
        for number in range(8):
            await world.queue.append(message(b"a@d%d.example" % number))
        await asyncio.sleep(4.0)
        assert sum(world.busy.values()) == 8


@virtually
async def test_who_is_idle_takes_what_comes_while_another_still_connects(make: Callable[..., World]) -> None:
    world = make(idle=60.0, initial_connections=2, connections=2)
    async with world.running():
        await world.queue.append(message(b"a@d.example"))
        await world.until(events.Delivered, 1)
        world.delay = 30.0
        world.during = lambda _: asyncio.sleep(1.0)
        for _ in range(2):
            await world.queue.append(message(b"a@d.example"))
        await asyncio.sleep(3.0)
        # The one with the session sent both; the other connects still, for nothing.
        assert delivered(world) == 3
        await world.queue.append(message(b"a@d.example"))
        await asyncio.sleep(1.5)
        assert delivered(world) == 4
        await asyncio.sleep(40.0)
        assert world.opened["d.example"] == 2


@virtually
async def test_who_may_hold_no_connection_any_more_wakes_who_is_idle(make: Callable[..., World]) -> None:
    world = make(idle=60.0, initial_connections=2, connections=2)
    world.during = lambda _: asyncio.sleep(1.0)
    async with world.running():
        await world.queue.append(message(b"a@d.example"))
        await world.until(events.Delivered, 1)
        for _ in range(2):
            await world.queue.append(message(b"a@d.example"))
        await world.until(events.Delivered, 3)
        assert world.held == 2
        tables = Tables(
            RouteTable(), PolicyTable(DestinationPolicy(connections=1, idle=60.0, private_addresses=True))
        )
        world.dispatcher.reload(tables, 1000)
        await world.queue.append(message(b"a@d.example"))
        await asyncio.sleep(1.5)
        assert (delivered(world), world.held) == (4, 1)


@virtually
async def test_a_reload_forgets_the_lanes_it_empties(make: Callable[..., World]) -> None:
    world = make(idle=0.5, connections=1)
    world.during = lambda _: asyncio.sleep(10.0)
    async with world.running():
        await world.queue.append(message(b"a@d.example"))
        await asyncio.sleep(1.0)
        world.policy = DestinationPolicy(private_addresses=True, message_rate=Rate(1, 3600.0))
        world.dispatcher.reload(world.tables(), 1000)
        for _ in range(2):
            await world.queue.append(message(b"a@e.example"))
        await asyncio.sleep(60.0)
        # One waits for its rate, without a worker.
        assert (delivered(world), world.dispatcher.lanes) == (2, 1)
        world.routes = [Route("*", Smarthost((NextHop("hub.example", 2525),)))]
        world.policy = DestinationPolicy(private_addresses=True, idle=0.5)
        world.dispatcher.reload(world.tables(), 1000)
        await asyncio.sleep(60.0)
        assert (delivered(world), world.opened["hub.example"]) == (3, 1)
        assert (world.dispatcher.lanes, world.dispatcher.connections) == (0, 0)


class SlowNames(Names):
    """Every answer takes a minute."""

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        await asyncio.sleep(60.0)
        return await super().exchangers(domain)


@virtually
async def test_what_is_asked_before_a_reload_goes_where_it_says_now(make: Callable[..., World]) -> None:
    world = make(names=SlowNames())
    async with world.running():
        await world.queue.append(message(b"a@d.example"))
        await asyncio.sleep(30.0)
        world.routes = [Route("*", Smarthost((NextHop("hub.example", 2525),)))]
        world.dispatcher.reload(world.tables(), 1000)
        await asyncio.sleep(60.0)
    assert (delivered(world), world.opened["hub.example"], world.opened["d.example"]) == (1, 1, 0)


@virtually
async def test_a_reload_is_harmless_before_and_after(make: Callable[..., World]) -> None:
    world = make()
    world.dispatcher.reload(world.tables(), 5)
    async with world.running():
        await world.queue.append(message(b"a@d.example"))
        await world.until(events.Delivered, 1)
    world.dispatcher.reload(world.tables(), 5)


@virtually
async def test_lanes_that_wait_for_a_permit_have_it_when_a_race_is_over(make: Callable[..., World]) -> None:
    """The permit of an address that lost is not kept while the one that won has a message to send."""

    class Two(Names):
        async def addresses(self, host: str) -> Addresses | DnsFault:
            return Addresses(("127.0.0.1", "127.0.0.2") if host == "two.example" else ("127.0.1.1",))

    world = make(names=Two(), connections=2, idle=1.0)
    world.hang_up = lambda _: None  # type: ignore[method-assign]
    async with world.running(grace=600.0):
        await world.queue.append(message(b"a@two.example"))
        await asyncio.sleep(5.0)
        world.during = lambda host: asyncio.sleep(500.0 if host == "two.example" else 0.0)
        world.delay = 2.0
        await world.queue.append(message(b"a@two.example"))
        await asyncio.sleep(1.0)
        assert world.dispatcher.connections == 2
        await world.queue.append(message(b"a@one.example"))
        await asyncio.sleep(10.0)
        assert delivered(world) == 2


@virtually
async def test_begun_mail_follows_the_new_route_of_its_sender(make: Callable[..., World]) -> None:
    """Also where the sender's domain is internationalized: routes name it in A-labels."""
    world = make(recipients_per_transaction=1, connections=1)
    world.during = lambda _: asyncio.sleep(10.0)

    def routed(hub: str) -> list[Route]:
        return [Route("*", Smarthost((NextHop(hub, 25),)), sender="xn--bcher-kva.example")]

    world.routes = routed("old.example")
    world.dispatcher.reload(world.tables(), 1000)
    async with world.running():
        people = [b"%d@d.example" % number for number in range(3)]
        await world.queue.append(message(*people, sender="x@bücher.example".encode()))
        await asyncio.sleep(5.0)
        world.routes = routed("new.example")
        world.dispatcher.reload(world.tables(), 1000)
        await asyncio.sleep(60.0)
    assert delivered(world) == 3
    assert world.opened == {"old.example": 1, "new.example": 1}
