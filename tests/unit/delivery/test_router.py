"""Routing: from domain and sender to a way, its lane and its limits."""

import asyncio
from types import SimpleNamespace
from typing import Any

from backstamp.delivery.candidates import Finder
from backstamp.delivery.outside import Candidate, Source
from backstamp.delivery.router import FRESH, STALE, Bound, Router, Tables
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify
from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rule, Tls
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchanger, Exchangers
from backstamp.policy.route import NextHop, Route, RouteTable, Smarthost
from backstamp.policy.source import PoolAddress, SourcePool, SourceTable

HUB = Smarthost((NextHop("hub.example", 2525), NextHop("spare.example", 25)))
ID: Any = SimpleNamespace(queue_id=bytes(16))
ADDRESS = "11.0.0.1"


class Names:
    """What DNS says."""

    def __init__(self) -> None:
        self.exchangers_of: dict[str, Exchangers | DnsFault] = {}

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        return self.exchangers_of.get(domain) or Exchangers((Exchanger(10, f"mx.{domain}"),))

    async def addresses(self, host: str) -> Addresses | DnsFault:
        return Addresses((ADDRESS,))


def router(names: Names | None = None, **tables: Any) -> Router:
    names = names or Names()
    own = frozenset({"relay.example"})
    finder = Finder(names, own_names=own, own_addresses=frozenset(), chance=lambda: 0.5)
    return Router(Tables(**tables), names, finder)


def by_mx(one: Router, domain: bytes = b"d.example", sender: str = "") -> Bound:
    return asyncio.run(one.by_mx(one.question(domain, sender), 100.0))


def by_route(one: Router, domain: bytes = b"d.example", sender: str = "") -> Bound | None:
    return one.by_route(one.question(domain, sender))


async def _hosts(bound: Bound) -> list[tuple[Candidate, ...] | Outcome]:
    assert bound.way is not None
    return [host async for host in bound.way.find()]


def routes(*some: Route) -> dict[str, Any]:
    return {"routes": RouteTable(some)}


# ---- by MX ----


def test_domains_with_the_same_exchangers_share_a_lane() -> None:
    names = Names()
    for domain, numbers in (("a.example", (10, 20)), ("b.example", (1, 2))):
        names.exchangers_of[domain] = Exchangers(
            (Exchanger(numbers[0], "mx1.host"), Exchanger(numbers[1], "mx2.host"))
        )
    one = router(names)
    first, second = by_mx(one, b"a.example"), by_mx(one, b"b.example")
    assert first.lane(ID)[0] == second.lane(ID)[0] != by_mx(one, b"c.example").lane(ID)[0]
    assert first.way is not None
    assert first.way.name == "mx1.host,mx2.host"
    assert (first.way.provider, first.way.rule, first.way.route, first.way.sources) == ("", "", "", ())


def test_what_dns_said_holds_for_some_seconds() -> None:
    found = by_mx(router())
    assert found.until == 100.0 + FRESH
    assert found.moves
    assert not found.useless(100.0 + FRESH)
    assert not found.useless(99.9 + FRESH + STALE)
    assert found.useless(100.0 + FRESH + STALE)


def test_a_domain_without_a_way_has_an_outcome() -> None:
    names = Names()
    names.exchangers_of["gone.example"] = DnsFault(DnsProblem.NO_DOMAIN, "gone.example")
    names.exchangers_of["self.example"] = Exchangers((Exchanger(10, "relay.example"), Exchanger(20, "mx")))
    rules = [Rule("gone.example", {"port": 26})]
    one = router(names, policies=PolicyTable(rules=rules))
    gone, own = by_mx(one, b"gone.example"), by_mx(one, b"self.example")
    assert gone.way is own.way is None
    assert gone.outcome == classify.dns(DnsFault(DnsProblem.NO_DOMAIN, "gone.example"))
    assert own.outcome == classify.loop("self.example")
    assert gone.retry is not None
    assert gone.retry.port == 26
    # The next one asks again.
    assert gone.useless(100.0)


def test_only_exchangers_better_than_this_relay_are_tried() -> None:
    names = Names()
    better, own, worse = Exchanger(10, "mx1.host"), Exchanger(20, "relay.example"), Exchanger(30, "mx2.host")
    names.exchangers_of["d.example"] = Exchangers((better, own, worse))
    found = by_mx(router(names))
    assert found.way is not None
    assert found.way.name == "mx1.host"
    assert asyncio.run(_hosts(found)) == [(Candidate("mx1.host", ADDRESS, 25),)]


def test_rules_and_providers_set_lanes_and_limits() -> None:
    table = PolicyTable(
        DestinationPolicy(connections=7),
        [Rule("d.example", {"connections": 2})],
        [Provider("big", ("*.d.example", "*.e.example"), {"connections": 30})],
    )
    one = router(policies=table)
    ruled, hosted, plain = by_mx(one), by_mx(one, b"e.example"), by_mx(one, b"f.example")
    assert [found.way.policy.connections for found in (ruled, hosted, plain) if found.way] == [2, 30, 7]
    assert [found.way.provider for found in (ruled, hosted, plain) if found.way] == ["big", "big", ""]
    assert ruled.shared == hosted.shared
    assert ruled.shared is not None
    assert ruled.shared.connections == 30
    assert plain.shared is None
    assert ruled.way is not None
    assert ruled.way.rule == "d.example"
    assert len({found.lane(ID)[0] for found in (ruled, hosted, plain)}) == 3
    assert asyncio.run(_hosts(hosted)) == [(Candidate("mx.e.example", ADDRESS, 25),)]


