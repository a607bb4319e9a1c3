"""What hosts say about their limits is learned: they are asked for no more, and for no less."""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.peer import Pace, Peer

from backstamp.delivery.throttle import Learned, Lesson
from backstamp.policy.adapt import Action
from backstamp.policy.destination import DestinationPolicy, PolicyTable

COUNT = 5_000
MOST = 30
"""Connections the policy allows; hosts allow fewer."""

POLICY = PolicyTable(DestinationPolicy(connections=MOST))


def asked(peer: Peer) -> int:
    """Return how many commands a host had that it could have answered with 421."""
    return len(peer.connections) + len(peer.mails)


async def throughput(sim: Simulation, *manners: habits.Habit, count: int = COUNT) -> tuple[float, float]:
    """Send a mailing; return the seconds of its second half, and the share of 421 in it."""
    peer = sim.world.simple("d.example", *manners)
    async with sim.running():
        await sim.feed(traffic.mailing(traffic.people(count, "d.example")))
        while len(sim.delivered) < count // 2:
            await asyncio.sleep(0.1)
        done, began, refused, before = len(sim.delivered), sim.loop.time(), peer.codes[421], asked(peer)
        assert await sim.empty(within=86400)
    assert await sim.verdict() == []
    return (sim.loop.time() - began) / (count - done), (peer.codes[421] - refused) / (asked(peer) - before)


def allowed(limit: int) -> PolicyTable:
    return PolicyTable(DestinationPolicy(connections=limit))


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
def test_421_above_some_connections_is_learned(limit: int) -> None:
    count = COUNT if limit > 2 else COUNT // 5
    ideal, _ = simulate(lambda sim: throughput(sim, count=count), policies=allowed(limit))
    needed, refused = simulate(
        lambda sim: throughput(sim, habits.MaxConnections(limit), count=count), policies=POLICY, looks=5.0
    )
    assert refused < 0.01
    assert needed <= ideal / 0.9


def test_messages_per_connection_are_learned() -> None:
    free, _ = simulate(throughput)
    needed, refused = simulate(lambda sim: throughput(sim, habits.MessagesPerConnection(20)))
    assert refused < 0.01
    assert needed <= free / 0.8


class Moves(habits.MaxConnections):
    """A limit that changes, as one shared with other senders does; who is inside stays."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.sum = 0.0
        """Connections allowed, in connection seconds."""
        self._since = 0.0

    def set(self, count: int, now: float) -> None:
        self.sum += self._count * (now - self._since)
        self._since, self._count = now, count


SECOND = Pace(trip=0.4, work=0.2)
"""A message a second and connection."""


async def moving(sim: Simulation, limit: Moves, rate: float, steps: Sequence[tuple[float, int]]) -> Peer:
    """Keep a host busy while its limit moves at some seconds; return the host. The last step is the end."""
    sim.world.domain("d.example", "mx.d.example")
    [peer] = sim.world.host("mx.d.example", limit, pace=SECOND)
    end = steps[-1][0]

    async def feed() -> None:
        await sim.feed(traffic.steady(sim.chance, rate, end, traffic.only("d.example")))

    async with sim.running():
        feeding = asyncio.create_task(feed())
        for at, count in steps:
            await asyncio.sleep(at - sim.loop.time())
            limit.set(count, at)
        await feeding
        assert await sim.empty(within=86400)
    assert await sim.verdict() == []
    return peer


def taken(peer: Peer, since: float, until: float) -> float:
    """Return the messages a second a host took in a while."""
    return sum(since <= at < until for at, _, _, _ in peer.takes) / (until - since)


def test_a_limit_that_rises_is_found() -> None:
    """After at most as long as it stood (and an hour) somebody tries; then each minute one more."""

    async def test(sim: Simulation) -> None:
        peer = await moving(sim, Moves(1), 3.0, [(600.0, 4), (2400.0, 4)])
        assert taken(peer, 300, 600) < 1.2
        assert taken(peer, 1800, 2400) > 2.7
        assert peer.codes[421] < 0.01 * asked(peer)

    simulate(test, policies=POLICY, looks=60.0)


def test_a_limit_that_falls_is_found() -> None:
    async def test(sim: Simulation) -> None:
        peer = await moving(sim, Moves(8), 5.0, [(300.0, 2), (900.0, 2)])
        assert taken(peer, 60, 300) > 4.5
        assert taken(peer, 600, 900) > 1.6
        assert peer.codes[421] < 0.01 * asked(peer)

    policy = DestinationPolicy(connections=MOST, messages_per_connection=20)
    simulate(test, policies=PolicyTable(policy), looks=60.0)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
def test_a_limit_shared_with_others_is_lived_with(seed: int) -> None:
    """It moves at random, every minute or so: refusals stay rare, and what is free is mostly used."""
    chance = random.Random(seed)
    steps, at = [], 0.0
    while at < 1200:
        at += chance.expovariate(1 / 60)
        steps.append((at, chance.randint(2, 10)))

    async def test(sim: Simulation) -> None:
        limit = Moves(6)
        peer = await moving(sim, limit, 6.0, steps)
        assert peer.codes[421] < 0.02 * asked(peer)
        assert taken(peer, 0, at) > 0.4 * limit.sum / at

    policy = DestinationPolicy(connections=MOST, messages_per_connection=20)
    simulate(test, seed, policies=PolicyTable(policy), looks=60.0)


@pytest.mark.parametrize("limit", [1, 5])
def test_what_was_learned_outlives_a_restart(limit: int) -> None:
    async def first(sim: Simulation) -> list[Learned]:
        sim.world.simple("d.example", habits.MaxConnections(limit))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(2000, "d.example")))
            assert await sim.empty(within=3600)
        assert sim.counts["throttled"] > 0
        return sim.dispatcher.learned()

    async def second(sim: Simulation) -> tuple[int, int]:
        peer = sim.world.simple("d.example", habits.MaxConnections(limit))
        async with sim.running():
            # Within a minute nobody tries for more.
            await sim.feed(traffic.mailing(traffic.people(1000, "d.example")))
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        return peer.codes[421], sim.counts["throttled"]

    [learned] = simulate(first, policies=POLICY)
    assert learned.ceiling == limit
    # The clock of the second begins where the first began: the pause before a probe is still to come.
    assert simulate(second, policies=POLICY, learned=[learned]) == (0, 0)
    assert simulate(second, policies=POLICY) > (0, 0)


def test_a_pause_outlives_a_restart() -> None:
    lessons = {Action.PAUSE: Lesson("a host said so", 1_800_000_000.0)}
    learned = Learned("mx.d.example", paused_until=1_800_000_000.0 + 600, lessons=lessons)

    async def test(sim: Simulation) -> None:
        peer = sim.world.simple("d.example")
        async with sim.running():
            await sim.feed(traffic.mailing([b"u@d.example"]))
            assert sim.dispatcher.learned() == [msgspec.structs.replace(learned)]
            assert await sim.empty(within=700)
        assert [at >= 600 for at, _ in peer.connections] == [True]

    simulate(test, learned=[learned])
