"""Who may relay what. Decided by the connection, never by what a client says of itself. Pure."""

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from backstamp.mail.address import is_literal
from backstamp.mail.headers import LOCAL

DENIED = "550 5.7.1 Relaying denied"
LITERAL = "550 5.1.2 Address literals are not accepted"


def plain(peer: str) -> str:
    """Return a peer's address without its zone; an IPv4-mapped one as the IPv4 address it is."""
    name = peer.partition("%")[0]
    try:
        mapped = IPv6Address(name).ipv4_mapped if ":" in name else None
    except ValueError:
        return name
    return name if mapped is None else str(mapped)


def peer(name: object, *, local: bool) -> str:
    """Return what a client is called: by its socket's name, or `LOCAL` where it came by a socket file.

    There the name is the client's own choice (bind(2)), and tells nothing.
    """
    if local:
        return LOCAL
    return plain(str(name[0])) if isinstance(name, tuple) and name else ""


def may_relay(peer: str, allow: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Tell whether a client at this address may relay; an IPv4-mapped address is judged as IPv4.

    Whoever may open the socket file may: that is what its mode says.
    """
    if peer == LOCAL:
        return True
    try:
        address = ipaddress.ip_address(plain(peer))
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in allow)


def recipient(address: bytes, *, allowed: bool) -> str | None:
    """Return the refusal of a recipient, None if it is taken.

    A recipient named by the number of its host would be a way around DNS and the rules for
    private addresses; nobody needs it, so it is refused.
    """
    if not allowed:
        return DENIED
    return LITERAL if is_literal(address) else None
