"""Limits hold, at every moment, for a host, a site and a provider; the peers themselves watch.

`pytest tests/sim/test_limits.py -k "minutes and 7-"` runs one seed of the ten thousand minutes.
"""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Limits, Promise

from backstamp.delivery import sorter, throttles
from backstamp.delivery.router import Tables
from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.policy.adapt import Action, Adaptation, Adaptations
from backstamp.policy.destination import DestinationPolicy, Found, PolicyTable, Provider, Rate, Rule
from backstamp.policy.source import PoolAddress, SourcePool, SourceTable

SPAN = 10_000 * 60.0
DAY = 86400.0

SETTLED = 4 * 3600.0
"""Seconds after a reload within which transactions under way, and dials that wait for their turn, end."""

SITES = 12
PROVIDERS = 2


class Setup:
    """A random world: sites of one to three domains, some at providers, rules for some, pools for some."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.sites = [f"s{number}.example" for number in range(SITES)]
        self.domains: dict[str, list[str]] = {}
        self.exchangers: dict[str, list[str]] = {}
        for site in self.sites:
            at = chance.choice(["", "", *(f".big{number}.example" for number in range(PROVIDERS))])
            self.exchangers[site] = [f"mx{number}.{site}{at}" for number in (1, 2)]
            self.domains[site] = [f"d{number}.{site}" for number in range(chance.randint(1, 3))]
        self.pool = SourcePool(
            "pool", tuple(PoolAddress(f"192.0.2.{number}", f"out{number}.example") for number in (1, 2, 3))
        )
        self.pooled = {site for site in self.sites if chance.random() < 0.3}
        self.ruled = self.pooled | {site for site in self.sites if chance.random() < 0.5}
        self.tables = self.some_tables()

    @property
    def names(self) -> list[str]:
        return [name for names in self.domains.values() for name in names]

    def some_tables(self) -> Tables:
        """Return random policies for the same sites, and rules for what hosts say."""
        chance = self.chance
        rules = [
            Rule(f"*.{site}", some_limits(chance) | ({"source": "pool"} if site in self.pooled else {}))
            for site in self.sites
            if site in self.ruled
        ]
        providers = [
            Provider(f"big{number}", (f"*.big{number}.example",), some_limits(chance, 3))
            for number in range(PROVIDERS)
        ]
        default = DestinationPolicy(**some_limits(chance, 2))
        says = ["rate limit", "try again later", "come back later", "too many messages"]
        adaptations = [
            Adaptation(
                chance.choice(("*", "big0")),
                chance.choice(says),
                chance.choice([*Action]),
                chance.choice((60.0, 600.0, 7200.0)),
                chance.choice((0.3, 0.5, 0.8)),
            )
            for _ in range(chance.randint(0, 4))
        ]
        return Tables(
            policies=PolicyTable(default, rules, providers),
            sources=SourceTable([self.pool]),
            adaptations=Adaptations(adaptations),
        )

    def found(self, tables: Tables, site: str) -> Found:
        return tables.policies.lookup(self.domains[site][0], self.exchangers[site])


def some_limits(chance: random.Random, more: int = 1) -> dict[str, Any]:
    """Return random limits of a destination, or of one that has `more` to do than others."""
    return {
        "connections": chance.randint(1, 6 * more),
        "messages_per_connection": chance.choice((1, 5, 100)),
        "recipients_per_transaction": chance.choice((1, 10, 100)),
        "connection_rate": chance.choice((None, some_rate(chance, more))),
        "message_rate": chance.choice((None, some_rate(chance, more))),
        "idle": chance.choice((0.5, 2.0, 20.0)),
    }


def some_rate(chance: random.Random, more: int) -> Rate:
    """Return a rate that is enough for a site's share of the traffic."""
    count, seconds = chance.randint(1, 30), chance.choice((1.0, 10.0, 60.0, 600.0))
    return Rate(max(count, int(more * seconds / 20)), seconds)


def own(found: Found) -> Limits:
    """Return what is promised to a site. The bounds of what a provider's lanes share are the provider's."""
    policy = found.policy
    limits = Limits(
        recipients=policy.recipients_per_transaction, messages_per_connection=policy.messages_per_connection
    )
    return limits if found.shared is not None and not found.rule else _shared(policy, limits)


def _shared(policy: DestinationPolicy, limits: Limits) -> Limits:
    return msgspec.structs.replace(
        limits,
        connections=policy.connections,
        connection_rate=policy.connection_rate,
        message_rate=policy.message_rate,
    )


