"""Very many destinations at once: the dead and the slow hold up nobody; what can go together does."""

import asyncio

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.peer import Pace

from backstamp.delivery.sorter import QUESTIONS
from backstamp.mail.fault import Phase
from backstamp.policy.destination import DestinationPolicy, PolicyTable
from backstamp.policy.route import NextHop, Route, RouteTable, Smarthost


async def last_of_the_living(
    sim: Simulation, count: int, connections: int, *, dead: int, stalling: int
) -> float:
    """Mail to everybody twice; return when 99 in 100 of the recipients at sound hosts had theirs."""
    names = [f"d{number}.example" for number in range(count)]
    for number, name in enumerate(names):
        manner: list[habits.Habit] = []
        if number % 100 == 1 and dead:
            manner = [habits.Dead(silent=True)]
        elif number % 100 == 2 and stalling:
            manner = [habits.Slow(250, Phase.GREETING, Phase.MAIL)]
        sim.world.simple(name, *manner)
    sound = [name for number, name in enumerate(names) if number % 100 not in (1, 2)]
    sick = [name for number, name in enumerate(names) if number % 100 in (1, 2)]
    recipients = [b"%d@%b" % (number, name.encode()) for name in sound for number in (1, 2)]
    others = [b"%d@%b" % (number, name.encode()) for name in sick for number in (1, 2)]
    async with sim.running():
        if dead or stalling:
            await sim.feed(traffic.mailing(others, tenant=b"sick.example"))
        await sim.feed(traffic.mailing(recipients, tenant=b"sound.example"))
        watched = asyncio.create_task(most_tasks(sim))
        await sim.empty(within=600)
        watched.cancel()
        if not (dead or stalling):
            assert not sim.queue.ledger.messages
        # A lane is a record and costs no task; a connection costs one, and two more while it is dialled.
        assert await watched <= 3 * connections + QUESTIONS + 50
    assert await sim.verdict() == []
    return sim.percentile(b"sound.example", 0.99)


async def most_tasks(sim: Simulation) -> int:
    """Return the most tasks there ever were, when it is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, len(asyncio.all_tasks(sim.loop)))
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return most


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_dead_and_stalling_destinations_hold_up_nobody(count: int) -> None:
    most = count // 5
    alone = simulate(lambda sim: last_of_the_living(sim, count, most, dead=0, stalling=0), connections=most)
    among = simulate(lambda sim: last_of_the_living(sim, count, most, dead=1, stalling=1), connections=most)
    assert among <= 1.2 * alone


def test_a_thousand_domains_behind_one_smarthost_are_few_transactions() -> None:
    async def test(sim: Simulation) -> None:
        [smarthost] = sim.world.host("smart.example")
        people = [b"user@d%d.example" % number for number in range(1000)]
        async with sim.running():
            await sim.feed(traffic.mailing(people, each=1000))
            assert await sim.empty(within=600)
        assert await sim.verdict() == []
        assert len(smarthost.mails) == 10

    routes = RouteTable([Route("*", Smarthost((NextHop("smart.example", 25),)))])
    simulate(test, routes=routes, policies=PolicyTable(DestinationPolicy(recipients_per_transaction=100)))


def test_a_site_that_moves_takes_its_mail_along() -> None:
    async def test(sim: Simulation) -> None:
        world = sim.world
        [old], [new] = world.host("old.example"), world.host("new.example")
        names = [f"d{number}.example" for number in range(20)]
        for name in names:
            world.domain(name, "old.example")
            world.domain(name, "new.example", since=100)
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.crowd(sim.chance, 2000, traffic.zipf(names)), rate=10))
            assert await sim.empty(within=600)
        assert await sim.verdict() == []
        assert max(at for at, _, _ in old.mails) < 100 + 61 + 10
        assert len(new.mails) > 200
        assert sim.counts["deferred"] == 0

    simulate(test)


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_hosts_that_refuse_every_second_take_nothing_from_the_others(count: int) -> None:
    """What fails at one destination says nothing about how many connections the relay may have."""

    async def last(sim: Simulation, *, refusing: int) -> float:
        far = Pace(trip=1.0)
        names = [f"d{number}.example" for number in range(100)]
        for name in names:
            sim.world.domain(name, f"mx.{name}")
            sim.world.host(f"mx.{name}", pace=far)
        dead = [f"dead{number}.example" for number in range(refusing)]
        for name in dead:
            sim.world.simple(name, habits.Dead())
        refused = [b"u@%b" % name.encode() for name in dead]
        many = [b"%d@%b" % (number, name.encode()) for name in names for number in range(count // 10)]
        streams = [traffic.mailing(refused, rate=3, tenant=b"sick.example")]
        streams += [traffic.mailing(many, tenant=b"sound.example")]
        async with sim.running():
            await sim.feed(traffic.merged(*streams))
            await sim.empty(within=600)
        assert await sim.verdict() == []
        return sim.percentile(b"sound.example", 1.0)

    alone = simulate(lambda sim: last(sim, refusing=0), connections=100)
    among = simulate(lambda sim: last(sim, refusing=count), connections=100)
    assert among <= 1.2 * alone


def test_who_has_no_host_waits_for_whoever_tries_one() -> None:
    """While one worker dials a host that was dead, the others neither dial nor ask again and again."""

    async def test(sim: Simulation) -> None:
        peer = sim.world.simple("d.example", habits.Dead(silent=True, since=5, until=600))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(2000, "d.example")))
            assert await sim.empty(within=7200)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert sum(5 < at < 600 for at, _ in peer.connections) < 50

    policy = DestinationPolicy(connections=8, initial_connections=8, messages_per_connection=10)
    simulate(test, policies=PolicyTable(policy), looks=1.0)
