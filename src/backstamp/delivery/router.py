"""Which way mail goes: from domain and sender to a site or smarthost, and what holds there.

A route decides, or the domain's MX. Domains whose exchangers stand in the same order have
one site and so one lane. What was found holds for some seconds, then the resolver is
asked again, so that lanes follow the records; it keeps answers for their time to live.
"""

from collections.abc import Hashable
from typing import Final

import msgspec

from backstamp.delivery.candidates import Finder
from backstamp.delivery.lane import Find, Way
from backstamp.delivery.outside import Resolver, Source
from backstamp.mail.address import to_alabel
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify, mx
from backstamp.policy.adapt import Adaptations
from backstamp.policy.destination import DestinationPolicy, Found, PolicyTable
from backstamp.policy.mx import DnsFault, Exchangers
from backstamp.policy.route import Route, RouteTable, Smarthost
from backstamp.policy.source import SourcePool, SourceTable, choose, named
from backstamp.queue.port import Delivery

FRESH: Final = 5.0
"""Seconds what was found holds before the resolver is asked again."""

STALE: Final = 10.0
"""Seconds it is gone by after that, while the resolver is asked."""


class Tables(msgspec.Struct, frozen=True):
    """What the operator said about where mail goes and how; a reload brings another."""

    routes: RouteTable = msgspec.field(default_factory=RouteTable)
    policies: PolicyTable = msgspec.field(default_factory=PolicyTable)
    sources: SourceTable = msgspec.field(default_factory=SourceTable)
    adaptations: Adaptations = msgspec.field(default_factory=lambda: Adaptations(()))

    @property
    def personal(self) -> bool:
        """Whether the sender can make a difference."""
        return self.routes.by_sender or self.sources.by_sender


class Question(msgspec.Struct, frozen=True):
    """What decides the way: the domain, and what is said for the sender."""

    domain: bytes
    route: Route | None
    pool: str


class Bound(msgspec.Struct, frozen=True):
    """The way found for a question, or the outcome of mail for which there is none."""

    until: float
    """Monotonic seconds."""
    outcome: Outcome | None = None
    retry: DestinationPolicy | None = None
    key: Hashable = None
    way: Way | None = None
    shared: DestinationPolicy | None = None
    """The provider's policy: its limits hold for all its lanes together."""
    pool: SourcePool | None = None
    priority: int = 0
    """Of mail that has none of its own: the route's. Routes to one next hop share its lane and its turns."""

    def useless(self, now: float) -> bool:
        """Tell whether it is too old to go by, even while a new answer is on the way."""
        return self.until + (STALE if self.way is not None else 0.0) <= now

    @property
    def moves(self) -> bool:
        """Whether another answer may come: exchangers change, smarthosts do not."""
        return self.until < float("inf")

    def limits(self, way: Way) -> list[tuple[str, DestinationPolicy]]:
        """Return the throttles of a lane by name, and what they keep to.

        Its provider's; its own, unless it is one of many there.
        """
        found = []
        if self.shared is not None:
            found.append((f"provider {way.provider}", self.shared))
        if self.shared is None or way.rule:
            found.append((f"{way.name} ({way.rule})" if way.rule else way.name, way.policy))
        return found

    def lane(self, claim: Delivery) -> tuple[Hashable, Way]:
        """Return the key of a delivery's lane and its way: those of a pool differ by their address."""
        assert self.way is not None
        if self.pool is None:
            return self.key, self.way
        # From the id, so that a message keeps its address from try to try (greylisting).
        chance = int.from_bytes(claim.queue_id[-4:], "big") / 2**32
        found = [choose(self.pool, chance, family) for family in (6, 4)]
        sources = tuple(Source(one.address, one.helo) for one in found if one is not None)
        name = f"{self.way.name} from {', '.join(one.address for one in sources)}"
        return (self.key, sources), msgspec.structs.replace(self.way, name=name, sources=sources)


class Router:
    """Finds ways. `tables` may be replaced while it runs."""

    def __init__(self, tables: Tables, resolver: Resolver, finder: Finder) -> None:
        self.tables = tables
        self._resolver = resolver
        self.finder = finder

    def question(self, domain: bytes, sender: str) -> Question:
        """Return what decides the way for a domain, and for a sender where senders make a difference."""
        tables = self.tables
        route = tables.routes.lookup(to_alabel(domain), sender)
        pool = tables.sources.for_sender(sender) if tables.sources.by_sender else ""
        return Question(domain, route, pool)

    def by_route(self, question: Question) -> Bound | None:
        """Return the way by a smarthost, None where the MX decide."""
        route = question.route
        if route is None or route.via is None:
            return None
        via = route.via
        name = ",".join(str(hop) for hop in via.hosts)
        hosts = [hop.host for hop in via.hosts]
        found = self.tables.policies.lookup(hosts[0], hosts)
        return self._bound(question, found, name, via, float("inf"))

    async def by_mx(self, question: Question, now: float) -> Bound:
        """Return the way by MX (RFC 5321 §5.1)."""
        domain = to_alabel(question.domain)
        exchangers = await self._resolver.exchangers(domain)
        if isinstance(exchangers, DnsFault):
            return self._none(now, domain, classify.dns(exchangers))
        kept = mx.without_self(exchangers.hosts, self.finder.own_names)
        if not kept:
            return self._none(now, domain, classify.loop(domain))
        site = Exchangers(kept, exchangers.implicit)
        found = self.tables.policies.lookup(domain, [host.name for host in kept])
        return self._bound(question, found, mx.site(site), site, now + FRESH)

    # ---- parts ----

    def _none(self, now: float, domain: str, outcome: Outcome) -> Bound:
        """Return that there is no way, and the policy of the domain alone for when it is tried again."""
        return Bound(now, outcome, self.tables.policies.lookup(domain, ()).policy)

    def _bound(
        self, question: Question, found: Found, name: str, to: Smarthost | Exchangers, until: float
    ) -> Bound:
        route = question.route
        policy = found.policy
        if route is not None and route.tls is not None:
            policy = msgspec.structs.replace(policy, tls=route.tls)
        pool = named(
            route=route.source if route is not None else None,
            policy=found.policy.source,
            sender=question.pool,
            default=self.tables.policies.default.source,
        )
        via = to if isinstance(to, Smarthost) else None
        way = Way(
            name,
            policy,
            self._find(to, policy),
            provider=found.provider,
            rule=found.rule,
            route=f"{route.sender or '*'} to {route.match}" if route is not None else "",
            by_mx=via is None,
            implicit_tls=via is not None and via.implicit_tls,
            credentials=via.credentials if via is not None else None,
        )
        key = (name, found.rule, found.provider, int(policy.tls), via)
        priority = route.priority if route is not None and route.priority is not None else 0
        return Bound(until, None, None, key, way, found.shared, self.tables.sources.pool(pool), priority)

    def _find(self, to: Smarthost | Exchangers, policy: DestinationPolicy) -> Find:
        finder = self.finder
        if isinstance(to, Smarthost):
            return lambda: finder.by_route(to, policy)
        return lambda: finder.by_mx(to, policy)
