"""Every knob for a destination, as one frozen record, and who looks it up: the policy table.

A policy is looked up once per lane: the rule for the domain, then the provider's, then the
default; a rule says only what it changes. A provider is a name and patterns over MX names,
so that every domain hosted there shares its limits. Where mail goes is `policy.route`'s.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from backstamp.policy.retry import RetryPolicy


class Tls(enum.IntEnum):
    """What is demanded of a session; guards may raise it, nothing lowers it."""

    NONE = 0
    """Clear text, though TLS is offered: for hosts whose TLS is broken."""
    MAY = 1
    """TLS where it is offered and works (RFC 7435), else clear text."""
    ENCRYPT = 2
    """TLS, with any certificate."""
    VERIFY = 3
    """TLS, with a certificate for the host's name from an authority this machine trusts."""


class Family(enum.Enum):
    """Which addresses of a host are tried, and which of them first."""

    BOTH = "both"
    """In turn, the family of the resolver's first answer first (RFC 8305 §4)."""
    IPV6_FIRST = "ipv6-first"
    IPV4_FIRST = "ipv4-first"
    IPV6 = "ipv6"
    IPV4 = "ipv4"


class Rate(msgspec.Struct, frozen=True):
    """At most `count` in any `seconds`."""

    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count} in {self.seconds:g} s"


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds the client waits, each at its place: RFC 5321 §4.5.3.2 (connect and quit are ours)."""

    connect: float = 30.0
    greeting: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    quit: float = 10.0


class DestinationPolicy(msgspec.Struct, frozen=True):
    """Every knob for a destination.

    `connections` is the most at a time; a lane begins with one, goes to `initial_connections` when
    the first transaction was answered, and grows from there as mail is taken. Rates are None where
    there is no limit. `idle` is seconds an open session waits for the next message. `source` names
    a pool of source addresses, empty: the system chooses.
    """

    retry: RetryPolicy = RetryPolicy()
    timeouts: Timeouts = Timeouts()
    connections: int = 20
    initial_connections: int = 5
    messages_per_connection: int = 500
    recipients_per_transaction: int = 100
    connection_rate: Rate | None = None
    message_rate: Rate | None = None
    idle: float = 2.0
    tls: Tls = Tls.MAY
    family: Family = Family.BOTH
    source: str = ""
    port: int = 25
    private_addresses: bool = False


class Rule(msgspec.Struct, frozen=True):
    """What is different for destinations that `match` covers (`example.org`, `*.example.org`)."""

    match: str
    changes: Mapping[str, Any]
    """Fields of `DestinationPolicy` and their values."""


class Provider(msgspec.Struct, frozen=True):
    """A mail host of many domains: a name, patterns over MX names (as `match`), what is different there."""

    name: str
    mx: tuple[str, ...]
    changes: Mapping[str, Any] = {}


class Found(msgspec.Struct, frozen=True):
    """What holds for a destination.

    `rule` is the match of the domain's rule, empty without one; `provider` is None where no
    provider's pattern covers its best MX. `shared` is the policy of the provider, whose limits
    all its lanes share; the lane's own are in `policy`.
    """

    policy: DestinationPolicy
    rule: str = ""
    provider: str = ""
    shared: DestinationPolicy | None = None


class PolicyTable:
    """Policies by domain, then provider, then default."""

    def __init__(
        self,
        default: DestinationPolicy | None = None,
        rules: Iterable[Rule] = (),
        providers: Iterable[Provider] = (),
    ) -> None:
        self.default = default or DestinationPolicy()
        self._written = tuple(rules), tuple(providers)
        self._rules = Matches((rule.match, rule) for rule in self._written[0])
        self._providers = Matches((match, one) for one in self._written[1] for match in one.mx)

    def lookup(self, domain: str, hosts: Sequence[str]) -> Found:
        """Return what holds for a domain with these MX names, the best first (lower case A-labels)."""
        provider = next((one for host in hosts if (one := self._providers.find(host)) is not None), None)
        rule = self._rules.find(domain)
        shared = None if provider is None else msgspec.structs.replace(self.default, **provider.changes)
        policy = shared or self.default
        if rule is not None:
            policy = msgspec.structs.replace(policy, **rule.changes)
        return Found(
            policy,
            rule.match if rule is not None else "",
            provider.name if provider is not None else "",
            shared,
        )

    def origins(self, rule: str, provider: str) -> dict[str, str]:
        """Return by field who says its value: "rule" or "provider"; what is absent is the default's.

        `rule` and `provider` are as in `Found`. Looks through all there are: for people who ask.
        """
        rules, providers = self._written
        theirs = next((one.changes for one in providers if provider and one.name == provider), {})
        own = next((one.changes for one in rules if rule and one.match == rule), {})
        return {**dict.fromkeys(theirs, "provider"), **dict.fromkeys(own, "rule")}


V = TypeVar("V")


class Matches(Generic[V]):
    """Values by domain, the longest match first: the domain, `*.parent` from the longest on, `*`."""

    def __init__(self, items: Iterable[tuple[str, V]]) -> None:
        self._exact: dict[str, V] = {}
        self._below: dict[str, V] = {}
        for match, value in items:
            name = match.lower()
            if name == "*":
                self._below.setdefault("", value)
            elif name.startswith("*."):
                self._below.setdefault(name[2:], value)
            else:
                self._exact.setdefault(name, value)

    def find(self, domain: str) -> V | None:
        """Return the value for a domain (lower case A-labels); of two with the same match the first.

        `*.example.org` does not cover `example.org` itself.
        """
        return next(self.all(domain), None)

    def all(self, domain: str) -> Iterator[V]:
        """Yield every value that covers a domain, the longest match first."""
        if (exact := self._exact.get(domain)) is not None:
            yield exact
        parent = domain
        while parent:
            parent = parent.partition(".")[2]
            if (below := self._below.get(parent)) is not None:
                yield below
