"""New tables in the middle of work: what waits goes by them at once, what is under way ends as it began."""

import asyncio

import pytest
from tests.sim import traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Limits, Promise

from backstamp.delivery.router import Tables
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rate

BEFORE = DestinationPolicy(connections=10, initial_connections=10, recipients_per_transaction=10, idle=60.0)
AFTER = DestinationPolicy(
    connections=2,
    initial_connections=2,
    recipients_per_transaction=5,
    message_rate=Rate(2, 1.0),
    messages_per_connection=50,
    idle=60.0,
)
HELD = Limits(connections=2, message_rate=Rate(2, 1.0), recipients=5, messages_per_connection=50)

GRACE = 1.0
"""Seconds within which transactions under way end here."""


@pytest.mark.parametrize(
    ("each", "count"), [(1, 2000), (10_000, 10_000)], ids=["single messages", "one message"]
)
def test_a_new_policy_holds_at_once(each: int, count: int) -> None:
    async def test(sim: Simulation) -> None:
        promise = Promise(connections=10, recipients=10)
        peer = sim.world.simple("d.example", promises=[promise])
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(count, "d.example"), each=each))
            await asyncio.sleep(5)
            assert promise.most == 10
            sim.dispatcher.reload(Tables(policies=PolicyTable(AFTER)), 1000)
            promise.change(HELD, sim.loop.time() + GRACE)
            await asyncio.sleep(2 * GRACE)
            assert peer.present <= 2
            sim.dispatcher.reload(Tables(policies=PolicyTable(BEFORE)), 1000)
            promise.change(Limits(connections=10, recipients=10), sim.loop.time())
            assert await sim.empty(within=600)
            assert await sim.idle() == []
        assert await sim.verdict() == []

    simulate(test, policies=PolicyTable(BEFORE), looks=1.0)


def test_idle_sessions_above_a_new_limit_end() -> None:
    async def test(sim: Simulation) -> None:
        peer = sim.world.simple("d.example")
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(1000, "d.example")))
            assert await sim.empty(within=30)
            assert peer.present > 2
            sim.dispatcher.reload(Tables(policies=PolicyTable(AFTER)), 1000)
            await asyncio.sleep(GRACE)
            assert peer.present <= 2
            assert await sim.idle() == []
        assert await sim.verdict() == []

    simulate(test, policies=PolicyTable(BEFORE), looks=1.0)


def test_sites_that_get_a_provider_share_its_limits_at_once() -> None:
    async def test(sim: Simulation) -> None:
        shared = Promise()
        names = [f"d{number}.example" for number in range(5)]
        for number, name in enumerate(names):
            sim.world.domain(name, f"mx{number}.big.example")
            sim.world.host(f"mx{number}.big.example", promises=[shared])
        many = traffic.crowd(sim.chance, 3000, traffic.zipf(names))
        async with sim.running():
            await sim.feed(traffic.mailing(many))
            await asyncio.sleep(5)
            assert shared.most > 10
            limits = {"connections": 3, "message_rate": Rate(20, 1.0)}
            provider = Provider("big", ("*.big.example",), limits)
            sim.dispatcher.reload(Tables(policies=PolicyTable(BEFORE, providers=[provider])), 1000)
            shared.change(Limits(connections=3, message_rate=Rate(20, 1.0)), sim.loop.time() + GRACE)
            assert await sim.empty(within=600)
            assert await sim.idle() == []
        assert await sim.verdict() == []

    simulate(test, policies=PolicyTable(BEFORE), looks=1.0)


def test_lanes_without_mail_are_put_away() -> None:
    """A reload moves what waits for a retry of its lane; a lane that has nothing then is no lane."""

    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example", promises=[Promise(message_rate=Rate(1, 60.0))])
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(5, "d.example")))
            await asyncio.sleep(90)
            for ten in range(10):
                tables = Tables(policies=PolicyTable(DestinationPolicy(message_rate=Rate(1, 60.0 + ten))))
                sim.dispatcher.reload(tables, 1000)
                await asyncio.sleep(0.5)
            assert await sim.empty(within=600)
            assert await sim.idle() == []
        assert await sim.verdict() == []

    simulate(test, policies=PolicyTable(DestinationPolicy(message_rate=Rate(1, 60.0))), looks=1.0)
