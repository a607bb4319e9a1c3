"""Where mail for a domain goes, and every knob for the way: routes and destination policies.

A policy is one frozen record, looked up once per lane. Routes are matched by the longest
rule: the domain itself, then `*.parent` from the longest parent on, then `*`.
"""

from collections.abc import Iterable

import msgspec

from backstamp.policy.retry import RetryPolicy


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds the client waits, each at its place: RFC 5321 §4.5.3.2 (connect is ours)."""

    connect: float = 30.0
    greeting: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    quit: float = 10.0


class NextHop(msgspec.Struct, frozen=True):
    """A smarthost: a name or an address, and a port."""

    host: str
    port: int


class Route(msgspec.Struct, frozen=True):
    """Mail for what `match` covers (`example.org`, `*.example.org`, `*`) goes to one next hop."""

    match: str
    via: NextHop
    at_most_once: bool = False
    """Whether mail accepted for it is sent at most once: who is in doubt is held, not sent again."""


class DestinationPolicy(msgspec.Struct, frozen=True):
    """Every knob for a destination."""

    retry: RetryPolicy = RetryPolicy()
    timeouts: Timeouts = Timeouts()
    connections: int = 20
    messages_per_connection: int = 500
    recipients_per_transaction: int = 100
    idle: float = 2.0
    port: int = 25
    private_addresses: bool = False


class RouteTable:
    """Routes by longest match; `None` means by MX."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._exact: dict[str, Route] = {}
        self._below: dict[str, Route] = {}
        self.at_most_once = False
        """Whether any route wants at-most-once."""
        for route in routes:
            self.at_most_once = self.at_most_once or route.at_most_once
            match = route.match.lower()
            if match == "*":
                self._below[""] = route
            elif match.startswith("*."):
                self._below[match[2:]] = route
            else:
                self._exact[match] = route

    def lookup(self, domain: str) -> Route | None:
        """Return the route for a domain (lower case A-labels).

        `*.example.org` does not cover `example.org` itself.
        """
        found = self._exact.get(domain)
        parent = domain
        while found is None and parent:
            parent = parent.partition(".")[2]
            found = self._below.get(parent)
        return found
