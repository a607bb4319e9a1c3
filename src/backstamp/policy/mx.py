"""Mail exchangers as values: what DNS said, what may be tried, in which order (RFC 5321 §5.1).

The resolver (`net.resolver`, `net.questions`) asks and returns `Exchangers` or a `DnsFault`; how a fault
counts is decided by `policy.classify`. Order, chance and own names are arguments here.
"""

import enum
import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from backstamp.policy.destination import Family


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


class Addresses(msgspec.Struct, frozen=True):
    """A host's addresses, IPv6 and IPv4 in turn; of a family whose question failed for now, the fault."""

    known: tuple[str, ...]
    six: DnsFault | None = None
    four: DnsFault | None = None


def is_host_name(text: str) -> bool:
    """Tell whether DNS may be asked for it: letters, digits, `-` and `_`, at most 254 octets.

    No name ends in a number (RFC 1123 §2.1): what looks like an address would be taken for one.
    """
    return _NAME.fullmatch(text) is not None


_NAME: Final = re.compile(
    r"(?=.{1,254}\Z)(?!(?:.*\.)?[0-9]+\.?\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"
)


def ordered(found: Exchangers, chances: Sequence[float]) -> tuple[Exchanger, ...]:
    """Return exchangers in the order to try: by preference, equal ones by their chance (RFC 5321 §5.1).

    Raises:
        ValueError: there is not one chance for each exchanger.
    """
    ranked = sorted(zip(found.hosts, chances, strict=True), key=lambda pair: (pair[0].preference, pair[1]))
    return tuple(exchanger for exchanger, _ in ranked)


def without_self(hosts: tuple[Exchanger, ...], own_names: frozenset[str]) -> tuple[Exchanger, ...]:
    """Return the exchangers better than this relay itself (RFC 5321 §5.1); none left means a loop.

    `own_names` are lower case A-labels, as the exchangers' names are.
    """
    own = min((host.preference for host in hosts if host.name in own_names), default=None)
    return hosts if own is None else tuple(host for host in hosts if host.preference < own)


def by_family(addresses: Sequence[str], family: Family) -> tuple[str, ...]:
    """Return addresses in the order to try them: in turn (RFC 8305 §4), or as the policy says."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    match family:
        case Family.IPV6:
            return tuple(six)
        case Family.IPV4:
            return tuple(four)
        case Family.IPV6_FIRST:
            return (*six, *four)
        case Family.IPV4_FIRST:
            return (*four, *six)
        case Family.BOTH:
            first, second = (six, four) if not addresses or ":" in addresses[0] else (four, six)
            both = min(len(six), len(four))
            turns = [one for pair in zip(first, second, strict=False) for one in pair]
            return (*turns, *first[both:], *second[both:])


def unanswered(found: Addresses, family: Family) -> DnsFault | None:
    """Return why there may be more addresses of a family that is used than are known, None if that is all."""
    six = found.six if family is not Family.IPV4 else None
    return six or (found.four if family is not Family.IPV6 else None)


def site(found: Exchangers) -> str:
    """Return the name of a site: its exchangers in order, those of one preference sorted and joined by `|`.

    Domains whose exchangers stand in the same order have the same site, whatever their numbers.
    """
    ranks: dict[int, list[str]] = {}
    for host in found.hosts:
        ranks.setdefault(host.preference, []).append(host.name)
    return ",".join("|".join(sorted(names)) for _, names in sorted(ranks.items()))


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")
_LOOPBACK = IPv6Address("::1")


def forbidden(address: str, *, private: bool, own: frozenset[str]) -> str | None:
    """Return why the relay must not connect to an address, in a few words, None if it may.

    An address that carries an IPv4 address (mapped, RFC 4291 §2.5.5.2; NAT64, RFC 6052; 6to4,
    RFC 3056; Teredo, RFC 4380) is judged by that too. With `private` private, loopback and the
    relay's `own` addresses are meant: tests and closed networks. Link-local ones never are,
    cloud machines tell their secrets there.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "not an address"
    faces = _faces(parsed)
    if not private and any(str(face) in own for face in (parsed, *faces)):
        return "this relay's own address"
    return next((why for face in faces if (why := _kind(face, private)) is not None), None)


def _faces(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Return the addresses that tell what one is: itself, or the IPv4 addresses inside it."""
    if isinstance(address, IPv4Address):
        return [address]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    # Whether the forms themselves are global, versions of the standard library do not agree on
    # (6to4: since CVE-2024-4032 not); what counts is where they lead.
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return [inner]
    return [address] if address.teredo is None else [address, *address.teredo]


def _kind(address: IPv4Address | IPv6Address, private: bool) -> str | None:
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_link_local:
        return "a link-local address"
    if _reserved(address):
        return "a reserved address"
    if private or address.is_global:
        # Carrier-grade NAT (RFC 6598) is neither private nor global to the standard library.
        return None
    return "a loopback address" if address.is_loopback else "a private address"


def _reserved(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether nothing was ever assigned there; `is_global` calls some of that global."""
    if isinstance(address, IPv4Address):
        return address.is_reserved or address.packed[0] == 0
    return address not in _GLOBAL_UNICAST and address not in _UNIQUE_LOCAL and address != _LOOPBACK
