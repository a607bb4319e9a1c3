"""Hosts found by DNS: which are tried, which never are, and what the sender is told."""

from collections.abc import Sequence
from pathlib import Path

import dns.rcode
import pytest
from tests.support.client import send
from tests.support.dns import DnsServer, Zone
from tests.support.relay import relay, via

from backstamp.clock import SystemClock
from backstamp.delivery.candidates import Candidate, Finder
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.net.resolver import Resolver
from backstamp.policy import mx
from backstamp.policy.destination import DestinationPolicy, Family
from backstamp.policy.mx import Exchangers
from backstamp.policy.route import NextHop, Smarthost
from backstamp.sink.server import Received, Sink
from backstamp.telemetry import events

ZONE: Zone = {
    "private.test": {"MX": ["10 inside.test.", "20 outside.test."]},
    "inside.test": {"A": ["10.0.0.1"], "AAAA": ["fd00::1"]},
    "outside.test": {"A": ["198.41.0.4"]},
    "loop.test": {"MX": ["5 relay.example.org.", "10 backup.test."]},
    "better.test": {"MX": ["5 outside.test.", "10 relay.example.org.", "20 backup.test."]},
    "mapped.test": {"AAAA": ["::ffff:127.0.0.1"]},
    "local.test": {"A": ["127.0.0.1"]},
    "plain6.test": {"AAAA": ["2001:500:1::53"]},
    "both.test": {"A": ["198.41.0.4"], "AAAA": ["2001:500:1::53"]},
}


async def found(
    domain: str, *, private: bool = False, family: Family = Family.BOTH, fails: str = ""
) -> list[Candidate | Outcome]:
    async with DnsServer(ZONE) as names:
        if fails:
            names.rcodes[fails] = dns.rcode.SERVFAIL
        resolver = Resolver([names.address], clock=SystemClock())
        finder = Finder(
            resolver,
            own_names=frozenset({"relay.example.org"}),
            own_addresses=frozenset({"198.41.0.9"}),
            chance=lambda: 0.5,
        )
        answer = await resolver.exchangers(domain)
        assert isinstance(answer, Exchangers)
        exchangers = Exchangers(mx.without_self(answer.hosts, finder.own_names), answer.implicit)
        policy = DestinationPolicy(private_addresses=private, family=family)
        return [one async for hosts in finder.by_mx(exchangers, policy) for one in listed(hosts)]


def listed(hosts: tuple[Candidate, ...] | Outcome) -> Sequence[Candidate | Outcome]:
    return (hosts,) if isinstance(hosts, Outcome) else hosts


async def test_private_addresses_are_refused_after_resolution() -> None:
    """Security 17: nothing is connected to; only the host that may be is a candidate."""
    first, second, third = await found("private.test")
    assert isinstance(first, Outcome)
    assert isinstance(second, Outcome)
    assert (first.verdict, first.scope) == (Verdict.FAILED, Scope.HOST)
    assert "5.4.4" in first.reply.text
    assert third == Candidate("outside.test", "198.41.0.4", 25)


async def test_loopback_is_refused_in_every_dress() -> None:
    for domain in ("mapped.test", "local.test"):
        [outcome] = await found(domain)
        assert isinstance(outcome, Outcome)
        assert "loopback" in outcome.reply.text


@pytest.mark.parametrize(
    ("domain", "family", "fails"),
    [
        ("both.test", Family.IPV4, "A"),
        ("both.test", Family.IPV6, "AAAA"),
        ("inside.test", Family.BOTH, "A"),
        ("inside.test", Family.BOTH, "AAAA"),
        ("inside.test", Family.IPV4_FIRST, "AAAA"),
    ],
)
async def test_addresses_nobody_could_be_asked_for_are_no_lack_of_addresses(
    domain: str, family: Family, fails: str
) -> None:
    """What there is of the other family is of no use; what may be there is to be waited for."""
    last = (await found(domain, family=family, fails=f"{domain}/{fails}"))[-1]
    assert isinstance(last, Outcome)
    assert (last.verdict, last.scope) == (Verdict.DEFERRED, Scope.DESTINATION)
    assert str(last.reply) == f"451 4.4.3 {domain}: the name servers failed"


@pytest.mark.parametrize(
    ("domain", "family", "fails", "text"),
    [
        ("inside.test", Family.IPV4, "AAAA", "a private address"),
        ("plain6.test", Family.IPV4, "", "no mail host of the domain has an address"),
    ],
)
async def test_a_family_that_is_not_used_is_not_waited_for(
    domain: str, family: Family, fails: str, text: str
) -> None:
    [last] = await found(domain, family=family, fails=f"{domain}/{fails}" if fails else "")
    assert isinstance(last, Outcome)
    assert last.verdict is Verdict.FAILED
    assert text in str(last.reply)


