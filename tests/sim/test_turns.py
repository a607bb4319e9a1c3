"""Taking turns in one lane: nobody waits for somebody else's mailing, and what is urgent goes first."""

import asyncio
from collections.abc import Iterable

import pytest
from tests.sim import traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.peer import Pace
from tests.sim.promise import Promise
from tests.sim.traffic import Post

from backstamp.delivery.router import Tables
from backstamp.policy.destination import DestinationPolicy, PolicyTable
from backstamp.policy.route import NextHop, Route, RouteTable, Smarthost

MAILING = b"mailing.example"
TRANSACTION = 3 * Pace().trip + Pace().work + 1e-3
"""Seconds of a transaction at most, of an ordinary message."""

SHAPES = {"one message": 10**9, "messages of 1000": 1000, "single messages": 1}


def policies(connections: int) -> PolicyTable:
    return PolicyTable(DestinationPolicy(connections=connections, initial_connections=connections, idle=30.0))


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("connections", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("shape", "tenant"),
    [
        # A tenant's own single messages go in the order they came; a priority says which are urgent.
        *((shape, b"other.example") for shape in SHAPES),
        ("one message", MAILING),
        ("messages of 1000", MAILING),
    ],
)
def test_a_single_message_passes_a_mailing(shape: str, tenant: bytes, connections: int, count: int) -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        mailing = traffic.mailing(traffic.people(count, "d.example"), each=SHAPES[shape], tenant=MAILING)
        singles = [Post(5.0 + number, (b"boss%d@d.example" % number,), tenant) for number in range(5)]
        async with sim.running():
            await sim.feed(mailing)
            for single in singles:
                await sim.feed([single])
            await sim.feed([Post(15.0, (b"end@d.example",))])
        assert await sim.verdict() == []
        late = [sim.delay(queue_id) for queue_id, (post, _) in sim.posts.items() if post in singles]
        assert len(late) == 5
        assert max(late) <= 2 * TRANSACTION
        assert sim.queue.ledger.messages, "the mailing was over before"

    simulate(test, policies=policies(connections))


@pytest.mark.parametrize("connections", [1, 3])
def test_what_is_urgent_passes_what_is_not(connections: int) -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        slow = traffic.mailing(traffic.people(5000, "d.example"), tenant=MAILING, priority=-4)
        resets = traffic.resets(sim.chance, 1.0, 60.0, traffic.only("d.example"), priority=4)
        async with sim.running():
            await sim.feed(traffic.merged(slow, resets))
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        assert sim.percentile(b"accounts.example", 1.0) <= 3 * TRANSACTION
        assert sim.percentile(MAILING, 0.5) > 30

    simulate(test, policies=policies(connections))


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("via", [True, False], ids=["smarthost", "by MX"])
def test_the_priority_of_a_route_orders_its_mail_among_that_of_others(connections: int, via: bool) -> None:
    """Two routes by sender lead to one next hop: their mail takes turns there."""
    hub = Smarthost((NextHop("mx.d.example", 25),)) if via else None
    routes = RouteTable(
        [
            Route("*", hub, sender="mailing.example", priority=-9),
            Route("*", hub, sender="accounts.example", priority=9),
        ]
    )

    async def test(sim: Simulation) -> None:
        promise = Promise(connections=connections)
        sim.world.simple("d.example", promises=[promise])
        slow = traffic.mailing(traffic.people(5000, "d.example"), tenant=MAILING)
        resets = traffic.resets(sim.chance, 1.0, 60.0, traffic.only("d.example"))
        async with sim.running():
            await sim.feed(traffic.merged(slow, resets))
            assert await sim.empty(within=3600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert sim.percentile(b"accounts.example", 1.0) <= 3 * TRANSACTION
        assert sim.percentile(MAILING, 0.5) > 30

    simulate(test, tables=Tables(routes, policies(connections)), looks=1.0)


def test_what_is_not_urgent_is_not_starved() -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        urgent = traffic.mailing(traffic.people(5000, "d.example"), tenant=MAILING, priority=9)
        calm = traffic.steady(
            sim.chance, 0.5, 60.0, traffic.only("d.example"), tenant=b"calm.example", priority=-9
        )
        async with sim.running():
            await sim.feed(traffic.merged(urgent, calm))
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        assert len(sim.delays[b"calm.example"]) > 20

    simulate(test, policies=policies(1))


def octets(sim: Simulation, tenant: bytes, until: float) -> int:
    """Return the octets of a tenant's messages that were delivered before a second."""
    return sum(
        sim.posts[queue_id][0].size
        for (queue_id, _), at in sim.delivered.items()
        if at < until and sim.posts[queue_id][0].tenant == tenant
    )


def test_tenants_share_by_octets_and_not_by_messages() -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        streams: Iterable[Post] = traffic.merged(
            traffic.mailing(traffic.people(400, "d.example"), tenant=b"large.example", size=200_000),
            traffic.mailing(traffic.people(40_000, "d.example"), tenant=b"small.example", size=4_000),
        )
        async with sim.running():
            await sim.feed(streams)
            await sim.feed([Post(600.0, (b"end@d.example",))])
        assert await sim.verdict() == []
        large, small = octets(sim, b"large.example", 600), octets(sim, b"small.example", 600)
        assert sim.queue.ledger.messages
        assert 0.8 < large / small < 1.25

    simulate(test, policies=policies(1))


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_tenants_of_every_size_have_the_same_share(count: int, connections: int) -> None:
    """One mails a hundred times as many as another, and ten times as a third: the small are done first."""
    sizes = {b"huge.example": count, b"middle.example": count // 10, b"small.example": count // 100}

    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        streams = [
            traffic.mailing(traffic.people(size, "d.example"), tenant=tenant)
            for tenant, size in sizes.items()
        ]
        async with sim.running():
            await sim.feed(traffic.merged(*streams))
            assert await sim.empty(within=86400)
        assert await sim.verdict() == []
        # Each had its turn of as many as still waited: three of three, then two of two.
        total = sim.percentile(b"huge.example", 1.0)
        assert sim.percentile(b"small.example", 1.0) <= 1.1 * 0.03 * total + 5
        assert sim.percentile(b"middle.example", 1.0) <= 1.1 * 0.2 * total + 5
        assert {tenant: len(delays) for tenant, delays in sim.delays.items()} == sizes

    simulate(test, policies=policies(connections), looks=60.0)


def test_priorities_share_nine_to_one() -> None:
    """Nine turns in ten go to the highest that waits; the lower ones take turns in the tenth."""
    levels = {9: b"first.example", 0: b"second.example", -9: b"third.example"}

    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        streams = [
            traffic.mailing(traffic.people(2000, "d.example"), tenant=tenant, priority=level)
            for level, tenant in levels.items()
        ]
        async with sim.running():
            await sim.feed(traffic.merged(*streams))
            while len(sim.delivered) < 1000:
                await asyncio.sleep(0.1)
            counts = [len(sim.delays[tenant]) for tenant in levels.values()]
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        assert 0.89 < counts[0] / sum(counts) < 0.92
        assert abs(counts[1] - counts[2]) <= 2
        # While the highest has something waiting nobody below gets more than that.
        assert sim.percentile(b"first.example", 1.0) < 0.4 * sim.percentile(b"third.example", 1.0)

    simulate(test, policies=policies(1), looks=60.0)
