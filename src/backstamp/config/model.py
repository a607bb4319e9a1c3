"""The shape of a configuration file: every table, key, type, default and bound, declared once.

The reference (docs/configuration.md) and the editors' schema are made from these classes,
so what is said about a key stands here and nowhere else. Names are those of the file.
What concerns one value is checked in `units`, what concerns several in `rules`.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from backstamp.config import rules, units


def _text(parse: Any, pattern: str, *examples: str) -> Any:
    """Return what pydantic needs to know of a value that is text in the file and something else here."""
    schema = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return PlainValidator(parse), WithJsonSchema(schema)


def _as_written(default: Any) -> Any:
    """Return a default that stands in the reference as in a file, and is parsed like a value of the file."""
    return Field(default=default)


_UNITS = "(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?"
Duration = Annotated[float, *_text(units.duration, f"^{_UNITS}$", "30s", "5m", "1h30m", "5d")]
Size = Annotated[int, *_text(units.size, "^[0-9]+ ?([kKMG]?B|[KMG]iB)$", "64kB", "50MB", "20MiB")]
Domain = Annotated[str, *_text(units.domain, r"^[A-Za-z0-9.-]+$", "relay.example.org")]
Match = Annotated[
    str, *_text(units.match, r"^(\*|(\*\.)?[A-Za-z0-9.-]+)$", "example.org", "*.example.org", "*")
]
Via = Annotated[units.Address, *_text(units.next_hop, "^.+:[0-9]+$", "smtp.example.net:25", "[::1]:2526")]
Socket = Annotated[units.Address, *_text(units.socket_address, "^.+:[0-9]+$", "127.0.0.1:2525", "[::1]:2525")]
Nameserver = Annotated[units.Address, *_text(units.nameserver, "^.+$", "127.0.0.1:53", "192.0.2.53")]
Network = Annotated[units.Network, *_text(units.network, "^.+$", "10.0.0.0/8", "fd00::/8")]
Semantics = Literal["at-least-once", "at-most-once"]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """What all tables have: no unknown keys, no guessing of types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, use_attribute_docstrings=True
    )


class QueueTable(Table):
    """Where accepted mail is kept."""

    directory: Annotated[str, Field(min_length=1)]
    """Directory of the queue, on a local disk. A relative path starts at the current directory, as on a
    command line. It is made if it is missing."""
    reserve: Annotated[Size, AfterValidator(rules.sensible_reserve)] = _as_written("10MB")
    """Free space on the file system of the queue below which no new mail is taken (452); delivery goes on,
    and mail is taken again by itself when there is room. Up to 1000GB; 0kB: none."""
    partitions: Annotated[int, AfterValidator(rules.one_partition)] = 1
    """Number of delivery processes, each with a part of the queue of its own. This release has one."""


class ProcessTable(Table):
    """Processes of the relay."""

    listeners: Annotated[int, AfterValidator(rules.no_listener_process)] = 0
    """Number of processes that only listen; 0: the delivery process listens itself. This release has none."""


class ListenTable(Table):
    """One address on which applications hand in mail; the table may be repeated."""

    address: Socket
    """IP address and port. Port 0 lets the system choose one."""
    tls: Annotated[Literal["none", "starttls", "implicit"], AfterValidator(rules.no_tls)] = "none"
    """TLS towards clients. This release has `none`."""
    certificate: Annotated[str | None, AfterValidator(rules.only_with_tls)] = None
    """File of the certificate chain (PEM), with `starttls` or `implicit`."""
    key: Annotated[str | None, AfterValidator(rules.only_with_tls)] = None
    """File of the private key (PEM), with `starttls` or `implicit`."""
    auth: Annotated[Literal["off", "optional", "required"], AfterValidator(rules.no_auth)] = "off"
    """AUTH of clients. This release has `off`."""
    allow: list[Network] = _as_written(["127.0.0.0/8", "::1/128"])
    """Networks whose clients may relay without AUTH. An address that can be reached from outside, with
    networks so wide that strangers are in them, would be an open relay and is refused."""
    semantics: Semantics = "at-least-once"
    """What happens to mail from here that is in doubt, because its final dot went out and no reply came:
    `at-least-once` is sent again, `at-most-once` is held for `queue release` or `queue remove`. A message's
    header `Backstamp-Semantics` says it for that message."""
    submission: bool = True
    """true: the relay may add Date and Message-ID where they are missing (RFC 6409 §8);
    false: it adds trace lines only."""

    @field_validator("allow")
    @classmethod
    def _closed(cls, allow: list[units.Network], info: ValidationInfo) -> list[units.Network]:
        # A validator of the key, not of the table: it speaks up whatever else is wrong in the table.
        if "address" in info.data:
            rules.not_an_open_relay(info.data["address"], allow)
        return allow


