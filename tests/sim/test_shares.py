"""Lanes of one provider under its rates: a backlog of one holds up the others for a turn, not to its end."""

from typing import Any

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Promise
from tests.sim.traffic import Post

from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rate

BUSY = b"busy.example"
RATE = Rate(2, 1.0)
BACKLOG = 240

WIDE = {"connections": 5, "initial_connections": 5}
NARROW = {"connections": 1}
ONE = {"messages_per_connection": 1}
BY_CONNECTION = {"connection_rate": RATE}
BY_MESSAGE = {"message_rate": RATE}


def shared(sim: Simulation, names: list[str], **promised: Any) -> Promise:
    """Add domains whose exchangers belong to one provider."""
    promise = Promise(**promised)
    for number, name in enumerate(names):
        sim.world.domain(name, f"mx{number}.big.example")
        sim.world.host(f"mx{number}.big.example", promises=[promise])
    return promise


def provider(limits: dict[str, Any]) -> PolicyTable:
    return PolicyTable(DestinationPolicy(), providers=[Provider("big", ("*.big.example",), limits)])


@pytest.mark.parametrize(
    "limits",
    [
        WIDE | ONE | BY_CONNECTION,
        NARROW | ONE | BY_CONNECTION,
        WIDE | BY_CONNECTION | {"messages_per_connection": 3},
        WIDE | BY_MESSAGE,
        WIDE | ONE | BY_MESSAGE,
        NARROW | ONE | BY_MESSAGE,
        WIDE | ONE | BY_MESSAGE | BY_CONNECTION,
    ],
    ids=str,
)
def test_a_backlog_keeps_no_other_domain_from_a_shared_rate(limits: dict[str, Any]) -> None:
    """Each of three single messages goes within some turns; and the rate is used all the time."""
    others = [f"{name}.example" for name in "bcd"]
    promised = {name: value for name, value in limits.items() if name != "initial_connections"}

    async def test(sim: Simulation) -> None:
        promise = shared(sim, [BUSY.decode(), *others], **promised)
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(BACKLOG, BUSY.decode())))
            singles = [Post(1.0, (b"one@" + name.encode(),), b"single.example") for name in others]
            await sim.feed(singles)
            assert await sim.empty(within=3600)
            end = sim.loop.time()
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert promise.tight
        assert sim.percentile(b"single.example", 1.0) <= 10.0
        each = limits.get("messages_per_connection", 1)
        assert end <= 1.1 * (BACKLOG + 3) / each / 2 + 5

    simulate(test, policies=provider(limits), looks=0.1)


@pytest.mark.parametrize(
    "limits", [WIDE | ONE | BY_CONNECTION, WIDE | ONE | BY_MESSAGE, WIDE | BY_MESSAGE], ids=str
)
@pytest.mark.parametrize("seed", range(1, 4))
def test_domains_with_backlogs_take_turns_at_a_rate(seed: int, limits: dict[str, Any]) -> None:
    """Nobody has a turn more than another, but for those under way."""
    promised = {name: value for name, value in limits.items() if name != "initial_connections"}
    names = [f"d{number}.example" for number in range(6)]

    async def test(sim: Simulation) -> None:
        promise = shared(sim, names, **promised)
        mailings = [
            traffic.mailing(traffic.people(100, name), at=number / 10, tenant=name.encode())
            for number, name in enumerate(names)
        ]
        async with sim.running():
            await sim.feed(traffic.merged(*mailings))
            await sim.feed([Post(120.0, (b"end@d0.example",), b"last.example")])
            counts = [len(sim.delays.get(name.encode(), ())) for name in names]
            assert await sim.empty(within=3600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert promise.tight
        assert sum(counts) > 230
        assert max(counts) - min(counts) <= 6

    simulate(test, seed, policies=provider(limits), looks=0.5)


def test_who_waits_for_more_than_a_ceiling_has_what_is_given_back() -> None:
    """A lane that holds all a provider was found to take shares it, long before more is tried."""

    async def test(sim: Simulation) -> None:
        manners = habits.MaxConnections(2)
        for name in (BUSY.decode(), "b.example"):
            sim.world.domain(name, f"mx.{name}.big.example")
            sim.world.host(f"mx.{name}.big.example", manners)
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(20_000, BUSY.decode())))
            await sim.feed([Post(30.0, (b"one@b.example",), b"single.example")])
            assert await sim.empty(within=86400)
        assert await sim.verdict() == []
        assert sim.percentile(b"single.example", 1.0) <= 5.0

    simulate(test, policies=provider({"connections": 10, "initial_connections": 3}), looks=1.0)
