"""The shape of a configuration file: every table, key, type, default and bound, declared once.

The reference (docs/configuration.md) and the editors' schema are made from these classes,
so what is said about a key stands here and nowhere else; what sends is in `outgoing`. Names are
those of the file. What concerns one value is checked in `units`, `names` and `rules`, what concerns
several in `between` and `smarthosts`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from backstamp.config import authentication, rules, units
from backstamp.config.kinds import (
    BounceClassName,
    Count,
    CountOrNone,
    Domain,
    Duration,
    Expiry,
    Fingerprint,
    Listen,
    Mechanism,
    Mode,
    NameOrNone,
    Nameserver,
    Network,
    Priority,
    Rate,
    Recipients,
    Semantics,
    Size,
    Socket,
    Table,
    as_written,
)
from backstamp.config.outgoing import (
    AdaptTable,
    DeliveryTable,
    DestinationTable,
    PoolTable,
    ProviderTable,
    RouteTable,
)

FileName = Annotated[str, Field(min_length=1)]
Place = Annotated[FileName, AfterValidator(rules.place)]


class QueueTable(Table):
    """Where accepted mail is kept."""

    directory: Place
    """Directory of the queue, on a local disk. A relative path starts at the current directory, as on a
    command line. It is made if it is missing."""
    reserve: Annotated[Size, AfterValidator(rules.sensible_reserve)] = as_written("10MB")
    """Free space on the file system of the queue below which no new mail is taken (452); delivery goes on,
    and mail is taken again by itself when there is room. Up to 1000GB; 0kB: none."""
    partitions: Annotated[int, AfterValidator(rules.one_partition)] = 1
    """Number of delivery processes, each with a part of the queue of its own. This release has one."""


class ProcessTable(Table):
    """Processes of the relay."""

    listeners: Annotated[int, AfterValidator(rules.no_listener_process)] = 0
    """Number of processes that only listen; 0: the delivery process listens itself. This release has none."""


class CertificateTable(Table):
    """One more certificate of a listener."""

    certificate: FileName
    """File of the certificate chain (PEM)."""
    key: FileName
    """File of its private key (PEM)."""


class ListenTable(Table):
    """One address on which applications hand in mail; the table may be repeated."""

    address: Listen
    """IP address and port, port 0 lets the system choose one; or `unix:` and the path of a socket file, for
    programs of this machine (`backstamp sendmail`). Its directory must be there; who may open the file
    may relay."""
    mode: Mode = as_written("0666")
    """Permissions of the socket file. `0660` with a directory of the right group: only that group may hand in
    mail. Means something only with `unix:`."""
    proxies: list[Network] = as_written([])
    """Proxies in front of the relay. A connection from one must begin with a header of the PROXY protocol
    (version 1 or 2), and the client is whom it names: that address is held against `allow`. From elsewhere
    no header is looked for. Networks in which there are strangers are refused."""
    tls: Literal["none", "starttls", "implicit"] = "none"
    """TLS towards clients: `starttls` offers it, `implicit` begins with it (RFC 8314). TLS 1.2 and 1.3."""
    certificate: FileName | None = None
    """File of the certificate chain (PEM), with `starttls` or `implicit`. Files are read again when they are
    renewed, without a restart; a renewal that cannot be used is an alarm, and the old ones stay."""
    key: FileName | None = None
    """File of the private key (PEM, without a passphrase), with `starttls` or `implicit`."""
    tls_required: bool = False
    """With `starttls`, whether mail is taken over TLS only: in clear text MAIL is answered 530, and AUTH is
    not offered on a loopback address either."""
    more_certificates: list[CertificateTable] = as_written([])
    """Certificates for other names of the relay: the client's SNI chooses by the names in them, `*.` stands
    for one label. Who names none of them sees `certificate`."""
    client_ca: FileName | None = None
    """File of authorities (PEM) whose certificates clients may show. TLS needs none; one that is shown and
    not verified ends the handshake. A client's self-signed certificate may stand here itself."""
    client_names: list[Domain] = as_written([])
    """Names in verified certificates of clients that may relay."""
    client_fingerprints: list[Fingerprint] = as_written([])
    """Fingerprints of verified certificates of clients that may relay:
    `openssl x509 -noout -fingerprint -sha256` prints one."""
    auth: Literal["off", "optional", "required"] = "off"
    """AUTH of clients (RFC 4954), judged as `[auth]` says: `off`; `optional`, who is in `allow` needs none;
    `required`, no mail without it. Anything but `off` needs TLS, or a loopback address."""
    allow: list[Network] = as_written(["127.0.0.0/8", "::1/128"])
    """Networks whose clients may relay without AUTH. An address that can be reached from outside, with
    networks so wide that strangers are in them, would be an open relay and is refused."""
    semantics: Semantics = "at-least-once"
    """What happens to mail from here that is in doubt, because its final dot went out and no reply came:
    `at-least-once` is sent again, `at-most-once` is held for `queue release` or `queue remove`. A message's
    header `Backstamp-Semantics` says it for that message."""
    tenant: NameOrNone = ""
    """Whose mail comes in here, as in events, metrics and fair shares. Empty: the sender's domain tells."""
    tenant_header: bool = True
    """Whether a message may name its tenant itself, in the header field `Backstamp-Tenant`. That of a user
    with a tenant of their own in the users file may not."""
    priority: Priority | None = None
    """Priority (RFC 6710, -9 to 9) of mail that says none."""
    priority_limit: Priority = 9
    """Highest priority a client may ask for; a higher one is lowered to it."""
    line_endings: Literal["reject", "normalize"] = "reject"
    """What becomes of a message with a bare CR or a bare LF in it: `reject`, it is refused; `normalize`,
    each becomes CRLF after the end of the message was found, by CRLF.CRLF only (so nothing can be smuggled
    in it). Signatures (DKIM) made before may not survive that, and a field with a bare CR or LF in it becomes
    two lines: for applications that cannot do better. NUL is refused always."""
    qualify: Domain | None = None
    """Domain of addresses in MAIL and RCPT that have none, on a listener with `submission` (RFC 6409 §4.2).
    Absent: they are refused."""
    future_release: Expiry = as_written("7d")
    """The longest a client may ask that a message waits before it is sent (HOLDFOR, HOLDUNTIL of RFC 4865),
    on a listener with `submission`. `never`: FUTURERELEASE is not offered."""
    submission: bool = True
    """true: the relay may add Date and Message-ID where they are missing (RFC 6409 §8);
    false: it adds trace lines only."""

    @field_validator("allow")
    @classmethod
    def _closed(cls, allow: list[units.Network], info: ValidationInfo) -> list[units.Network]:
        # A validator of the key, not of the table: it speaks up whatever else is wrong in the table.
        if "address" in info.data:
            proxied = bool(info.data.get("proxies"))
            rules.not_an_open_relay(info.data["address"], allow, proxied=proxied)
        return allow

    @field_validator("proxies")
    @classmethod
    def _named(cls, proxies: list[units.Network]) -> list[units.Network]:
        rules.named_proxies(proxies)
        return proxies


