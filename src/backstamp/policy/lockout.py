"""Guessing passwords made slow and short: failures of AUTH by client address and by user. Pure.

Failures are counted per address (an IPv6 host has a whole /64), and per user over all
addresses. Where a user succeeded lately they are trusted: there only their own failures at
that very address count, so nobody elsewhere, and no neighbour behind the same address, can
lock them out. Everywhere else both counts hold. A count lasts a window from its first
failure; when it is full the lock-out begins, and what is tried meanwhile neither counts nor
prolongs it. Names nobody has are counted like all others, or the difference would tell.
Memory is bounded: the count that was not added to for the longest goes first.
"""

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address
from typing import Final, Generic, TypeVar

import msgspec

SIZE: Final = 10_000
"""Addresses, users, and users at addresses that are remembered, at most."""

TRUST: Final = 30 * 86_400.0
"""Seconds for which a success makes an address the user's own."""

LONGEST: Final = 10.0
"""Seconds an answer is held back, at most; clients wait minutes for one (RFC 5321 §4.5.3.2.7)."""

K = TypeVar("K", bound=Hashable)


class Count(msgspec.Struct, frozen=True):
    """Failures since a time (seconds), and the time at which a lock-out ends, 0 without one."""

    failures: int
    since: float
    until: float = 0.0


class _Counts(Generic[K]):
    """Counts by key, each for its window."""

    def __init__(self, failures: int, window: float, size: int) -> None:
        self._failures = failures
        self._window = window
        self._size = size
        self._kept: OrderedDict[K, Count] = OrderedDict()

    def of(self, key: K, now: float) -> Count:
        kept = self._kept.get(key)
        if kept is None or now >= (kept.until or kept.since + self._window):
            return Count(0, now)
        return kept

    def add(self, key: K, now: float) -> None:
        kept = self.of(key, now)
        if kept.until:
            return
        failures = kept.failures + 1
        until = now + self._window if failures >= self._failures else 0.0
        self._kept[key] = Count(failures, kept.since, until)
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def clear(self, key: K) -> None:
        self._kept.pop(key, None)


class Lockout:
    """The failures of one process; `failures` within `seconds` lock out for `seconds`."""

    def __init__(self, failures: int, seconds: float, *, size: int = SIZE) -> None:
        self._addresses: _Counts[str] = _Counts(failures, seconds, size)
        self._users: _Counts[str] = _Counts(failures, seconds, size)
        self._own: _Counts[tuple[str, str]] = _Counts(failures, seconds, size)
        self._trusted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._size = size

    def delay(self, peer: str, user: str, now: float) -> float:
        """Return the seconds to hold back the answer to a failure: 1 after the first, then doubled, up to 10.

        `user` is empty where no name was given; times are seconds of a clock that does not jump.
        """
        failures = max(count.failures for count in self._that_hold(peer, user, now))
        return min(LONGEST, 2.0 ** min(failures - 1, 10)) if failures else 0.0

    def locked(self, peer: str, user: str, now: float) -> float | None:
        """Return the time at which a lock-out of this user at this address ends, None without one."""
        return max(count.until for count in self._that_hold(peer, user, now)) or None

    def failed(self, peer: str, user: str, now: float) -> None:
        """Count a failure."""
        address = network(peer)
        if self._trusts((user, address), now):
            self._own.add((user, address), now)
            return
        self._addresses.add(address, now)
        if user:
            self._users.add(user, now)

    def succeeded(self, peer: str, user: str, now: float) -> None:
        """Trust a user at this address, and forget their failures there.

        The address's count stays: who has one account must not guess at others between its successes.
        """
        key = (user, network(peer))
        self._own.clear(key)
        self._trusted[key] = now + TRUST
        self._trusted.move_to_end(key)
        if len(self._trusted) > self._size:
            self._trusted.popitem(last=False)

    def _trusts(self, key: tuple[str, str], now: float) -> bool:
        return now < self._trusted.get(key, 0.0)

    def _that_hold(self, peer: str, user: str, now: float) -> tuple[Count, ...]:
        address = network(peer)
        if self._trusts((user, address), now):
            return (self._own.of((user, address), now),)
        if not user:
            return (self._addresses.of(address, now),)
        return self._addresses.of(address, now), self._users.of(user, now)


def network(peer: str) -> str:
    """Return what is counted as one client: an IPv4 address, the /64 of an IPv6 one."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else f"{IPv6Address(int(address) >> 64 << 64)}/64"