async def test_where_one_address_will_do_nobody_waits_for_others() -> None:
    assert await found("both.test", fails="both.test/AAAA") == [Candidate("both.test", "198.41.0.4", 25)]


async def test_half_an_answer_of_dns_defers_mail(tmp_path: Path) -> None:
    zone: Zone = {"half.test": {"A": ["127.0.0.2"], "AAAA": ["::ffff:169.254.0.1"]}}
    async with DnsServer(zone) as names, relay(tmp_path, nameservers=[names.address]) as running:
        names.rcodes["half.test/A"] = dns.rcode.SERVFAIL
        await send(running.address, ["r@half.test"])
        await running.until(events.Deferred)
        assert running.events(events.Deferred)[0].reply.startswith("451 4.4.3 half.test")
        assert not running.events(events.Failed)


async def test_exchangers_worse_than_this_relay_are_not_tried() -> None:
    assert await found("loop.test") == []
    assert await found("better.test") == [Candidate("outside.test", "198.41.0.4", 25)]


async def test_a_smarthost_may_be_private_because_somebody_named_it() -> None:
    async with DnsServer(ZONE) as names:
        finder = Finder(
            Resolver([names.address], clock=SystemClock()),
            own_names=frozenset(),
            own_addresses=frozenset(),
            chance=lambda: 0.5,
        )
        via = Smarthost((NextHop("inside.test", 2525),))
        [candidates] = [one async for one in finder.by_route(via, DestinationPolicy())]
        assert isinstance(candidates, tuple)
        assert Candidate("inside.test", "10.0.0.1", 2525) in candidates


async def test_a_smarthost_that_cannot_be_found_is_our_mistake_and_the_mail_waits(tmp_path: Path) -> None:
    async with (
        DnsServer({}) as names,
        relay(tmp_path, nameservers=[names.address], routes=[via(("no.such.host.test", 25))]) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        assert running.events(events.Deferred)[0].reply.startswith("451 4.4.4")
        assert not running.events(events.Failed)


async def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    """NXDOMAIN fails at once, SERVFAIL is tried again, no address anywhere fails."""
    zone: Zone = {"hollow.test": {"MX": ["10 gone.test."]}, "flaky.test": {"A": ["127.0.0.2"]}}
    taken: list[Received] = []
    async with (
        Sink("127.0.0.2", received=taken.append) as sink,
        DnsServer(zone) as names,
        relay(tmp_path, nameservers=[names.address], port=sink.address[1]) as running,
    ):
        names.rcodes["flaky.test"] = dns.rcode.SERVFAIL
        await send(running.address, ["a@nowhere.test", "b@hollow.test", "c@flaky.test"], sender="")
        await running.until(events.Failed, 2)
        await running.until(events.Deferred)
        failed = {event.recipient: event.reply for event in running.events(events.Failed)}
        assert failed["a@nowhere.test"].startswith("550 5.1.2")
        assert failed["b@hollow.test"].startswith("550 5.4.4")
        [deferred] = running.events(events.Deferred)[:1]
        assert (deferred.recipient, deferred.scope) == ("c@flaky.test", "destination")
        assert deferred.reply.startswith("451 4.4.3")


async def test_when_every_host_is_dead_the_mail_waits(tmp_path: Path) -> None:
    zone: Zone = {
        "dead.test": {"MX": ["10 a.test.", "20 b.test."]},
        "a.test": {"A": ["127.0.0.8"]},
        "b.test": {"A": ["127.0.0.9"]},
    }
    async with (
        Sink("127.0.0.2") as sink,
        DnsServer(zone) as names,
        relay(tmp_path, nameservers=[names.address], port=sink.address[1]) as running,
    ):
        await send(running.address, ["r@dead.test"])
        await running.until(events.Deferred, 2)
        first = running.events(events.Deferred)[0]
        assert first.mx.startswith("b.test[127.0.0.9]")
        assert first.scope == "host"
        assert running.relay.queue.ledger.waiting == 1


async def test_one_slow_domain_holds_up_no_other(tmp_path: Path) -> None:
    zone: Zone = {"slow.test": {"A": ["127.0.0.2"]}, "quick.test": {"A": ["127.0.0.3"]}}
    async with (
        Sink("127.0.0.2") as slow,
        Sink("127.0.0.3", slow.address[1]) as quick,
        DnsServer(zone) as names,
        relay(tmp_path, nameservers=[names.address], port=slow.address[1]) as running,
    ):
        slow.script.do("CONNECT", octets=b"220 slow\r\n", delay=300.0)
        for number in range(30):
            await send(running.address, [f"u{number}@slow.test"])
        await send(running.address, ["r@quick.test"])
        await running.until(events.Delivered)
        assert running.events(events.Delivered)[0].recipient == "r@quick.test"
        assert quick.messages == 1
        assert running.relay.queue.ledger.waiting == 30
        await slow.close()