def some_habits(chance: random.Random) -> list[habits.Habit]:
    """Return random manners of a host."""
    every: list[habits.Habit] = [
        habits.Greylist(chance.choice((60, 300, 900))),
        habits.Flaky(before=0.05, after=0.02),
        habits.BadDays(0.1),
        habits.MaxConnections(chance.randint(1, 6)),
        # Enough for a site's share of the traffic: what is refused all the time only costs time here.
        habits.RateLimit(chance.randint(5, 50), chance.choice((10, 60, 600)), code=chance.choice((421, 450))),
        habits.MessagesPerConnection(chance.randint(1, 20)),
        habits.RecipientsPerTransaction(chance.randint(1, 50)),
        habits.Slow(chance.choice((2, 30, 400)), Phase.GREETING, Phase.FINAL, share=0.1),
        habits.Dead(silent=chance.random() < 0.5, since=SPAN / 4, until=SPAN / 4 + 7200),
    ]
    return chance.sample(every, chance.randint(0, 4))


async def ten_thousand_minutes(
    sim: Simulation, setup: Setup, rate: float, reloads: int, span: float = SPAN
) -> None:
    """Random traffic for a random world, whose policies change meanwhile; all that may be asked is asked."""
    world, tables = sim.world, setup.tables
    promises = {site: Promise(by_source=site in setup.pooled) for site in setup.sites}
    providers = {f"big{number}": Promise() for number in range(PROVIDERS)}

    def promise(tables: Tables, since: float) -> None:
        for site in setup.sites:
            found = setup.found(tables, site)
            promises[site].change(own(found), since)
            if found.shared is not None:
                providers[found.provider].change(_shared(found.shared, Limits()), since)

    promise(tables, 0.0)
    for site in setup.sites:
        provider = setup.found(tables, site).provider
        watching = [promises[site]] + ([providers[provider]] if provider else [])
        for host in setup.exchangers[site]:
            manners = some_habits(setup.chance)
            # Two addresses of one family take turns, those of both race.
            for family in setup.chance.choice([(4, 4), (4, 4), (6, 4)]):
                dead = [habits.Dead(silent=True)] if family == 6 and setup.chance.random() < 0.5 else []
                world.host(host, *manners, *dead, promises=watching, family=family)
        for domain in setup.domains[site]:
            world.domain(domain, *setup.exchangers[site])
    world.simple("tenant.example")
    world.simple("mailing.example")

    async def change() -> None:
        for _ in range(reloads):
            await asyncio.sleep(span / (reloads + 1))
            tables = setup.some_tables()
            sim.dispatcher.reload(tables, setup.chance.randint(50, 500))
            promise(tables, sim.loop.time() + SETTLED)

    pick = traffic.zipf(setup.names)
    streams = [traffic.steady(sim.chance, rate, span, pick)]
    streams += [
        traffic.mailing(traffic.crowd(sim.chance, 300, pick), each=each, at=span * part)
        for part, each in ((0.1, 1), (0.2, 300), (0.26, 30), (0.499, 1), (0.6, 1))
    ]
    async with sim.running():
        changing = asyncio.create_task(change())
        await sim.feed(traffic.merged(*streams))
        await changing
        assert await sim.empty(within=20 * DAY), "somebody is forgotten"
        assert await sim.idle() == []
    assert await sim.verdict() == []
    assert len(sim.delivered) > 0.8 * sum(len(post.recipients) for post, _ in sim.posts.values())
    # What nobody came near was not put to the test.
    assert any(one.most == tables.policies.default.connections for one in promises.values()) or any(
        one.tight for one in promises.values()
    )


@pytest.mark.parametrize(
    ("seed", "rate"),
    [(1, 0.005), *(pytest.param(seed, 0.02, marks=pytest.mark.slow) for seed in range(2, 22))],
)
def test_no_limit_is_exceeded_not_once_in_ten_thousand_minutes(seed: int, rate: float) -> None:
    """Random policies, random manners, random traffic; rules by domain, and two exchangers a site."""
    setup = Setup(seed)
    simulate(
        lambda sim: ten_thousand_minutes(sim, setup, rate, reloads=3), seed, tables=setup.tables, looks=600.0
    )


def test_domains_of_a_site_share_its_limits() -> None:
    policy = DestinationPolicy(connections=3, message_rate=Rate(20, 10.0))

    async def test(sim: Simulation) -> None:
        shared = Promise(connections=3, message_rate=Rate(20, 10.0))
        # So slow that three connections are needed for the rate.
        sim.world.host("mx.site.example", habits.Slow(1.0, Phase.FINAL), promises=[shared])
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