class AuthTable(Table):
    """Who may send: users of a file, owners of tokens, or both."""

    users: Place | None = None
    """Users file, written by `backstamp user add` and read again whenever it changed. A relative path
    starts at the current directory."""
    token_endpoint: Annotated[str | None, AfterValidator(authentication.endpoint)] = None
    """URL that judges bearer tokens (RFC 7662); http only to loopback addresses."""
    token_client: Annotated[str | None, Field(min_length=1)] = None
    """Who this relay is to the endpoint (HTTP Basic)."""
    token_secret_file: Annotated[str | None, Field(min_length=1)] = None
    """File that has its secret and nothing else, read at start."""
    token_user_key: Annotated[str | None, Field(min_length=1)] = None
    """Member of the endpoint's answer that is the user's name. Absent: `username`, else `sub`."""
    mechanisms: Annotated[list[Mechanism], Field(min_length=1)] = as_written(
        ["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER"]
    )
    """What is offered; XOAUTH2 can be, too. The last ones only with a token endpoint, the others only with
    users."""
    failures: Annotated[int, Field(ge=3, le=1000)] = 10
    """Failures of a client address (IPv6: of a /64), or of a user, within `lockout` that lock it out. Where a
    user succeeded in the last 30 days only their own failures there count."""
    lockout: Annotated[Duration, AfterValidator(authentication.sensible_lockout)] = as_written("15m")
    """How long. From 1s to 1d."""


