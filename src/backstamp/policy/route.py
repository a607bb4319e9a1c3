"""Where mail goes: a smarthost, by destination and sender, or (no route) the destination's MX.

Precedence, most specific first: routes for the sender's address, its domain, then for every
sender; among those the longest match of the destination. So a route for one sender
outweighs any that is for all, and within one sender the destination decides.
"""

from collections.abc import Iterable, Iterator

import msgspec

from backstamp.mail.address import to_alabel
from backstamp.policy.destination import Matches, Tls


class NextHop(msgspec.Struct, frozen=True):
    """A host to hand mail to: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Credentials(msgspec.Struct, frozen=True):
    """Who this relay is to a smarthost. `mechanism` is empty where the best one offered is meant."""

    username: str
    secret: str
    mechanism: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


class Smarthost(msgspec.Struct, frozen=True):
    """Hosts in the order they are tried, and how they are spoken to."""

    hosts: tuple[NextHop, ...]
    implicit_tls: bool = False
    """TLS from the first octet (RFC 8314 §3), no STARTTLS."""
    credentials: Credentials | None = None


class Route(msgspec.Struct, frozen=True):
    """Mail from `sender` for what `match` covers (`example.org`, `*.example.org`, `*`).

    `sender` is empty (everybody), an address, a domain or `*.domain`; the null reverse-path is
    `<>`. `via` None means by MX, an exception from a wider route. `tls` None, `source` and
    `priority` None leave it to the destination's policy and the mail.
    """

    match: str
    via: Smarthost | None
    sender: str = ""
    at_most_once: bool = False
    """Whether mail accepted for it is sent at most once: who is in doubt is held, not sent again."""
    tls: Tls | None = None
    source: str | None = None
    priority: int | None = None


def sender_name(sender: bytes) -> str:
    """Return a reverse-path (no brackets) as routes and source pools name it: domain in A-labels, `<>`."""
    local, at, domain = sender.rpartition(b"@")
    return f"{local.decode('utf-8', 'backslashreplace')}@{to_alabel(domain)}" if at else "<>"


class RouteTable:
    """Routes by sender, then destination; `None` means by MX."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        by_sender: dict[str, list[tuple[str, Route]]] = {}
        self.routes = tuple(routes)
        self.at_most_once = False
        """Whether any route wants at-most-once."""
        for route in self.routes:
            self.at_most_once = self.at_most_once or route.at_most_once
            by_sender.setdefault(route.sender.lower(), []).append((route.match, route))
        self._everybody = Matches(by_sender.pop("", []))
        self._addresses = {
            key: Matches(items) for key, items in by_sender.items() if "@" in key or key == "<>"
        }
        self._domains = Matches(
            (key, Matches(items)) for key, items in by_sender.items() if "@" not in key and key != "<>"
        )
        self.by_sender = bool(by_sender)
        """Whether the sender can make a difference."""

    def lookup(self, domain: str, sender: str = "") -> Route | None:
        """Return the route for a domain (lower case A-labels) and a sender.

        `sender` is the reverse-path with its domain in A-labels, `<>` the null one; empty, if
        nobody can be meant but everybody.
        """
        return next(self.fitting(domain, sender), None)

    def fitting(self, domain: str, sender: str = "") -> Iterator[Route]:
        """Yield the routes that fit, the one that decides (`lookup`) first, then those it outweighs."""
        if self.by_sender and sender:
            lowered = sender.lower()
            if (table := self._addresses.get(lowered)) is not None:
                yield from table.all(domain)
            table = self._domains.find(lowered.rpartition("@")[2]) if "@" in lowered else None
            if table is not None:
                yield from table.all(domain)
        yield from self._everybody.all(domain)
