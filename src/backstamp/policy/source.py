"""Addresses this relay sends from: pools by name, and which pool a sender's mail uses.

Which address of a pool a connection takes is a matter of chance and weight, one choice per
family, as a host has addresses of both. Chance comes in as a number. A route, a destination's
policy or a provider's may name another pool: those are about where mail goes, and outweigh.
"""

import ipaddress
from collections.abc import Iterable

import msgspec

from backstamp.policy.destination import Matches


class PoolAddress(msgspec.Struct, frozen=True):
    """One address, the name this relay has there (empty: its own), and its share of connections."""

    address: str
    helo: str = ""
    weight: int = 1

    @property
    def family(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.address).version


class SourcePool(msgspec.Struct, frozen=True):
    """Addresses under one name; `senders` are written as in `policy.route.Route.sender`, never empty."""

    name: str
    addresses: tuple[PoolAddress, ...]
    senders: tuple[str, ...] = ()


def choose(pool: SourcePool, chance: float, family: int) -> PoolAddress | None:
    """Return an address of a family (4 or 6) by weight; `chance` is from [0, 1).

    None where the pool has none of it: the destination's address cannot be reached from there.
    """
    fitting = [one for one in pool.addresses if one.family == family]
    left = chance * sum(one.weight for one in fitting)
    for one in fitting:
        left -= one.weight
        if left < 0:
            return one
    # Rounding may leave a crumb of the last share.
    return fitting[-1] if fitting else None


def named(*, route: str | None, policy: str, sender: str, default: str) -> str:
    """Return the name of the pool for mail, empty where the system chooses.

    `route` is the route's (None: it names none), `policy` that of what holds for the destination,
    `sender` the sender's, `default` that of the policy without rules: one that differs was named
    for the destination or its provider.
    """
    if route is not None:
        return route
    return policy if policy != default else sender or default


class SourceTable:
    """Pools by name and by sender."""

    def __init__(self, pools: Iterable[SourcePool] = ()) -> None:
        self._pools = {pool.name: pool for pool in pools}
        senders = [(sender.lower(), pool.name) for pool in self._pools.values() for sender in pool.senders]
        self._addresses = {key: name for key, name in senders if "@" in key or key == "<>"}
        self._domains = Matches((key, name) for key, name in senders if key not in self._addresses)
        self.by_sender = bool(senders)
        """Whether the sender can make a difference."""

    def pool(self, name: str) -> SourcePool | None:
        """Return a pool; None for a name nobody has, and for the empty one (the system chooses)."""
        return self._pools.get(name)

    def for_sender(self, sender: str) -> str:
        """Return the name of a sender's pool, empty without one: its address outweighs its domain.

        `sender` is the reverse-path with its domain in A-labels, `<>` the null one.
        """
        lowered = sender.lower()
        found = self._addresses.get(lowered)
        if found is None and "@" in lowered:
            found = self._domains.find(lowered.rpartition("@")[2])
        return found or ""
