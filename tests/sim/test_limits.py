"""Limits hold, at every moment, for a host, a site and a provider; the peers themselves watch."""

import random
from typing import Any

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Promise

from backstamp.mail.fault import Phase
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rate, Rule

MINUTES = 10_000
SPAN = MINUTES * 60.0


def some_limits(chance: random.Random) -> dict[str, Any]:
    """Return random limits of a destination."""
    rates = [None, Rate(chance.randint(1, 30), chance.choice((1.0, 10.0, 60.0, 600.0)))]
    return {
        "connections": chance.randint(1, 6),
        "messages_per_connection": chance.choice((1, 5, 100)),
        "recipients_per_transaction": chance.choice((1, 10, 100)),
        "connection_rate": chance.choice(rates),
        "message_rate": chance.choice(rates),
        "idle": chance.choice((0.5, 2.0, 20.0)),
    }


def promise(limits: dict[str, Any]) -> Promise:
    """Return what a peer may rely on."""
    return Promise(
        connections=limits["connections"],
        connection_rate=limits["connection_rate"],
        message_rate=limits["message_rate"],
        recipients=limits["recipients_per_transaction"],
        messages_per_connection=limits["messages_per_connection"],
    )


def some_habits(chance: random.Random) -> list[habits.Habit]:
    """Return random manners of a host."""
    every: list[habits.Habit] = [
        habits.Greylist(chance.choice((60, 300, 900))),
        habits.Flaky(before=0.05, after=0.02),
        habits.BadDays(0.1),
        habits.MaxConnections(chance.randint(1, 6)),
        habits.RateLimit(
            chance.randint(5, 50), chance.choice((10, 60, 3600)), code=chance.choice((421, 450))
        ),
        habits.MessagesPerConnection(chance.randint(1, 20)),
        habits.RecipientsPerTransaction(chance.randint(1, 50)),
        habits.Slow(chance.choice((2, 30, 400)), Phase.GREETING, Phase.FINAL, share=0.1),
        habits.Dead(silent=chance.random() < 0.5, since=SPAN / 4, until=SPAN / 4 + 7200),
    ]
    return chance.sample(every, chance.randint(0, 4))


@pytest.mark.parametrize(
    ("seed", "rate"),
    [(1, 0.01), *(pytest.param(seed, 0.05, marks=pytest.mark.slow) for seed in range(2, 8))],
)
def test_no_limit_is_exceeded_not_once_in_ten_thousand_minutes(seed: int, rate: float) -> None:
    """Random policies, random manners, random traffic; rules by domain, and two exchangers a site."""
    setup = random.Random(seed)
    names = [f"d{number}.example" for number in range(12)]
    limits = {name: some_limits(setup) for name in names}
    rules = [Rule(name, changes) for name, changes in limits.items()]

    async def test(sim: Simulation) -> None:
        promises = {name: promise(limits[name]) for name in names}
        for name in names:
            hosts = [f"mx{number}.{name}" for number in (1, 2)]
            sim.world.domain(name, *hosts)
            for host in hosts:
                sim.world.host(host, *some_habits(setup), promises=[promises[name]], addresses=2)
        sim.world.simple("tenant.example")
        sim.world.simple("mailing.example")
        pick = traffic.zipf(names)
        streams = [traffic.steady(sim.chance, rate, SPAN, pick)]
        streams += [
            traffic.mailing(traffic.crowd(sim.chance, 300, pick), each=each, at=SPAN * part)
            for part, each in ((0.1, 1), (0.2, 300), (0.26, 30), (0.6, 1))
        ]
        async with sim.running():
            await sim.feed(traffic.merged(*streams))
            await sim.empty(within=7 * 86400)
        assert await sim.verdict() == []
        assert len(sim.delivered) > 0.8 * sum(len(post.recipients) for post, _ in sim.posts.values())
        assert any(one.most == limits[name]["connections"] for name, one in promises.items())

    simulate(test, seed, policies=PolicyTable(DestinationPolicy(), rules))


def test_domains_of_a_site_share_its_limits() -> None:
    policy = DestinationPolicy(connections=3, message_rate=Rate(20, 10.0))

    async def test(sim: Simulation) -> None:
        shared = Promise(connections=3, message_rate=Rate(20, 10.0))
        sim.world.host("mx.site.example", promises=[shared])
        names = [f"d{number}.example" for number in range(50)]
        for name in names:
            sim.world.domain(name, "mx.site.example")
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.crowd(sim.chance, 1000, traffic.zipf(names))))
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        assert shared.most == 3
        # Twenty in ten seconds are five hundred seconds for a thousand; they are used.
        assert sim.loop.time() < 550

    simulate(test, policies=PolicyTable(policy))


def test_lanes_of_a_provider_share_its_limits() -> None:
    limits = {"connections": 4, "message_rate": Rate(30, 10.0), "connection_rate": Rate(10, 60.0)}

    async def test(sim: Simulation) -> None:
        shared = Promise(connections=4, message_rate=Rate(30, 10.0), connection_rate=Rate(10, 60.0))
        names = [f"d{number}.example" for number in range(8)]
        for number, name in enumerate(names):
            sim.world.domain(name, f"mx{number}.big.example")
            sim.world.host(f"mx{number}.big.example", promises=[shared])
        alone = sim.world.simple("alone.example")
        async with sim.running():
            await sim.feed(
                traffic.merged(
                    traffic.mailing(traffic.crowd(sim.chance, 1000, traffic.zipf(names))),
                    traffic.mailing(traffic.people(1000, "alone.example")),
                )
            )
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        assert shared.most == 4
        assert max(at for at, _, _ in alone.mails) < 60, "who has another provider waits for nobody"

    provider = Provider("big", ("*.big.example",), limits)
    simulate(test, policies=PolicyTable(DestinationPolicy(), providers=[provider]))
