"""A session to be opened: with whom, from where, and how. Records that delivery fills and net obeys."""

import msgspec

from backstamp.policy.destination import DestinationPolicy, Tls
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