def test_a_rule_below_a_provider_keeps_both() -> None:
    """A lane that waits for its own rate does not use up its provider's before its time."""
    limits = {"connections": 20, "message_rate": Rate(10, 60.0), "connection_rate": Rate(10, 60.0)}
    slow = {"message_rate": Rate(1, 20.0), "connection_rate": Rate(1, 20.0), "messages_per_connection": 1}

    async def test(sim: Simulation) -> None:
        shared = Promise(connections=20, message_rate=Rate(10, 60.0), connection_rate=Rate(10, 60.0))
        names = [f"d{number}.example" for number in range(3)]
        for number, name in enumerate(names):
            own = [Promise(message_rate=Rate(1, 20.0), connection_rate=Rate(1, 20.0))] if number else []
            sim.world.domain(name, f"mx{number}.big.example", f"mx{number}.bad.big.example")
            sim.world.host(f"mx{number}.bad.big.example", promises=[shared, *own])
            # Whoever is put off by the first exchanger asks the second in the same attempt.
            sim.world.host(
                f"mx{number}.big.example",
                habits.RateLimit(1, 90, code=421, names=False),
                promises=[shared, *own],
            )
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.crowd(sim.chance, 600, traffic.zipf(names, 0.1))))
            assert await sim.empty(within=DAY)
        assert await sim.verdict() == []
        assert shared.tight > 100

    rules = [Rule(f"d{number}.example", slow) for number in (1, 2)]
    provider = Provider("big", ("*.big.example",), limits)
    simulate(test, policies=PolicyTable(DestinationPolicy(), rules, [provider]), looks=10.0)


def test_whoever_is_asked_to_go_slower_goes_no_faster() -> None:
    """The slowest that a reply makes of a rate is no less slow than the operator's own."""
    rate = Rate(1, 600.0)
    rules = Adaptations([Adaptation("*", "try again later", Action.SLOWER, DAY, 0.5)])

    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example", habits.BadDays(0.3), promises=[Promise(message_rate=rate)])
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(60, "d.example")))
            assert await sim.empty(within=5 * DAY)
        assert await sim.verdict() == []

    tables = Tables(policies=PolicyTable(DestinationPolicy(message_rate=rate)), adaptations=rules)
    simulate(test, tables=tables, looks=100.0)


class Asks(habits.Habit):
    """Asks once for a pause, at a second, and notes what begins in it."""

    REPLY = Reply(450, "4.7.1 you are noisy, try again in 10 minutes")

    def __init__(self, at: float) -> None:
        self._at = at
        self.asked: float | None = None
        self.early: list[float] = []

    def mail(self, visit: habits.Visit, sender: bytes) -> habits.Answer:
        if self.asked is None:
            if visit.now < self._at:
                return None
            self.asked = visit.now
            return self.REPLY
        # What was on its way crosses the reply.
        if self.asked + 1 < visit.now < self.asked + 600:
            self.early.append(visit.now)
        return None


@pytest.mark.parametrize("at", [0.1, 5.0, 21.0, 30.0])
@pytest.mark.parametrize("seconds", [0, 20])
def test_in_a_pause_nothing_begins(seconds: float, at: float) -> None:
    """Not even what a host kept waiting with its greeting while another session was told of the pause."""
    rules = Adaptations([Adaptation("*", "noisy", Action.PAUSE, 60.0)])

    async def test(sim: Simulation) -> None:
        asks = Asks(at)
        greets = habits.Slow(seconds, Phase.GREETING, share=0.5)
        sim.world.simple("d.example", asks, greets, habits.MessagesPerConnection(7))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(3000, "d.example"), rate=70))
            assert await sim.empty(within=DAY)
        assert await sim.verdict() == []
        assert asks.asked is not None
        assert asks.early == []

    simulate(test, tables=Tables(adaptations=rules), looks=10.0)


def test_what_is_kept_in_mind_is_bounded_and_limits_hold_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A destination that was forgotten in between has no fresh allowance."""
    monkeypatch.setattr(sorter, "BOUND", 10)
    monkeypatch.setattr(throttles, "BOUND", 10)
    rate = Rate(1, 600.0)

    async def test(sim: Simulation) -> None:
        names = [f"d{number}.example" for number in range(40)]
        promises = [Promise(message_rate=rate) for _ in names]
        for name, promise in zip(names, promises, strict=True):
            sim.world.simple(name, promises=[promise])
        async with sim.running():
            await sim.feed(traffic.steady(sim.chance, 0.03, DAY, traffic.zipf(names, 0.0)))
            assert await sim.empty(within=DAY)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert sum(promise.tight for promise in promises) > 100

    simulate(test, policies=PolicyTable(DestinationPolicy(message_rate=rate)), looks=100.0)
