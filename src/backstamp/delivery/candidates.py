"""Which hosts an attempt may try, in order, each as its addresses, every one judged.

Addresses are judged after resolution and connected to as judged; nothing is resolved again
in between (security: DNS rebinding). What may not be connected to is an outcome, not a
silence.
"""

from collections.abc import AsyncIterator, Callable

from backstamp.delivery.outside import Candidate, Resolver
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify, mx
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchangers
from backstamp.policy.route import Smarthost

ADDRESSES_PER_HOST = 5
"""Addresses of one host an attempt tries at most, so that the next host has its turn (`delivery.tries`)."""

Hosts = AsyncIterator[tuple[Candidate, ...] | Outcome]


class Finder:
    """Finds candidates for a smarthost or a site."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        own_names: frozenset[str],
        own_addresses: frozenset[str],
        chance: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self.own_names = own_names
        self.own_addresses = own_addresses
        self._chance = chance

    async def by_route(self, via: Smarthost, policy: DestinationPolicy) -> Hosts:
        """Yield a smarthost's hosts in their order. The operator named them: private addresses are meant."""
        for hop in via.hosts:
            async for found in self._host(hop.host, hop.port, policy, judged=False):
                yield classify.lost_smarthost(hop.host) if isinstance(found, Outcome) else found

    async def by_mx(self, exchangers: Exchangers, policy: DestinationPolicy) -> Hosts:
        """Yield mail exchangers in order of preference, equal ones by chance (RFC 5321 §5.1).

        The exchangers are those better than this relay itself (`mx.without_self`).
        """
        for exchanger in mx.ordered(exchangers, [self._chance() for _ in exchangers.hosts]):
            async for found in self._host(exchanger.name, policy.port, policy, judged=True):
                yield found

    async def _host(self, host: str, port: int, policy: DestinationPolicy, *, judged: bool) -> Hosts:
        """Yield a host's addresses together, and a word for each that must not be connected to."""
        addresses = await self._resolver.addresses(host)
        if isinstance(addresses, DnsFault):
            if addresses.problem is DnsProblem.NO_DOMAIN:
                # The host does not exist; about the domain that says only that it has no address here.
                addresses = DnsFault(DnsProblem.NO_ADDRESS, addresses.text)
            yield classify.dns(addresses)
            return
        good = []
        order = mx.by_family(addresses.known, policy.family)
        for address in order:
            why = self.forbidden(address, policy) if judged else None
            if why is not None:
                yield classify.forbidden(host, address, why)
            else:
                good.append(Candidate(host, address, port))
        if good:
            yield tuple(good[:ADDRESSES_PER_HOST])
        elif (fault := mx.unanswered(addresses, policy.family)) is not None:
            # There may be addresses that nobody could be asked for: that outweighs those that will not do.
            yield classify.dns(fault)
        elif not order:
            yield classify.dns(DnsFault(DnsProblem.NO_ADDRESS, host))

    def forbidden(self, address: str, policy: DestinationPolicy) -> str | None:
        """Return why mail by MX must not go to an address, None if it may."""
        return mx.forbidden(address, private=policy.private_addresses, own=self.own_addresses)

    async def addresses(self, host: str) -> Addresses | DnsFault:
        """Return the addresses of a host, as they come from DNS."""
        return await self._resolver.addresses(host)
