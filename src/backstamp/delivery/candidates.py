"""Which hosts an attempt may try, in order: route or MX, then their addresses, each judged.

Addresses are judged after resolution and connected to as judged; nothing is resolved again
in between (security: DNS rebinding). What may not be connected to is an outcome, not a
silence.
"""

from collections.abc import AsyncIterator, Callable

from backstamp.delivery.outside import Candidate, Resolver
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify, mx
from backstamp.policy.mx import DnsFault, DnsProblem, Exchanger
from backstamp.policy.route import Smarthost

ADDRESSES_PER_ATTEMPT = 10
"""Addresses an attempt tries at most; RFC 5321 §5.1 asks for at least two."""


class Finder:
    """Finds candidates for a next hop or a domain."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        port: int,
        private: bool,
        own_names: frozenset[str],
        own_addresses: frozenset[str],
        chance: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self._port = port
        self._private = private
        self._own_names = own_names
        self._own_addresses = own_addresses
        self._chance = chance

    async def by_route(self, via: Smarthost) -> AsyncIterator[Candidate | Outcome]:
        """Yield a smarthost's addresses. The operator named it, so private addresses are meant."""
        for hop in via.hosts:
            async for found in self._addresses(hop.host, hop.port, judged=False):
                yield found if isinstance(found, Candidate) else classify.lost_smarthost(hop.host)

    async def by_mx(self, domain: str) -> AsyncIterator[Candidate | Outcome]:
        """Yield the addresses of a domain's mail exchangers in order of preference (RFC 5321 §5.1)."""
        found = await self._resolver.exchangers(domain)
        if isinstance(found, DnsFault):
            yield classify.dns(found)
            return
        hosts: tuple[Exchanger, ...] = mx.ordered(found, [self._chance() for _ in found.hosts])
        kept = mx.without_self(hosts, self._own_names)
        if not kept:
            yield classify.loop(domain)
            return
        count = 0
        for exchanger in kept:
            async for candidate in self._addresses(exchanger.name, self._port, judged=True):
                yield candidate
                count += isinstance(candidate, Candidate)
                if count >= ADDRESSES_PER_ATTEMPT:
                    return

    async def _addresses(self, host: str, port: int, *, judged: bool) -> AsyncIterator[Candidate | Outcome]:
        addresses = await self._resolver.addresses(host)
        if isinstance(addresses, DnsFault):
            if addresses.problem is DnsProblem.NO_DOMAIN:
                # The host does not exist; about the domain that says only that it has no address here.
                addresses = DnsFault(DnsProblem.NO_ADDRESS, addresses.text)
            yield classify.dns(addresses)
            return
        for address in addresses:
            why = mx.forbidden(address, private=self._private, own=self._own_addresses) if judged else None
            if why is not None:
                yield classify.forbidden(host, address, why)
            else:
                yield Candidate(host, address, port)
