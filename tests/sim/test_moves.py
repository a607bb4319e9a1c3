"""Exchangers that change in the middle of a mailing: what is left of it goes where they say by then."""

import asyncio
from collections import Counter

import pytest
from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate
from tests.sim.peer import Peer
from tests.sim.traffic import Post

from backstamp.delivery.router import FRESH, STALE
from backstamp.mail.fault import Phase
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Rate
from backstamp.policy.mx import DnsFault, DnsProblem, Exchangers

TTL = 60.0
"""Seconds the resolver keeps an answer here (`Names`)."""

CHANGE = 30.0


def people(peer: Peer) -> int:
    """Return how many recipients a host took."""
    return sum(count for _, _, count, _ in peer.takes)


def late(peer: Peer, since: float) -> list[float]:
    """Return when a host was sent something after a second."""
    return [at for at, _, _, _ in peer.takes if at > since]


@pytest.mark.parametrize("every", [1.0, STALE + FRESH + 10.0], ids=["quick", "slow"])
def test_a_mailing_follows_its_exchangers(every: float) -> None:
    """However long it is from one of its transactions to the next."""

    async def test(sim: Simulation) -> None:
        (old,), (new,) = sim.world.host("old.example"), sim.world.host("new.example")
        sim.world.domain("d.example", "old.example")
        sim.world.domain("d.example", "new.example", since=CHANGE)
        async with sim.running():
            await sim.feed([Post(0.0, tuple(traffic.people(200, "d.example")))])
            assert await sim.empty(within=86400)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert late(old, CHANGE + TTL + FRESH + 2 * every) == []
        assert people(old) + people(new) == 200
        assert people(old) > 1

    policy = DestinationPolicy(recipients_per_transaction=1, message_rate=Rate(1, every))
    simulate(test, policies=PolicyTable(policy), looks=1.0)


def test_it_follows_every_change() -> None:
    async def test(sim: Simulation) -> None:
        hosts = [sim.world.host(f"mx{number}.example")[0] for number in range(4)]
        for number in range(4):
            sim.world.domain("d.example", f"mx{number}.example", since=200.0 * number)
        async with sim.running():
            await sim.feed([Post(0.0, tuple(traffic.people(800, "d.example")))])
            assert await sim.empty(within=3600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert all(people(host) > 100 for host in hosts)
        for number, host in enumerate(hosts[:-1], 1):
            assert late(host, 200.0 * number + TTL + FRESH + 2) == []

    policy = DestinationPolicy(recipients_per_transaction=1, message_rate=Rate(1, 1.0))
    simulate(test, policies=PolicyTable(policy), looks=1.0)


@pytest.mark.parametrize("seed", range(1, 6))
def test_transactions_under_way_end_where_they_were_begun(seed: int) -> None:
    """They come back with nobody, or with those the host had no room for; nobody is sent to twice."""

    async def test(sim: Simulation) -> None:
        slow = habits.Slow(40, Phase.FINAL, share=0.5)
        crowded = habits.RecipientsPerTransaction(7)
        (old,) = sim.world.host("old.example", slow, crowded, habits.Flaky(before=0.05, after=0.0))
        (new,) = sim.world.host("new.example", slow, crowded)
        sim.world.domain("d.example", "old.example")
        sim.world.domain("d.example", "new.example", since=CHANGE)
        async with sim.running():
            await sim.feed([Post(0.0, tuple(traffic.people(3000, "d.example")))])
            assert await sim.empty(within=86400)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert late(old, CHANGE + TTL + FRESH + 60) == []
        assert people(old) > 50
        assert people(new) > 1000

    policy = DestinationPolicy(recipients_per_transaction=10, connections=5, initial_connections=5, idle=60.0)
    simulate(test, seed, policies=PolicyTable(policy), looks=1.0)


@pytest.mark.parametrize("parts", [False, True], ids=["no way", "another way"])
def test_a_mailing_whose_domains_part_ends_where_it_was_begun(parts: bool) -> None:
    """A host that one domain moved to need not take mail for the other."""

    async def test(sim: Simulation) -> None:
        (old,), (new,) = sim.world.host("old.example"), sim.world.host("new.example")
        for name in ("a.example", "b.example"):
            sim.world.domain(name, "old.example")
        sim.world.domain("a.example", "new.example", since=CHANGE)
        if not parts:
            sim.world.names.put("b.example", DnsFault(DnsProblem.SERVER_FAILURE, "b.example"), CHANGE)
        async with sim.running():
            recipients = traffic.people(100, "a.example") + traffic.people(100, "b.example")
            await sim.feed([Post(0.0, tuple(recipients))])
            assert await sim.empty(within=3600)
            assert await sim.idle() == []
        assert await sim.verdict() == []
        assert Counter(old=people(old), new=people(new)) == Counter(old=200)

    policy = DestinationPolicy(recipients_per_transaction=1, message_rate=Rate(1, 1.0))
    simulate(test, policies=PolicyTable(policy), looks=1.0)


def test_a_mailing_goes_on_when_its_name_servers_fall_silent() -> None:
    """It ends where it was begun, and waits for no answer before each of its transactions."""

    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        answer = sim.world.names.exchangers

        async def silent(domain: str) -> Exchangers | DnsFault:
            if domain == "d.example" and sim.loop.time() > CHANGE:
                await asyncio.sleep(20.0)
                return DnsFault(DnsProblem.TIMEOUT, domain)
            return await answer(domain)

        sim.world.names.exchangers = silent  # type: ignore[method-assign]
        async with sim.running():
            await sim.feed([Post(0.0, tuple(traffic.people(1000, "d.example")))])
            assert await sim.empty(within=3600)
            assert sim.loop.time() < 150
            assert await sim.idle() == []
        assert await sim.verdict() == []

    policy = DestinationPolicy(recipients_per_transaction=1, message_rate=Rate(10, 1.0))
    simulate(test, policies=PolicyTable(policy), looks=1.0)


def test_it_is_not_asked_for_more_often_than_what_was_found_holds() -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example")
        asked = []
        router = sim.dispatcher.router
        by_mx = router.by_mx

        async def counted(*arguments: object) -> object:
            asked.append(sim.loop.time())
            return await by_mx(*arguments)  # type: ignore[arg-type]

        router.by_mx = counted  # type: ignore[assignment]
        async with sim.running():
            await sim.feed([Post(0.0, tuple(traffic.people(1000, "d.example")))])
            assert await sim.empty(within=3600)
        assert await sim.verdict() == []
        assert len(asked) <= sim.loop.time() / FRESH + 1

    policy = DestinationPolicy(recipients_per_transaction=1, message_rate=Rate(10, 1.0))
    simulate(test, policies=PolicyTable(policy))
