"""What delivery asks of the world: names, connections, sessions. Shells and tests provide it.

A connection is made in two steps, so that the addresses of a host can race for it (RFC 8305)
before anybody is greeted. Whatever fails is a value.
"""

from typing import Any, Protocol

from backstamp.mail.fault import Fault
from backstamp.net.client import Refusal
from backstamp.net.transaction import Dotting, Result, Settled, Transaction
from backstamp.policy.manner import Candidate, Manner, Source
from backstamp.policy.mx import Addresses, DnsFault, Exchangers

__all__ = ["Candidate", "Manner", "Net", "Resolver", "Session", "Source"]


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

    async def addresses(self, host: str) -> Addresses | DnsFault:
        """Return the addresses of a host."""
        ...
