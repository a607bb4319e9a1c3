"""The tables about sending: how, to whom, from where, through which host. Part of `model`.

`[delivery]` has every key and its default; a destination and a provider have the same keys
and no defaults, because only what is written there differs.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from backstamp.config import rules
from backstamp.config.kinds import (
    Below,
    Count,
    Domain,
    Duration,
    FamilyName,
    Host,
    Match,
    Name,
    NameOrNone,
    Pattern,
    Port,
    Priority,
    ProviderName,
    Rate,
    Recipients,
    Secret,
    Semantics,
    Sender,
    Table,
    TlsLevel,
    Via,
    as_written,
)


class TimeoutsTable(Table):
    """How long a remote server may take (RFC 5321 §4.5.3.2)."""

    connect: Duration = as_written("30s")
    """Until a connection stands."""
    greeting: Duration = as_written("5m")
    """Until its greeting, and for the reply to EHLO."""
    mail: Duration = as_written("5m")
    """For the reply to MAIL."""
    rcpt: Duration = as_written("5m")
    """For the reply to RCPT."""
    data: Duration = as_written("2m")
    """For the reply to DATA."""
    block: Duration = as_written("3m")
    """For each block of content to be taken."""
    final: Duration = as_written("10m")
    """For the reply to the final dot. Giving up here makes duplicates."""
    quit: Duration = as_written("10s")
    """For the reply to QUIT."""


class DeliveryTable(Table):
    """How mail goes out, where no table below says otherwise: a destination's keys outweigh its provider's,
    and those outweigh these."""

    port: Port = 25
    """Port of mail exchangers; routes name their own."""
    private_addresses: bool = False
    """Whether mail exchangers at private, loopback and link-local addresses are tried; true only for tests
    and closed networks."""
    total_connections: Count = 2000
    """Connections at a time, to all destinations together."""
    connections: Count = 20
    """Connections to one next hop at a time."""
    initial_connections: Count = 5
    """Connections to a next hop once its first transaction was answered; from there they grow to
    `connections` as mail is taken."""
    messages_per_connection: Count = 500
    """Messages sent over one connection before a new one is made."""
    recipients_per_transaction: Recipients = 100
    """Recipients of one copy of a message (RFC 5321 §4.5.3.1.8: servers take at least 100)."""
    connection_rate: Rate | None = None
    """Most new connections to one next hop in a time: a number, `/`, a duration up to a day."""
    message_rate: Rate | None = None
    """Most messages to one next hop in a time."""
    idle: Duration = as_written("2s")
    """Time an idle connection is kept for the next message."""
    tls: TlsLevel = "may"
    """What is demanded of a server: `none`, clear text though it offers TLS; `may`, TLS where it works
    (RFC 7435); `encrypt`, TLS with any certificate; `verify`, TLS with a certificate for its name from an
    authority this machine trusts."""
    family: FamilyName = "both"
    """Which addresses of a server are tried, and which first (RFC 8305)."""
    source: NameOrNone = ""
    """Name of the `[[source]]` mail leaves from. Empty: that of the sender, else the system chooses."""
    timeouts: TimeoutsTable = TimeoutsTable()
    """How long a remote server may take: the table below."""


class OwnTimeoutsTable(Table):
    """How long a remote server may take; what is absent is as in `[delivery.timeouts]`."""

    connect: Duration | None = None
    """Until a connection stands."""
    greeting: Duration | None = None
    """Until its greeting, and for the reply to EHLO."""
    mail: Duration | None = None
    """For the reply to MAIL."""
    rcpt: Duration | None = None
    """For the reply to RCPT."""
    data: Duration | None = None
    """For the reply to DATA."""
    block: Duration | None = None
    """For each block of content to be taken."""
    final: Duration | None = None
    """For the reply to the final dot."""
    quit: Duration | None = None
    """For the reply to QUIT."""


class OwnRetryTable(Table):
    """When a delivery is tried again and given up; what is absent is as in `[retry]`."""

    schedule: Annotated[list[Duration] | None, Field(min_length=1)] = None
    """Waits between attempts; the last one repeats."""
    lifetime: Duration | None = None
    """Age at which a failed attempt is the last."""


class OwnKeys(Table):
    """What a destination or a provider may have of its own."""

    connections: Count | None = None
    """Connections at a time; to a provider: of all its domains together."""
    initial_connections: Count | None = None
    """Connections once the first transaction was answered."""
    messages_per_connection: Count | None = None
    """Messages sent over one connection."""
    recipients_per_transaction: Recipients | None = None
    """Recipients of one copy of a message."""
    connection_rate: Rate | None = None
    """Most new connections in a time."""
    message_rate: Rate | None = None
    """Most messages in a time."""
    idle: Duration | None = None
    """Time an idle connection is kept."""
    tls: TlsLevel | None = None
    """What is demanded of a server."""
    family: FamilyName | None = None
    """Which addresses of a server are tried, and which first."""
    source: NameOrNone | None = None
    """Name of the `[[source]]` mail leaves from."""
    timeouts: OwnTimeoutsTable | None = None
    """How long a server may take: a table of its own."""
    retry: OwnRetryTable | None = None
    """When it is tried again: a table of its own."""


class DestinationTable(OwnKeys):
    """What is different for some domains; the table may be repeated. The longest match wins; what it does
    not say is as for the domain's provider, else as in `[delivery]`."""

    match: Match
    """Recipients' domain, `*.domain` for everything below a domain, or `*`. Of mail that a `[[route]]` sends
    to a smarthost it is the (first) smarthost's name that is matched, not the recipients' domain."""


