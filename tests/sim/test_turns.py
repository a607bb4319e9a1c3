"""Taking turns in one lane: nobody waits for somebody else's mailing, and what is urgent goes first."""

from collections.abc import Iterable

import pytest
from tests.sim import traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.peer import Pace
from tests.sim.traffic import Post

from backstamp.policy.destination import DestinationPolicy, PolicyTable

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
