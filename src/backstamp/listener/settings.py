"""What a listener is told: the records configuration makes for this room."""

import enum
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

import msgspec

from backstamp.listener.offers import DEFAULT
from backstamp.policy.destination import Rate
from backstamp.policy.token import TokenEndpoint


class Limits(msgspec.Struct, frozen=True):
    """Bounds of what one client may ask: octets, counts and seconds.

    `hops` is RFC 5321 §6.3's loop limit (Received lines); `idle` its §4.5.3.2.7 (at least
    five minutes for a command); `message` is the longest a whole DATA may take, `block` how long one may
    stand still, and `min_data_rate` the octets a second that earn it more time (see `pace`; 0: any will do).
    A client is an authenticated user, else an address (of IPv6 its /64); those in `exempt` are
    counted in `connections` only. 0 and None: no limit.
    """

    message_size: int = 50_000_000
    recipients: int = 1000
    command_length: int = 2048
    connections: int = 1000
    hops: int = 100
    idle: float = 300.0
    message: float = 3600.0
    block: float = 180.0
    min_data_rate: int = 500
    header_size: int = 1_000_000
    line_length: int = 0
    """Octets of one line of a content, without its CRLF."""
    content_memory: int = 256_000_000
    """Octets of contents on their way in that are in memory, of all sessions together."""
    connections_per_client: int = 100
    """By address, of IPv6 the whole one: /128."""
    connections_per_network: int = 200
    """By the /64 of an IPv6 address."""
    messages_per_connection: int = 0
    connection_rate: Rate | None = None
    message_rate: Rate | None = None
    recipient_rate: Rate | None = None
    exempt: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class Auth(enum.Enum):
    """What a listener asks of clients (RFC 4954)."""

    OFF = "off"
    OPTIONAL = "optional"
    """AUTH is offered; who is allowed by address needs none."""
    REQUIRED = "required"
    """No mail without AUTH (530)."""


class AuthSettings(msgspec.Struct, frozen=True):
    """Who may prove what, for all listeners. `users` is the users file, empty: none; `lockout` is seconds."""

    users: str = ""
    endpoint: TokenEndpoint | None = None
    failures: int = 10
    lockout: float = 900.0
    mechanisms: tuple[str, ...] = DEFAULT


class TlsSettings(msgspec.Struct, frozen=True):
    """TLS towards clients.

    `mode` is none, starttls or implicit; `pairs` are files of certificate and key, the first is shown to
    who names no host, or an unknown one. Clients with a certificate that `client_ca` verifies and that has
    one of `client_names` (lower case) or of `client_fingerprints` (`sha256:` and 64 hexadecimal digits)
    may relay. `required`: no mail before TLS.
    """

    mode: str = "none"
    pairs: tuple[tuple[str, str], ...] = ()
    client_ca: str = ""
    client_names: frozenset[str] = frozenset()
    client_fingerprints: frozenset[str] = frozenset()
    required: bool = False


class ListenerSettings(msgspec.Struct, frozen=True):
    """One `[[listen]]` of the configuration; `host` is an IP address, or with port 0 an absolute path."""

    hostname: str
    host: str
    port: int
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    submission: bool = False
    auth: Auth = Auth.OFF
    limits: Limits = Limits()
    at_most_once: bool = False
    """Whether mail from here is sent at most once: who is in doubt is held, not sent again."""
    tenant: str = ""
    """Whose mail comes in here, of `[A-Za-z0-9._-]`, at most 64; empty: the sender's domain tells."""
    tenant_header: bool = True
    """Whether a message may name its tenant itself, in the header field Backstamp-Tenant."""
    priority: int | None = None
    """The priority (RFC 6710, -9 to 9) of mail that says none."""
    future_release: float = 0.0
    """Seconds a client may ask mail to be held for, at most (RFC 4865); 0: it may not. Submission only."""
    priority_limit: int = 9
    """The highest priority a client may ask for; a higher one is lowered to it."""
    qualify: str = ""
    """The domain of addresses that have none, if `submission` (RFC 6409 §4.2); empty: they are refused."""
    line_endings: Literal["reject", "normalize"] = "reject"
    """What becomes of a content with a bare CR or LF: refused, or each made a CRLF once its end is found."""
    tls: TlsSettings = TlsSettings()
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Who must begin with a header of the PROXY protocol; the client is whom it names."""
    mode: int = 0o666
    """Permissions of the socket file, where it is one."""

    @property
    def local(self) -> bool:
        """Whether `host` is the path of a socket file."""
        return self.host.startswith("/")

    @property
    def place(self) -> str:
        """Where it listens, for an operator."""
        return f"unix:{self.host}" if self.local else f"{self.host} port {self.port}"


class HttpSettings(msgspec.Struct, frozen=True):
    """`[http]` of the configuration: mail that comes by HTTP, through a door as a listener's.

    `requests` is how many are served at a time, `memory` the octets of their bodies together.
    """

    listener: ListenerSettings
    requests: int = 100
    memory: int = 200_000_000
    auth: bool = False
    """Whether every request needs a user; else the address tells who may."""