class LimitsTable(Table):
    """What one client may ask."""

    message_size: Annotated[Size, AfterValidator(rules.sensible_size)] = _as_written("50MB")
    """Largest message, announced with SIZE (RFC 1870). From 1kB to 2GB."""
    recipients: Annotated[int, Field(ge=1, le=65_000)] = 1000
    """Recipients per message. RFC 5321 §4.5.3.1.8 asks for at least 100."""
    connections: Count = 1000
    """Connections at a time, per listener; one more is answered 421."""
    hops: Annotated[int, Field(ge=1, le=1000)] = 100
    """Received lines in a message from which on it is refused as looping (RFC 5321 §6.3)."""
    command_timeout: Duration = _as_written("5m")
    """Time a client may take for a command (RFC 5321 §4.5.3.2.7 asks for at least five minutes)."""
    data_timeout: Duration = _as_written("1h")
    """Time a client may take for the content of a whole message."""


class RetryTable(Table):
    """When a delivery that did not succeed is tried again, and when it is given up."""

    schedule: Annotated[list[Duration], Field(min_length=1)] = _as_written(
        ["1m", "5m", "15m", "30m", "1h", "2h", "4h"]
    )
    """Waits between attempts; the last one repeats. Chance adds up to a tenth."""
    lifetime: Duration = _as_written("5d")
    """Age at which a failed attempt is the last, and the sender gets a report
    (RFC 5321 §4.5.4.1 asks for at least four to five days)."""


class TimeoutsTable(Table):
    """How long a remote server may take (RFC 5321 §4.5.3.2)."""

    connect: Duration = _as_written("30s")
    """Until a connection stands."""
    greeting: Duration = _as_written("5m")
    """Until its greeting, and for the reply to EHLO."""
    mail: Duration = _as_written("5m")
    """For the reply to MAIL."""
    rcpt: Duration = _as_written("5m")
    """For the reply to RCPT."""
    data: Duration = _as_written("2m")
    """For the reply to DATA."""
    block: Duration = _as_written("3m")
    """For each block of content to be taken."""
    final: Duration = _as_written("10m")
    """For the reply to the final dot. Giving up here makes duplicates."""
    quit: Duration = _as_written("10s")
    """For the reply to QUIT."""


class DeliveryTable(Table):
    """How mail goes out."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 25
    """Port of mail exchangers; routes name their own."""
    private_addresses: bool = False
    """Whether mail exchangers at private, loopback and link-local addresses are tried; true only for tests
    and closed networks."""
    connections: Count = 20
    """Connections to one next hop at a time."""
    messages_per_connection: Count = 500
    """Messages sent over one connection before a new one is made."""
    recipients_per_transaction: Annotated[int, Field(ge=1, le=65_000)] = 100
    """Recipients of one copy of a message (RFC 5321 §4.5.3.1.8: servers take at least 100)."""
    idle: Duration = _as_written("2s")
    """Time an idle connection is kept for the next message."""
    timeouts: TimeoutsTable = TimeoutsTable()
    """How long a remote server may take: the table below."""


class RouteTable(Table):
    """A smarthost for some destinations; the table may be repeated. No route: by MX."""

    match: Match
    """Destination domain, `*.domain` for everything below a domain, or `*`. The longest match wins."""
    via: Via
    """Name or IP address, and port, of the server that takes the mail."""
    semantics: Semantics = "at-least-once"
    """`at-most-once`: a message with a recipient here is never sent again unasked (see `[[listen]]`)."""


class DnsTable(Table):
    """Name resolution."""

    nameservers: list[Nameserver] = []
    """IP addresses, with a port where it is not 53. Empty: the system's."""


class AdminTable(Table):
    """The HTTP side: health, metrics, the queue."""

    address: Socket | None = None
    """IP address and port. It has no authentication: keep it on loopback or behind a proxy.
    Absent: no HTTP side."""


class LogTable(Table):
    """Events on standard output."""

    attempts: bool = False
    """Whether the beginning of every attempt is an event too."""


class File(Table):
    """Configuration of Backstamp, an outbound SMTP relay."""

    hostname: Domain
    """The relay's own name: in its greeting, its EHLO and its Received lines. It should resolve to the
    relay's address, and back."""
    queue: QueueTable
    process: ProcessTable = ProcessTable()
    listen: Annotated[list[ListenTable], Field(min_length=1)]
    limits: LimitsTable = LimitsTable()
    retry: RetryTable = RetryTable()
    delivery: DeliveryTable = DeliveryTable()
    route: list[RouteTable] = []
    dns: DnsTable = DnsTable()
    admin: AdminTable = AdminTable()
    log: LogTable = LogTable()
