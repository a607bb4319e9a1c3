"""Mail exchangers as values: what DNS said, what may be tried, in which order (RFC 5321 §5.1).

The resolver (`net.resolver`) asks and returns `Exchangers` or a `DnsFault`; how a fault
counts is decided by `policy.classify`. Order, chance and own names are arguments here.
"""

import enum

import msgspec


class Exchanger(msgspec.Struct, frozen=True):
    """One MX record: preference and host name (lower case A-labels, no trailing dot)."""

    preference: int
    name: str


class Exchangers(msgspec.Struct, frozen=True):
    """The mail exchangers of a domain; `implicit` where there is no MX and the domain itself is meant."""

    hosts: tuple[Exchanger, ...]
    implicit: bool = False


class DnsProblem(enum.Enum):
    """What can be wrong with a name."""

    NO_DOMAIN = "NXDOMAIN"
    NULL_MX = "null MX"
    NO_ADDRESS = "no address"
    BAD_NAME = "not a domain name"
    SERVER_FAILURE = "SERVFAIL"
    TIMEOUT = "timeout"
    ALIAS_LOOP = "CNAME loop"


class DnsFault(msgspec.Struct, frozen=True):
    """A name that led nowhere; `text` names it for people."""

    problem: DnsProblem
    text: str