class ProviderTable(OwnKeys):
    """A mail host of many domains, known by the names of its mail exchangers; the table may be repeated.
    Its domains share its limits. Many are known already (`conf/providers.toml`): a table of such a name
    replaces the keys it has, the others stay."""

    name: Name
    """Name of the provider."""
    mx: Annotated[list[Below] | None, Field(min_length=1)] = None
    """Names of mail exchangers, `*.domain` for all below a domain. Needed, unless the provider is known
    already."""
    enabled: bool = True
    """false: it is as if the provider were not known."""


class AdaptTable(Table):
    """What a reply makes of a destination's pace; the table may be repeated. These come before the shipped
    ones (`conf/providers.toml`); the first that fits decides, a provider's own before those for all."""

    provider: ProviderName = "*"
    """Name of a provider; `*`: all destinations."""
    pattern: Pattern
    """Regular expression (Python's), searched in the reply's code and text, whatever the case; an address in
    it is read as `@`."""
    action: Literal["pause", "slower", "fewer"]
    """`pause`: nothing is begun; `slower`: the rate is multiplied by the factor; `fewer`: the number of
    connections is."""
    seconds: Annotated[Duration, Field(alias="for")]
    """How long it holds."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """For `slower` and `fewer`."""


class PoolAddressTable(Table):
    """One address of a pool."""

    address: Host
    """IP address of this machine."""
    helo: Domain | None = None
    """Name of the relay there: in its EHLO; it should resolve to the address, and back. Absent:
    `hostname`."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Share of the connections, against the other addresses of its family."""


class PoolTable(Table):
    """A pool of addresses mail leaves from; the table may be repeated. What names one, the first that does:
    the route, the destination, its provider, `senders` here, `[delivery]`."""

    name: Name
    """Name of the pool."""
    addresses: Annotated[list[PoolAddressTable], Field(min_length=1)]
    """Its addresses, of one family or both:
    `[{address = "192.0.2.1", helo = "mta1.example.org", weight = 3}]`."""
    senders: list[Sender] = as_written([])
    """Whose mail uses it: addresses, domains, `*.domain`, `<>` (reports)."""


class RouteTable(Table):
    """A smarthost for some destinations or senders; the table may be repeated. No route: by MX. The most
    specific decides: routes for the sender's address, then for its domain, then for everybody; among those
    the longest match of the destination. So a route for one sender outweighs any that is for all."""

    match: Match
    """Destination domain, `*.domain` for everything below a domain, or `*`."""
    sender: Annotated[Sender | None, Field(alias="from")] = None
    """Whose mail: an address, a domain, `*.domain` or `<>` (reports). Absent: everybody's."""
    via: Via
    """Name or IP address, and port, of the server that takes the mail; a list is tried in its order. `mx`: by
    MX, an exception from a wider route."""
    tls: TlsLevel | None = None
    """What is demanded of the server, as in `[delivery]`. Absent: what `[[destination]]` says for its name,
    else `[delivery]`; with credentials or `implicit_tls` at least `encrypt`."""
    implicit_tls: bool = False
    """true: TLS from the first octet (RFC 8314 §3, port 465); false: STARTTLS."""
    username: Annotated[str, Field(min_length=1), AfterValidator(rules.account)] | None = None
    """Who this relay is to the server (AUTH). It and the password are sent over TLS only, except to loopback
    addresses."""
    password: Secret | None = None
    """Its password; with `xoauth2` the token."""
    password_file: Annotated[str | None, Field(min_length=1)] = None
    """File that has the password and nothing else, read at start and reload."""
    auth: Literal["plain", "login", "xoauth2"] | None = None
    """Mechanism of AUTH. Absent: the best one offered."""
    source: NameOrNone | None = None
    """Name of the `[[source]]` mail leaves from."""
    priority: Priority | None = None
    """Priority of this mail (RFC 6710), where it has none of its own."""
    semantics: Semantics = "at-least-once"
    """`at-most-once`: a message with a recipient here is never sent again unasked (see `[[listen]]`)."""
