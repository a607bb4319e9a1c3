"""What delivery asks of the world: names, connections, sessions. Shells and tests provide it.

A connection is made in two steps, so that the addresses of a host can race for it (RFC 8305)
before anybody is greeted. Whatever fails is a value.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from backstamp.mail.fault import Fault
from backstamp.net.client import Refusal
from backstamp.net.transaction import Dotting, Result, Settled, Transaction
from backstamp.policy.destination import DestinationPolicy, Tls
from backstamp.policy.mx import DnsFault, Exchangers
from backstamp.policy.route import Credentials


class Candidate(msgspec.Struct, frozen=True):
    """A host to try: its name and one of its addresses."""

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}"


class Source(msgspec.Struct, frozen=True):
    """One address this relay connects from (empty: the system chooses), and its name there."""

    address: str = ""
    helo: str = ""


class Manner(msgspec.Struct, frozen=True):
    """How a session is to be opened.

    `tls` is what is demanded; MAY tries it if `starttls` (it did not fail there a while ago).
    """

    policy: DestinationPolicy
    helo: str
    tls: Tls = Tls.MAY
    starttls: bool = True
    implicit_tls: bool = False
    credentials: Credentials | None = None


class Session(Protocol):
    """An open session with a host. One transaction at a time."""

    extensions: Any
    """EHLO keywords in upper case, each with its arguments: a mapping."""
    size_limit: int | None
    peer: str
    """What the host calls itself in its reply to EHLO, in lower case."""
    tls: str
    """Version and cipher, empty in clear text."""

    @property
    def usable(self) -> bool:
        """Whether another MAIL may be sent."""
        ...

    async def transact(self, transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
        """Run one transaction (`net.client.Connection.transact`)."""
        ...

    async def close(self) -> None:
        """Say QUIT if the host still listens, and let go. Never raises."""
        ...


class Net(Protocol):
    """Makes connections."""

    async def dial(self, candidate: Candidate, source: Source, seconds: float) -> Any | Fault:
        """Connect to exactly this address; return what `open` takes, or what `hang_up` does."""
        ...

    async def open(self, wire: Any, candidate: Candidate, manner: Manner) -> Session | Refusal | Fault:
        """Read the greeting, say EHLO, begin TLS, authenticate. The wire is the session's, whatever comes."""
        ...

    def hang_up(self, wire: Any) -> None:
        """Close a connection nobody wants."""
        ...


class Resolver(Protocol):
    """What delivery asks of DNS."""

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        """Return the mail exchangers of a domain."""
        ...

    async def addresses(self, host: str) -> Sequence[str] | DnsFault:
        """Return the addresses of a host."""
        ...