class LimitsTable(Table):
    """What one client may ask."""

    message_size: Annotated[Size, AfterValidator(rules.sensible_size)] = as_written("50MB")
    """Largest message, announced with SIZE (RFC 1870). From 1kB to 2GB."""
    header_size: Annotated[Size, AfterValidator(rules.sensible_header)] = as_written("1MB")
    """Largest header of a message; a larger one is refused (552). From 10kB to 1MB."""
    line_length: Annotated[int, AfterValidator(rules.sensible_line)] = 0
    """Octets of the longest line of a message, without its CRLF; a longer one is refused (554). RFC 5321
    §4.5.3.1.6 has 998, and some receivers hold to it; most do not, and applications write longer ones. 0: no
    limit. Lines are never folded, so that signatures (DKIM) hold."""
    content_memory: Annotated[Size, AfterValidator(rules.sensible_memory)] = as_written("256MB")
    """Memory for messages on their way in, of all clients together. Where it is used up clients wait: nothing
    is read from them until there is some. From 8MB to 100GB."""
    recipients: Recipients = 1000
    """Recipients per message. RFC 5321 §4.5.3.1.8 asks for at least 100."""
    connections: Count = 1000
    """Connections at a time, of all listeners together; one more is answered 421."""
    connections_per_client: CountOrNone = 100
    """Connections at a time of one IP address; one more is answered 421. 0: no limit."""
    connections_per_network: CountOrNone = 200
    """Connections at a time of one IPv6 network (/64): a host often has as many addresses as it likes.
    0: no limit."""
    messages_per_connection: CountOrNone = 0
    """Messages of one connection; one more is answered 421, and the client opens another. 0: no limit."""
    connection_rate: Rate | None = None
    """Connections a client may open in a time, as `600/1m`: so many at once, then spread evenly; one more is
    answered 421. A client is an address, of IPv6 its /64. Absent: no limit."""
    message_rate: Rate | None = None
    """Messages a client may hand in in a time, as `1000/1m`: so many at once, then spread evenly; one more is
    answered 450. A client is an authenticated user, else an address, of IPv6 its /64. Absent: no limit."""
    recipient_rate: Rate | None = None
    """Recipients a client may name in a time, likewise. Absent: no limit."""
    exempt: list[Network] = as_written(["127.0.0.0/8", "::1/128"])
    """Networks whose clients are subject to none of the limits per client above: this host, or a
    proxy, where many applications share an address. `connections` holds for them, too."""
    hops: Annotated[int, Field(ge=1, le=1000)] = 100
    """Received lines a message may have; one with more is refused as looping (554, RFC 5321 §6.3)."""
    command_timeout: Duration = as_written("5m")
    """Time a client may take for a whole command, however its octets trickle in (RFC 5321 §4.5.3.2.7 asks
    for at least five minutes)."""
    data_timeout: Duration = as_written("1h")
    """Time a client may take for the content of a whole message, all chunks of it (BDAT) together."""
    data_block_timeout: Duration = as_written("3m")
    """Time a content may stand still (RFC 5321 §4.5.3.2.5: three minutes for a block)."""
    min_data_rate: Annotated[Size, AfterValidator(rules.sensible_pace)] = as_written("500B")
    """Octets a second a client must send in a content: it begins with `data_block_timeout` of time left, has
    never more, and every so many octets give it a second. Up to 100kB; 0B: one octet now and then will do."""


