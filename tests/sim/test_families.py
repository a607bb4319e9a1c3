"""Hosts of both families: a dead one costs a quarter of a second, and what races is held to the limits."""

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Promise
from tests.sim.test_turns import TRANSACTION

from backstamp.delivery.opening import STAGGER
from backstamp.mail.fault import Phase
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rate

OPENING = 0.1
"""Seconds a connection and its greeting take at most, here."""


def both(sim: Simulation, promise: Promise, *manners: habits.Habit, host: str = "mx.d.example") -> None:
    """Add a host whose IPv6 address is asked first and has manners; its IPv4 address is well."""
    sim.world.host(host, *manners, promises=[promise], family=6)
    sim.world.host(host, promises=[promise])


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("connections", [2, 5])
def test_a_dead_family_costs_a_quarter_of_a_second(silent: bool, connections: int) -> None:
    async def test(sim: Simulation) -> None:
        promise = Promise(connections=connections)
        sim.world.domain("d.example", "mx.d.example")
        both(sim, promise, habits.Dead(silent=silent))
        policy_needs = OPENING + TRANSACTION
        async with sim.running():
            # Two minutes apart: each finds a connection of its own to be opened.
            for number in range(20):
                await sim.feed([traffic.Post(120.0 * number, (b"u%d@d.example" % number,))])
            assert await sim.empty(within=60)
            many = traffic.mailing(traffic.people(500, "d.example"), at=2500.0)
            await sim.feed(many)
            assert await sim.empty(within=600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert sim.percentile(b"tenant.example", 1.0) <= STAGGER + policy_needs
        assert sim.counts["deferred"] == 0
        assert promise.most == connections

    policy = DestinationPolicy(connections=connections, initial_connections=connections)
    simulate(test, policies=PolicyTable(policy), looks=0.5)


def test_one_connection_is_one_also_in_a_race() -> None:
    """A host that is promised one connection gets none to race with; its dead address is remembered."""

    async def test(sim: Simulation) -> None:
        promise = Promise(connections=1)
        sim.world.domain("d.example", "mx.d.example")
        both(sim, promise, habits.Dead(silent=True))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(100, "d.example")))
            assert await sim.empty(within=60)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert promise.most == 1
        assert sim.counts["deferred"] == 0

    simulate(test, policies=PolicyTable(DestinationPolicy(connections=1)), looks=0.5)


@pytest.mark.parametrize("seed", range(1, 6))
def test_races_keep_rates_and_counts(seed: int) -> None:
    """Lanes of a provider, slow and dead addresses, few connections and a rate: all race for the same."""
    limits = {"connections": 4, "connection_rate": Rate(10, 30.0), "messages_per_connection": 3}

    async def test(sim: Simulation) -> None:
        promise = Promise(connections=4, connection_rate=Rate(10, 30.0), messages_per_connection=3)
        names = [f"d{number}.example" for number in range(6)]
        for number, name in enumerate(names):
            host = f"mx{number}.big.example"
            sim.world.domain(name, host)
            manners = [
                habits.Dead(silent=sim.chance.random() < 0.5),
                habits.Slow(1, Phase.CONNECT, share=0.5),
                habits.Slow(10, Phase.CONNECT, share=0.1),
            ]
            both(sim, promise, sim.chance.choice(manners), host=host)
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.crowd(sim.chance, 300, traffic.zipf(names))))
            assert await sim.empty(within=86400)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert promise.most > 1
        assert promise.tight

    provider = Provider("big", ("*.big.example",), limits)
    simulate(test, seed, policies=PolicyTable(DestinationPolicy(), providers=[provider]), looks=2.0)


@pytest.mark.parametrize("silent", [False, True])
def test_a_live_backup_is_reached_behind_ten_dead_addresses(silent: bool) -> None:
    """Each try comes when the pauses of the dead are over: they do not use up every attempt."""

    async def test(sim: Simulation) -> None:
        sim.world.domain("d.example", "one.d.example", "two.d.example", "backup.d.example")
        sim.world.host("one.d.example", habits.Dead(silent=silent), addresses=5)
        sim.world.host("two.d.example", habits.Dead(silent=silent), addresses=5)
        [backup] = sim.world.host("backup.d.example")
        async with sim.running():
            for number in range(3):
                await sim.feed([traffic.Post(7200.0 * number, (b"u%d@d.example" % number,))])
            assert await sim.empty(within=7200)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert len(backup.takes) == 3
        assert sim.counts["deferred"] <= 1

    simulate(test)
