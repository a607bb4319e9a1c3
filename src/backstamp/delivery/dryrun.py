"""Which way mail for an address would go now: everything an attempt does but to connect.

Routes, exchangers and their addresses, each judged as an attempt judges it, the demand for TLS,
the source, the policy, and what its lane and limits stand at. The resolver is asked; nobody is
connected to and nothing is changed.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from backstamp.clock import Clock
from backstamp.delivery.candidates import ADDRESSES_PER_HOST
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.facts import Address, Directions, Fit, Host, Listed, Share
from backstamp.delivery.looking import Looker
from backstamp.delivery.outside import Candidate
from backstamp.delivery.outside import Resolver as Asks
from backstamp.delivery.router import Bound, Question
from backstamp.delivery.tries import CONNECTS
from backstamp.mail.address import to_alabel
from backstamp.mail.envelope import domain_of
from backstamp.mail.outcome import Verdict
from backstamp.policy import mx
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.mx import DnsFault, Exchangers
from backstamp.policy.route import Route, sender_name
from backstamp.policy.source import SourcePool
from backstamp.policy.suppression import Suppressed
from backstamp.text import printable

NAMED: Final = 10
"""Routes that do not fit and are named with the reason; the others are counted."""


class DryRun:
    """Finds directions. `suppressed` is the suppression list, None where there is none."""

    def __init__(
        self, dispatcher: Dispatcher, resolver: Asks, clock: Clock, suppressed: Suppressed | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self._resolver = resolver
        self._clock = clock
        self._suppressed = suppressed

    async def directions(self, address: bytes, sender: bytes | None) -> Directions:
        """Return the way for an address and a sender (empty: the null reverse-path; None: anybody)."""
        router = self._dispatcher.router
        domain = domain_of(address)
        name = to_alabel(domain)
        whose = "" if sender is None else sender_name(sender)
        question = router.question(domain, whose)
        bound = router.by_route(question) or await router.by_mx(question, self._clock.monotonic())
        hosts, implicit = await self._hosts(question, bound)
        looker = Looker(self._dispatcher.books(), self._clock)
        fits, others = self._routes(name, whose)
        outcome = bound.outcome
        return Directions(
            printable(address.decode("utf-8", "backslashreplace")),
            None if sender is None else printable(sender.decode("utf-8", "backslashreplace")),
            printable(name),
            looker.now,
            fits,
            others,
            printable(str(outcome.reply)) if outcome is not None else "",
            outcome is not None and outcome.verdict is Verdict.FAILED,
            implicit,
            hosts,
            looker.way(question, bound, bound.way, router.tables) if bound.way is not None else None,
            bound.pool.name if bound.pool is not None else "",
            tuple(_shares(bound.pool)) if bound.pool is not None else (),
            looker.lanes(bound) if bound.way is not None else None,
            self._listed(address, domain_of(sender or b"")),
        )

    # ---- routes ----

    def _routes(self, domain: str, sender: str) -> tuple[tuple[Fit, ...], int]:
        table = self._dispatcher.router.tables.routes
        fitting = [*table.fitting(domain, sender)]
        found = [_fit(route, fits=True, why=_rank(route, fitting)) for route in fitting]
        others = [route for route in table.routes if not any(route is one for one in fitting)]
        found += [_fit(route, fits=False, why=_misfit(route, domain, sender)) for route in others[:NAMED]]
        return tuple(found), max(0, len(others) - NAMED)

    # ---- hosts ----

    async def _hosts(self, question: Question, bound: Bound) -> tuple[tuple[Host, ...], bool]:
        """Return the hosts in the order of tries, and whether there is no MX."""
        policy = bound.way.policy if bound.way is not None else bound.retry
        assert policy is not None
        route = question.route
        if route is not None and route.via is not None:
            hops = route.via.hosts
            return tuple(
                [await self._host(one.host, one.port, None, policy, bound, judged=False) for one in hops]
            ), False
        exchangers = await self._resolver.exchangers(to_alabel(question.domain))
        if isinstance(exchangers, DnsFault):
            return (), False
        return tuple([one async for one in self._exchangers(exchangers, policy, bound)]), exchangers.implicit

    async def _exchangers(
        self, found: Exchangers, policy: DestinationPolicy, bound: Bound
    ) -> AsyncIterator[Host]:
        own = self._dispatcher.router.finder.own_names
        kept = mx.without_self(found.hosts, own)
        left = CONNECTS
        for one in mx.ordered(found, [0.0] * len(found.hosts)):
            if one not in kept:
                why = (
                    "this relay itself"
                    if one.name in own
                    else "not better than this relay itself (RFC 5321 §5.1)"
                )
                yield Host(one.name, policy.port, one.preference, (), why)
                continue
            host = await self._host(
                one.name, policy.port, one.preference, policy, bound, judged=True, left=left
            )
            left = max(0, left - sum(not address.refused for address in host.addresses))
            yield host

    async def _host(
        self,
        name: str,
        port: int,
        preference: int | None,
        policy: DestinationPolicy,
        bound: Bound,
        *,
        judged: bool,
        left: int = CONNECTS,
    ) -> Host:
        found = await self._resolver.addresses(name)
        if isinstance(found, DnsFault):
            return Host(
                printable(name), port, preference, (), f"its name leads nowhere ({found.problem.value})"
            )
        order = [*mx.by_family(found.known, policy.family)]
        judgements = [self._address(name, one, port, policy, bound, judged=judged) for one in order]
        skipped = [
            Address(one, f"of a family that is not used ({policy.family.value})")
            for one in found.known
            if one not in order
        ]
        good = 0
        addresses = []
        for one in judgements:
            good += not one.refused
            enough = ""
            if not one.refused and good > ADDRESSES_PER_HOST:
                enough = "enough others come before it"
            elif not one.refused and good > left:
                enough = "enough others come before it, until they are known to be dead"
            addresses.append(Address(one.address, enough) if enough else one)
        problem = "" if found.known else "it has no address"
        fault = mx.unanswered(found, policy.family)
        return Host(
            printable(name),
            port,
            preference,
            (*addresses, *skipped),
            problem,
            "" if fault is None else f"IPv{6 if fault is found.six else 4}: {fault.problem.value}",
        )

    def _address(
        self, name: str, address: str, port: int, policy: DestinationPolicy, bound: Bound, *, judged: bool
    ) -> Address:
        finder, opener = self._dispatcher.router.finder, self._dispatcher.opener
        why = finder.forbidden(address, policy) if judged else None
        family = 6 if ":" in address else 4
        if (
            why is None
            and bound.pool is not None
            and all(one.family != family for one in bound.pool.addresses)
        ):
            why = f"the pool {bound.pool.name} has no IPv{family} address"
        return Address(address, why or "", opener.clear(Candidate(name, address, port)))

    def _listed(self, address: bytes, tenant: bytes) -> Listed | None:
        if self._suppressed is None or (found := self._suppressed.match(address, tenant)) is None:
            return None
        name = printable(address.decode("utf-8", "backslashreplace"))
        return Listed(name, found.bounce_class, found.source.value, found.expires)


def _fit(route: Route, *, fits: bool, why: str) -> Fit:
    via = "mx" if route.via is None else ",".join(str(hop) for hop in route.via.hosts)
    return Fit(f"from {route.sender or '*'} to {route.match}", via, fits, why)


def _rank(route: Route, fitting: Sequence[Route]) -> str:
    """Return why a route that fits decides, or why not."""
    best = fitting[0]
    if route is best:
        return "it decides: the most specific that fits" if len(fitting) > 1 else "it decides"
    if route.sender != best.sender:
        return "outweighed: its sender is less specific"
    return "outweighed: its destination is less specific"


def _misfit(route: Route, domain: str, sender: str) -> str:
    """Return why a route does not fit."""
    if not _covers(route.match, domain):
        return f"it does not cover {printable(domain)}"
    if route.sender and not sender:
        return "it is for one sender, and none was named"
    if not route.sender or _covers_sender(route.sender, sender):
        return "another with the same sender and destination, or for a narrower sender, comes first"
    return f"it is not for mail from {printable(sender)}"


def _covers(match: str, domain: str) -> bool:
    name = match.lower()
    return name in ("*", domain) or (name.startswith("*.") and domain.endswith(name[1:]))


def _covers_sender(match: str, sender: str) -> bool:
    lowered = sender.lower()
    return match.lower() == lowered or ("@" in lowered and _covers(match, lowered.rpartition("@")[2]))


def _shares(pool: SourcePool) -> Iterator[Share]:
    for one in pool.addresses:
        weights = sum(other.weight for other in pool.addresses if other.family == one.family)
        yield Share(one.address, one.helo, round(one.weight / weights, 3))