class RetryTable(Table):
    """When a delivery that did not succeed is tried again, and when it is given up."""

    schedule: Annotated[list[Duration], Field(min_length=1)] = as_written(
        ["1m", "5m", "15m", "30m", "1h", "2h", "4h"]
    )
    """Waits between attempts; the last one repeats. Chance adds up to a tenth."""
    lifetime: Duration = as_written("5d")
    """Age at which a failed attempt is the last, and the sender gets a report
    (RFC 5321 §4.5.4.1 asks for at least four to five days)."""


class SuppressionTable(Table):
    """The list of who is not to be sent to. What an operator wrote into it always holds; the keys are about
    what is learned from bounces."""

    enabled: bool = False
    """Whether addresses are learned from bounces, and those that were are honoured."""
    at: Literal["accept", "send"] = "accept"
    """Where the list says no: `accept`, RCPT is refused; `send`, the mail is taken and the recipient
    fails."""
    classes: list[BounceClassName] = as_written(["invalid-recipient", "inactive-mailbox"])
    """Classes of bounces that count."""
    after: Count = 2
    """Bounces after which an address is suppressed."""
    within: Duration = as_written("30d")
    """Time in which they come."""
    expiry: Expiry = as_written("30d")
    """How long an address stays suppressed; `never`: until it is removed."""


class DnsTable(Table):
    """Name resolution."""

    nameservers: list[Nameserver] = as_written([])
    """IP addresses, with a port where it is not 53. Empty: the system's."""


class AdminTable(Table):
    """The HTTP side: health, metrics, the queue."""

    address: Socket | None = None
    """IP address and port. It has no authentication: keep it on loopback or behind a proxy. It takes 100
    connections at a time; one more is answered 503. Absent: no HTTP side."""


class HttpTable(Table):
    """Mail by HTTP: `POST /api/v1/messages`, on an address of its own."""

    address: Socket | None = None
    """IP address and port. Absent: no mail by HTTP. There is no TLS: keep it on loopback or behind a proxy
    on this machine."""
    auth: Literal["off", "required"] = "off"
    """Authentication of clients (Basic for users, Bearer for tokens), judged as `[auth]` says. `required` is
    for loopback addresses, as there is no TLS here; a proxy that has it may stand in front."""
    allow: list[Network] = as_written(["127.0.0.0/8", "::1/128"])
    """Networks whose clients may hand in mail where `auth` is `off`. As for `[[listen]]`, an open relay is
    refused."""
    requests: Count = 100
    """Requests at a time; one more is answered 503."""
    memory: Annotated[Size, AfterValidator(rules.sensible_size)] = as_written("200MB")
    """Octets of the bodies of requests under way, all together; a request that would need more is
    answered 503, and 413 if it is larger than that itself. From 1kB to 2GB."""
    semantics: Semantics = "at-least-once"
    """As for `[[listen]]`."""
    tenant: NameOrNone = ""
    """Whose mail comes in here. Empty: the sender's domain tells."""
    tenant_header: bool = True
    """Whether a request may name its tenant itself: `tenant`, or the message's field `Backstamp-Tenant`.
    That of a user with a tenant of their own may not."""
    priority: Priority | None = None
    """Priority (RFC 6710, -9 to 9) of mail that says none."""
    priority_limit: Priority = 9
    """Highest priority a request may ask for; a higher one is lowered to it."""

    @field_validator("allow")
    @classmethod
    def _closed(cls, allow: list[units.Network], info: ValidationInfo) -> list[units.Network]:
        if info.data.get("address") is not None:
            rules.not_an_open_relay(info.data["address"], allow)
        return allow


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
    auth: AuthTable = AuthTable()
    limits: LimitsTable = LimitsTable()
    retry: RetryTable = RetryTable()
    delivery: DeliveryTable = DeliveryTable()
    destination: list[DestinationTable] = as_written([])
    provider: list[ProviderTable] = as_written([])
    adapt: list[AdaptTable] = as_written([])
    source: list[PoolTable] = as_written([])
    route: list[RouteTable] = as_written([])
    suppression: SuppressionTable = SuppressionTable()
    dns: DnsTable = DnsTable()
    admin: AdminTable = AdminTable()
    http: HttpTable = HttpTable()
    log: LogTable = LogTable()
