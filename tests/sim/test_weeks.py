"""A week of mail for hosts with all their manners: nobody lost, nothing twice, nothing told that is not."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.test_limits import Setup, ten_thousand_minutes
from tests.sim.world import World

from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.policy.destination import DestinationPolicy, PolicyTable
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.policy.retry import RetryPolicy

DAY = 86400.0
WEEK = 7 * DAY
UNKNOWN = Reply(550, "5.1.1 no such user")


def tenants(world: World, *names: str) -> None:
    """Let tenants have mail hosts, so that reports find them."""
    for name in names or ("tenant.example",):
        world.simple(name)


def domains(count: int) -> list[str]:
    return [f"d{number}.example" for number in range(count)]


@pytest.mark.parametrize("seconds", [DAY, pytest.param(WEEK, marks=pytest.mark.slow)])
def test_a_week_of_greylisting(seconds: float) -> None:
    async def test(sim: Simulation) -> None:
        names = domains(20)
        for name in names:
            sim.world.simple(name, habits.Greylist(300))
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, 0.01, seconds, traffic.zipf(names)))
            assert await sim.empty(within=DAY)
        assert await sim.verdict() == []
        assert len(sim.delivered) == len(sim.posts) > 0.008 * seconds
        # One and five minutes, with a tenth of jitter: at the third attempt everybody is known.
        assert sim.percentile(b"tenant.example", 0.01) > 360
        assert sim.percentile(b"tenant.example", 0.99) < 400

    simulate(test)


def test_a_week_with_hosts_of_every_kind() -> None:
    async def test(sim: Simulation) -> None:
        kinds: list[list[habits.Habit]] = [
            [],
            [habits.Greylist(600, ("source", "sender"))],
            [habits.Flaky(before=0.1)],
            [habits.Flaky(after=0.05)],
            [habits.BadDays(0.3)],
            [habits.Refuses(UNKNOWN, share=0.1)],
            [habits.MaxConnections(2), habits.MessagesPerConnection(3)],
            [habits.RateLimit(20, 3600)],
            [habits.Slow(400, Phase.GREETING, Phase.MAIL, Phase.FINAL, share=0.05)],
            [habits.Blocks(Reply(554, "5.7.1 blocked"), since=DAY, until=2 * DAY)],
            [habits.Dead(silent=True, since=3 * DAY, until=4 * DAY)],
        ]
        names = domains(33)
        for number, name in enumerate(names):
            sim.world.simple(name, *kinds[number % len(kinds)])
        tenants(sim.world, "tenant.example", "mailing.example")
        many = traffic.crowd(sim.chance, 1500, traffic.zipf(names, 0.3))
        async with sim.running():
            await sim.feed(
                traffic.merged(
                    traffic.steady(sim.chance, 0.005, WEEK, traffic.zipf(names)),
                    traffic.mailing(many, each=500, at=DAY),
                    traffic.mailing(many, at=2 * DAY),
                )
            )
            assert await sim.empty(within=WEEK)
        assert await sim.verdict() == []
        assert sim.failed.keys() == sim.reported
        assert len(sim.delivered) > 5000
        assert sim.counts["in_doubt"] > 10
        assert sim.counts["bounced"] > 40

    simulate(test)


def test_the_first_exchanger_is_dead() -> None:
    async def test(sim: Simulation) -> None:
        world = sim.world
        world.domain("d.example", "one.example", "two.example")
        world.host("one.example", habits.Dead(silent=True))
        [second] = world.host("two.example")
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, 0.02, DAY, traffic.only("d.example")))
            assert await sim.empty(within=DAY)
        assert await sim.verdict() == []
        assert len(second.mails) == len(sim.posts)
        assert sim.counts["deferred"] == 0

    simulate(test)


def test_a_domain_is_dead_for_good() -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example", habits.Dead(silent=True))
        tenants(sim.world)
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, 0.01, 3600, traffic.only("d.example")))
            assert not await sim.empty(within=5 * DAY - 3600)
            assert not sim.failed
            assert await sim.empty(within=DAY)
        assert await sim.verdict() == []
        assert sim.failed.keys() == sim.reported
        assert len(sim.failed) == len(sim.posts)
        assert all("5.4.7" in reply for reply in sim.failed.values())

    simulate(test)


def test_exchangers_move() -> None:
    async def test(sim: Simulation) -> None:
        world = sim.world
        [old], [new] = world.host("old.example"), world.host("new.example")
        world.domain("d.example", "old.example")
        world.domain("d.example", "new.example", since=DAY)
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, 0.01, 2 * DAY, traffic.only("d.example")))
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        # An answer of DNS is kept for a while, and so is a session.
        assert max(at for at, _, _ in old.mails) < DAY + 120
        assert min(at for at, _, _ in new.mails) > DAY

    simulate(test)


def test_name_servers_fail_for_a_day() -> None:
    async def test(sim: Simulation) -> None:
        world = sim.world
        world.simple("d.example")
        world.names.put("d.example", DnsFault(DnsProblem.TIMEOUT, "d.example"), since=3600)
        world.domain("d.example", "mx.d.example", since=DAY)
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, 0.005, DAY, traffic.only("d.example")))
            assert await sim.empty(within=DAY)
        assert await sim.verdict() == []
        assert len(sim.delivered) == len(sim.posts)

    simulate(test)


def test_what_is_under_way_at_the_end_is_neither_lost_nor_sent_again() -> None:
    async def test(sim: Simulation) -> None:
        names = domains(10)
        for name in names:
            sim.world.simple(name, habits.Slow(2, Phase.FINAL))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.crowd(sim.chance, 3000, traffic.zipf(names))))
            await asyncio.sleep(20)
        assert await sim.verdict() == []
        assert 0 < len(sim.delivered) < 3000
        assert not sim.in_doubt
        assert sim.world.present() == 0

    simulate(test)


def trace(seed: int) -> str:
    """Return the trace of some hours for hosts of every kind, with providers, pools, races and reloads."""
    setup = Setup(seed)

    async def test(sim: Simulation) -> str:
        await ten_thousand_minutes(sim, setup, 0.01, reloads=2, span=20_000.0)
        return sim.trace

    return simulate(test, seed, tables=setup.tables)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_seed_gives_one_trace(seed: int) -> None:
    """Also in another process, where every set and every address has another order."""
    found = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        code = f"from tests.sim.test_weeks import trace; print(trace({seed}))"
        command = [sys.executable, "-c", code]
        found.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(found) == 1
    assert len(found.pop()) > 100


def test_another_seed_gives_another_trace() -> None:
    async def test(sim: Simulation) -> str:
        sim.world.simple("d.example", habits.BadDays(0.2), habits.Flaky(before=0.1, after=0.1))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(100, "d.example")))
            assert await sim.empty(within=DAY)
        return sim.trace

    options: dict[str, Any] = {
        "policies": PolicyTable(DestinationPolicy(retry=RetryPolicy((60, 300), DAY), connections=3))
    }
    assert simulate(test, 1, **options) == simulate(test, 1, **options)
    assert simulate(test, 1, **options) != simulate(test, 2, **options)


@pytest.mark.parametrize("rate", [0.01, pytest.param(0.2, marks=pytest.mark.slow)])
def test_a_week_takes_seconds(rate: float, say: Callable[[str], None]) -> None:
    """A week of mail for two hundred domains at sound hosts; the figure is said, and decides nothing."""

    async def test(sim: Simulation) -> int:
        names = domains(200)
        for name in names:
            sim.world.simple(name)
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, rate, WEEK, traffic.zipf(names)))
            assert await sim.empty(within=DAY)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert len(sim.delivered) == len(sim.posts)
        return sum(len(peer.mails) for peer in sim.world.peers.values())

    began = time.process_time()
    count = simulate(test)
    took = time.process_time() - began
    say(f"{WEEK / took:.0f} simulated seconds, {count / took:.0f} transactions in a processor's second")
