"""Lanes of one provider under its rates: a backlog of one holds up the others for a turn, not to its end."""

import asyncio
from typing import Any

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Promise
from tests.sim.traffic import Post

from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rate, Rule
from backstamp.policy.mx import DnsFault, DnsProblem, Exchangers

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


class Closes(habits.Habit):
    """Ends a connection with 421 after some messages, another number each time."""

    REPLY = Reply(421, "4.3.2 closing")

    def __init__(self) -> None:
        self._most: dict[habits.Visit, int] = {}

    def mail(self, visit: habits.Visit, sender: bytes) -> habits.Answer:
        most = self._most.setdefault(visit, 1 + len(self._most) % 7)
        return self.REPLY if visit.mails > most else None


def test_a_host_that_ends_connections_leaves_the_next_one_to_who_stands_in_line() -> None:
    """What was on its way there waits for its lane's turn too, instead of opening another at once."""

    async def test(sim: Simulation) -> None:
        promise = Promise(connection_rate=Rate(1, 10.0))
        for name, manners in (("a", [Closes()]), ("b", [])):
            sim.world.domain(f"{name}.example", f"mx.{name}.big.example")
            sim.world.host(f"mx.{name}.big.example", *manners, promises=[promise])
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(1000, "a.example")))
            await sim.feed([Post(100.0, (b"one@b.example",), b"single.example")])
            assert await sim.empty(within=86400)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert promise.tight
        assert sim.percentile(b"single.example", 1.0) <= 100.0

    simulate(test, policies=provider(WIDE | {"connection_rate": Rate(1, 10.0)}), looks=1.0)


def test_nobody_waits_behind_a_lane_that_wants_no_connection_any_more() -> None:
    """The first in line has what it wanted by another's session: when the rate lets, the next one goes."""
    rate = Rate(1, 600.0)

    async def test(sim: Simulation) -> None:
        for name, manners in (("a", [habits.Slow(550, Phase.FINAL)]), ("b", [])):
            sim.world.domain(f"{name}.example", f"mx.{name}.big.example")
            sim.world.host(f"mx.{name}.big.example", *manners)
        async with sim.running():
            await sim.feed([Post(0.0, (b"1@a.example",)), Post(10.0, (b"2@a.example",))])
            await sim.feed([Post(20.0, (b"one@b.example",), b"single.example")])
            assert await sim.empty(within=3600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert sim.percentile(b"single.example", 1.0) <= 590.0

    simulate(test, policies=provider(WIDE | {"connection_rate": rate}), looks=1.0)


def test_a_domain_whose_name_servers_are_silent_keeps_no_other_from_a_shared_rate() -> None:
    """A mailing there waits for an answer before each of its transactions; others send meanwhile."""

    async def test(sim: Simulation) -> None:
        shared(sim, [BUSY.decode(), "b.example"])
        answer = sim.world.names.exchangers

        async def silent(domain: str) -> Exchangers | DnsFault:
            if domain == BUSY.decode() and sim.loop.time() > 30:
                await asyncio.sleep(20.0)
                return DnsFault(DnsProblem.TIMEOUT, domain)
            return await answer(domain)

        sim.world.names.exchangers = silent  # type: ignore[method-assign]
        async with sim.running():
            await sim.feed([Post(0.0, tuple(traffic.people(2000, BUSY.decode())))])
            others = traffic.people(100, "b.example")
            await sim.feed(traffic.mailing(others, at=60.0, rate=1.0, tenant=b"single.example"))
            assert await sim.empty(within=86400)
        assert await sim.verdict() == []
        assert sim.percentile(b"single.example", 1.0) <= 5.0

    policies = provider(WIDE | {"message_rate": Rate(5, 1.0), "recipients_per_transaction": 1})
    simulate(test, policies=policies, looks=1.0)


def test_whoever_keeps_sessions_longer_has_no_more_of_a_shared_rate() -> None:
    """A rule lets one domain wait for its turn with an open session, where the provider's others close it."""
    rate = Rate(1, 5.0)

    async def test(sim: Simulation) -> None:
        promise = shared(sim, [BUSY.decode(), "b.example"], message_rate=rate)
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(100, BUSY.decode())))
            await sim.feed(traffic.mailing(traffic.people(20, "b.example"), at=60.0, tenant=b"b.example"))
            await asyncio.sleep(120)
            # In two minutes there are 24 turns.
            assert len(sim.delays[b"b.example"]) >= 10
            assert await sim.empty(within=3600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert promise.tight

    rules = [Rule(BUSY.decode(), {"idle": 60.0})]
    providers = [Provider("big", ("*.big.example",), WIDE | {"message_rate": rate})]
    simulate(test, policies=PolicyTable(DestinationPolicy(), rules, providers), looks=0.5)