# ---- by route ----


def test_a_route_leads_to_its_smarthost_for_good() -> None:
    one = router(**routes(Route("d.example", HUB)))
    found = by_route(one)
    assert found is not None
    assert (found.until, found.moves) == (float("inf"), False)
    assert not found.useless(1e12)
    assert found.way is not None
    assert (found.way.name, found.way.route) == ("hub.example:2525,spare.example:25", "* to d.example")
    assert asyncio.run(_hosts(found)) == [
        (Candidate("hub.example", ADDRESS, 2525),),
        (Candidate("spare.example", ADDRESS, 25),),
    ]
    assert by_route(one, b"other.example") is None


def test_what_holds_for_a_smarthost_is_said_for_its_name() -> None:
    rules = [Rule("d.example", {"connections": 2}), Rule("hub.example", {"connections": 3})]
    found = by_route(router(**routes(Route("d.example", HUB)), policies=PolicyTable(rules=rules)))
    assert found is not None
    assert found.way is not None
    assert (found.way.rule, found.way.policy.connections) == ("hub.example", 3)


def test_a_route_may_be_an_exception_by_mx() -> None:
    one = router(**routes(Route("*", HUB), Route("d.example", None, tls=Tls.VERIFY, priority=3)))
    assert by_route(one) is None
    found = by_mx(one)
    assert found.way is not None
    assert (found.way.name, found.way.policy.tls, found.priority) == ("mx.d.example", Tls.VERIFY, 3)
    assert found.way.by_mx
    assert found.way.route == "* to d.example"


def test_a_demand_of_tls_sets_a_lane_apart() -> None:
    one = router(**routes(Route("d.example", HUB, tls=Tls.ENCRYPT), Route("e.example", HUB)))
    strict, plain = by_route(one), by_route(one, b"e.example")
    assert strict is not None
    assert plain is not None
    assert strict.lane(ID)[0] != plain.lane(ID)[0]
    assert strict.way is not None
    assert strict.way.policy.tls is Tls.ENCRYPT


def test_routes_to_one_smarthost_share_its_lane_whatever_their_priorities() -> None:
    some = [Route(f"{name}.example", HUB, priority=priority) for name, priority in (("a", -9), ("b", 9))]
    one = router(**routes(*some, Route("c.example", HUB)))
    found = [by_route(one, domain) for domain in (b"a.example", b"b.example", b"c.example")]
    assert [bound.priority for bound in found if bound] == [-9, 9, 0]
    assert len({bound.lane(ID)[0] for bound in found if bound}) == 1


def test_the_sender_decides_where_it_can() -> None:
    one = router(**routes(Route("*", HUB, sender="a.example")))
    assert one.tables.personal
    assert by_route(one, sender="x@a.example") is not None
    assert by_route(one, sender="x@b.example") is None
    assert not router(**routes(Route("*", HUB))).tables.personal


def test_internationalized_domains_are_looked_up_as_a_labels() -> None:
    one = router(**routes(Route("xn--bcher-kva.example", HUB)))
    assert by_route(one, "bücher.example".encode()) is not None


# ---- sources ----

POOL = SourcePool(
    "out",
    (
        PoolAddress("192.0.2.1", "one.example"),
        PoolAddress("192.0.2.2", "two.example"),
        PoolAddress("2001:db8::1", "six.example"),
    ),
    senders=("a.example",),
)


def test_a_message_keeps_its_address_of_a_pool_and_its_lane() -> None:
    one = router(sources=SourceTable([POOL]), policies=PolicyTable(DestinationPolicy(source="out")))
    found = by_mx(one)
    assert found.pool is POOL
    low: Any = ID
    high: Any = SimpleNamespace(queue_id=b"\xff" * 16)
    key, way = found.lane(low)
    assert way.sources == (Source("2001:db8::1", "six.example"), Source("192.0.2.1", "one.example"))
    assert way.name == "mx.d.example from 2001:db8::1, 192.0.2.1"
    assert found.lane(low)[0] == key != found.lane(high)[0]
    assert found.lane(high)[1].sources[1] == Source("192.0.2.2", "two.example")


def test_senders_and_routes_name_pools() -> None:
    own = router(sources=SourceTable([POOL]))
    assert own.tables.personal
    assert by_mx(own, sender="x@a.example").pool is POOL
    assert by_mx(own, sender="x@b.example").pool is None
    routed = router(sources=SourceTable([POOL]), **routes(Route("d.example", None, source="out")))
    assert by_mx(routed, sender="x@b.example").pool is POOL
    assert by_mx(routed, b"e.example", sender="x@b.example").pool is None
