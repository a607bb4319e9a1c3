"""Who is connected, and how much each client does: counts and rates. Pure.

Connections are counted in all, by address and, of IPv6, by /64 (a host has a whole one to
itself, RFC 6177). Rates are per client: an authenticated user, else an address, of IPv6
its /64. Clients of the exempt networks (by default this host) are counted only in all.
Bounded: who has no connection costs nothing but its rates; those are forgotten once they say
nothing any more, and of too many the one that did something longest ago goes. Times are monotonic
seconds given by the caller.
"""

import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from math import inf
from typing import Final

import msgspec

from backstamp.listener import admission, pace
from backstamp.listener.settings import Limits
from backstamp.listener.tally import Tally
from backstamp.mail.headers import LOCAL
from backstamp.policy.destination import Rate
from backstamp.policy.rate import conforming

CLIENTS: Final = 10_000
"""Clients whose rates are remembered at a time."""

FULL: Final = b"421 4.3.2 Too many connections\r\n"

_REPLIES: Final = {
    "connections": FULL,
    "connections_per_client": b"421 4.7.0 Too many connections from your address\r\n",
    "connections_per_network": b"421 4.7.0 Too many connections from your network\r\n",
    "connection_rate": b"421 4.7.0 Too many connections in too short a time, try again later\r\n",
    "messages_per_connection": b"421 4.7.0 Enough messages in this connection, open another\r\n",
    "command_timeout": pace.IDLE,
    "message_rate": b"450 4.7.1 Too many messages in too short a time, try again later\r\n",
    "recipient_rate": b"450 4.7.1 Too many recipients in too short a time, try again later\r\n",
}
"""By the key of `[limits]`. A 452 to a recipient would mean: the rest in another transaction, at once
(RFC 5321 §4.5.3.1.10)."""

Place = tuple[str, str, bool]
"""Of a peer: its address, its network (a /64; empty for IPv4), whether it is exempt."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A limit that is reached: its key in `[limits]`, and what the client is told.

    `told` is the `count` of the event to be emitted, 0 if there was one in the last minute.
    """

    limit: str
    client: str
    reply: bytes
    told: int


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who a rate is of; `name` as in events."""

    name: str
    exempt: bool = False


class Crowd:
    """The clients of all listeners that share it. `limits` may be replaced while it runs."""

    def __init__(self, limits: Limits, *, clients: int = CLIENTS) -> None:
        self.limits = limits
        self.connections = 0
        self._clients = clients
        self._by_address: dict[str, int] = {}
        self._by_network: dict[str, int] = {}
        self._due: dict[tuple[str, str], float] = {}
        """By limit and client; in the order they did something last."""
        self._tally = Tally(clients)

    def __len__(self) -> int:
        """Return how many things are remembered, of those who are here and those who were."""
        return len(self._by_address) + len(self._by_network) + len(self._due) + len(self._tally)

    def admit(self, peer: str, now: float) -> Refusal | None:
        """Count a connection in, or return the refusal: then it is not counted, and must not leave."""
        limits = self.limits
        address, network, exempt = _place(peer, limits.exempt)
        if self.connections >= limits.connections:
            return self._refusal("connections", address, now)
        if not exempt:
            if _reached(self._by_address.get(address, 0), limits.connections_per_client):
                return self._refusal("connections_per_client", address, now)
            if network and _reached(self._by_network.get(network, 0), limits.connections_per_network):
                return self._refusal("connections_per_network", network, now)
            refusal = self._take("connection_rate", limits.connection_rate, network or address, now)
            if refusal is not None:
                return refusal
        self.connections += 1
        self._by_address[address] = self._by_address.get(address, 0) + 1
        if network:
            self._by_network[network] = self._by_network.get(network, 0) + 1
        return None

    def leave(self, peer: str) -> None:
        """Count a connection out that was counted in."""
        address, network, _ = _place(peer, self.limits.exempt)
        self.connections -= 1
        _less(self._by_address, address)
        if network:
            _less(self._by_network, network)

    def client(self, peer: str, user: str = "") -> Client:
        """Return whose rates those of a session are; `user` is who was authenticated, empty if nobody."""
        address, network, exempt = _place(peer, self.limits.exempt)
        # No address begins like this: who is called 192.0.2.1 shares nothing with a client from there.
        return Client(f"user {user}" if user else network or address, exempt)

    def message(self, client: Client, now: float, before: int = 0) -> Refusal | None:
        """Count a message (at MAIL), or return the refusal; `before` are those of its connection already."""
        most = self.limits.messages_per_connection
        if _reached(before, most) and not client.exempt:
            return self._refusal("messages_per_connection", client.name, now)
        return self._rate("message_rate", self.limits.message_rate, client, now)

    def recipient(self, client: Client, now: float) -> Refusal | None:
        """Count a recipient (one that would be taken), or return the refusal."""
        return self._rate("recipient_rate", self.limits.recipient_rate, client, now)

    def idle(self, peer: str, now: float) -> Refusal:
        """Count a client that took too long for a command; nobody is exempt."""
        return self._refusal("command_timeout", self.client(peer).name, now)

    def full(self, peer: str, now: float) -> Refusal:
        """Refuse a connection for which this process has no room; nobody is exempt."""
        return self._refusal("connections", _place(peer, self.limits.exempt)[0], now)

    def due(self, now: float) -> Iterator[Refusal]:
        """Forget what says nothing any more, yield the events still owed (`Tally.due`); for now and then."""
        while self._due and next(iter(self._due.values())) <= now:
            del self._due[next(iter(self._due))]
        for (limit, client), count in self._tally.due(now):
            yield Refusal(limit, client, _REPLIES[limit], count)

    def _rate(self, limit: str, rate: Rate | None, client: Client, now: float) -> Refusal | None:
        return None if client.exempt else self._take(limit, rate, client.name, now)

    def _take(self, limit: str, rate: Rate | None, client: str, now: float) -> Refusal | None:
        if rate is None:
            return None
        key = (limit, client)
        before = self._due.pop(key, -inf)
        after = conforming(rate, before, now)
        # Put in anew, it is the last in order; the first is who did something longest ago.
        self._due[key] = before if after is None else after
        self._forget(now)
        return self._refusal(limit, client, now) if after is None else None

    def _forget(self, now: float) -> None:
        """Forget the oldest that say nothing any more (two, so that they get fewer), or one too many."""
        for _ in range(2):
            oldest = next(iter(self._due))
            # The last, just put in, stays: it is due in the future.
            if self._due[oldest] > now and len(self._due) <= self._clients:
                return
            del self._due[oldest]

    def _refusal(self, limit: str, client: str, now: float) -> Refusal:
        return Refusal(limit, client, _REPLIES[limit], self._tally.count((limit, client), now))


def _reached(count: int, most: int) -> bool:
    return 0 < most <= count


def _less(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]


@lru_cache(maxsize=1024)  # asked at every connection, and clients come again and again
def _place(peer: str, exempt: tuple[IPv4Network | IPv6Network, ...]) -> Place:
    name = admission.plain(peer)
    try:
        address: IPv4Address | IPv6Address = ipaddress.ip_address(name)
    except ValueError:
        # By the socket file: a program of this host, which is exempt with it. Who else has no address is not.
        return name, "", name == LOCAL and any(network.is_loopback for network in exempt)
    network = ""
    if isinstance(address, IPv6Address):
        network = str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address), network, admission.may_relay(name, exempt)
