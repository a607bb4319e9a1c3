"""After bad days everything is given back: permits, bookings, claims, lanes; though tables change."""

import asyncio
import random

import pytest
from tests.sim import traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.test_limits import some_habits, some_limits

from backstamp.delivery.router import Tables
from backstamp.delivery.throttle import Throttle
from backstamp.policy.destination import PolicyTable, Provider, Rule
from backstamp.policy.route import RouteTable

NAMES = [f"d{number}.example" for number in range(10)]


def tables(chance: random.Random) -> Tables:
    """Return random limits; some domains are one provider's."""
    rules = [Rule(name, some_limits(chance)) for name in NAMES[::2]]
    provider = Provider("big", ("*.d1.example", "*.d2.example", "*.d3.example"), some_limits(chance))
    return Tables(RouteTable(), PolicyTable(None, rules, [provider]))


def unbalanced(sim: Simulation) -> list[str]:
    """Return what is still counted though nobody is at work."""
    dispatcher = sim.dispatcher
    throttles: list[Throttle] = [dispatcher._throttles.all, *dispatcher._throttles.known.values()]
    return [
        f"{one.key}: held {one.held}, booked {one.booked}, calling {len(one.callers)}"
        for one in throttles
        if one.held or one.booked or one.callers
    ]


@pytest.mark.parametrize(
    "seed", [1, 2, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 20))]
)
def test_nothing_is_kept_when_nothing_waits(seed: int) -> None:
    setup = random.Random(seed)

    async def test(sim: Simulation) -> None:
        for name in NAMES:
            hosts = [f"mx{number}.{name}" for number in (1, 2)]
            sim.world.domain(name, *hosts)
            for host in hosts:
                sim.world.host(host, *some_habits(setup), addresses=2)
        for sender in ("tenant.example", "mailing.example"):
            sim.world.simple(sender)
        pick = traffic.zipf(NAMES)
        async with sim.running():
            for _ in range(5):
                await sim.feed(traffic.mailing(traffic.crowd(sim.chance, 200, pick), each=20))
                await asyncio.sleep(300.0)
                sim.dispatcher.reload(tables(setup), setup.choice((3, 20, 1000)))
            assert await sim.empty(within=14 * 86400.0)
            # The idle ones go; then there is nobody.
            await asyncio.sleep(60.0)
            assert (sim.dispatcher.lanes, sim.dispatcher.connections, sim.world.present()) == (0, 0, 0)
            assert unbalanced(sim) == []
            assert sim.queue.ledger.claimed == 0
        assert await sim.verdict() == []

    simulate(test, seed)
