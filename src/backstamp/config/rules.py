"""What the values of a configuration must keep between them, and what this release cannot do yet. Pure.

A rule takes values and returns them, or raises `ValueError` with a sentence. A rule over
several values raises `ComplaintError`, which also says which of them it means.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from backstamp.config.address import Address
from backstamp.config.lines import Path
from backstamp.config.units import Network, next_hop
from backstamp.config.words import shown
from backstamp.policy.bounce import BounceClass

_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_WIDEST = {4: 16, 6: 32}
"""Shortest prefix of a public network that may be one organisation's own."""


class ComplaintError(ValueError):
    """A rule over several values is broken; each sentence with the place it means, below the key checked."""

    def __init__(self, places: Sequence[tuple[Path, str]]) -> None:
        super().__init__("; ".join(text for _, text in places))
        self.places = tuple(places)


def place(value: str) -> str:
    """Refuse what no file can be called, here where the key is known."""
    if "\0" in value:
        raise ValueError(f"{shown(value)} is not the name of a file")
    return value


def account(value: str) -> str:
    """Refuse control characters in a user name: a NUL parts what AUTH says (RFC 4616)."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError(f"{shown(value)} is not a user name: it has control characters")
    return value


def one_partition(value: int) -> int:
    """Refuse what later releases bring."""
    if value != 1:
        raise ValueError(f"{value} is not supported yet; this release has 1 partition")
    return value


def no_listener_process(value: int) -> int:
    """Refuse what later releases bring."""
    if value != 0:
        raise ValueError(
            f"{value} is not supported yet; in this release the delivery process listens itself: write 0"
        )
    return value


def sensible_size(value: int) -> int:
    """Bound the largest message: a typing slip must not refuse all mail, nor fill the disk at once."""
    if not 1000 <= value <= 2_000_000_000:
        raise ValueError(f"{value} octets are out of bounds; write 1kB to 2GB")
    return value


def sensible_reserve(value: int) -> int:
    """Bound the free space that is kept: a typing slip must not refuse all mail."""
    if value > 1_000_000_000_000:
        raise ValueError(f"{value} octets are out of bounds; write up to 1000GB")
    return value


def sensible_header(value: int) -> int:
    """Bound the largest header: what is more than the first piece of a large message was never looked at."""
    if not 10_000 <= value <= 1_000_000:
        raise ValueError(f"{value} octets are out of bounds; write 10kB to 1MB")
    return value


def sensible_line(value: int) -> int:
    """Bound the longest line from below: 998 octets are everybody's right (RFC 5321 §4.5.3.1.6)."""
    if value != 0 and value < 998:
        raise ValueError(f"{value} octets are out of bounds; write 998 or more, or 0 for no limit")
    return value


def sensible_memory(value: int) -> int:
    """Bound the memory for messages on their way in: one must have room at least."""
    if not 8_000_000 <= value <= 100_000_000_000:
        raise ValueError(f"{value} octets are out of bounds; write 8MB to 100GB")
    return value


def sensible_pace(value: int) -> int:
    """Bound the least rate of a content: a typing slip must not cut off all clients."""
    if value > 100_000:
        raise ValueError(f"{value} octets a second are out of bounds; write up to 100kB")
    return value


def named_proxies(proxies: Sequence[Network]) -> None:
    """Refuse to believe strangers about who they are: networks as `not_an_open_relay` refuses them.

    Raises:
        ComplaintError: names each such network by its index.
    """
    places: list[tuple[Path, str]] = [
        ((index,), f"{shown(str(network))} would let strangers say who they are; write your proxies")
        for index, network in enumerate(proxies)
        if _strangers_in(network)
    ]
    if places:
        raise ComplaintError(places)


def not_an_open_relay(address: Address, allow: Sequence[Network], *, proxied: bool = False) -> None:
    """Refuse networks in which there are strangers, on an address that strangers can reach (promise 5).

    Private networks of any size are fine, and public ones that may be the operator's own
    (prefixes from /16, for IPv6 from /32). Behind a proxy every address can be reached: whom it
    speaks for is judged.

    Raises:
        ComplaintError: names each such network by its index.
    """
    local = address.host.startswith("/") or ip_address(address.host).is_loopback
    if local and not proxied:
        return
    places: list[tuple[Path, str]] = []
    for index, network in enumerate(allow):
        if _strangers_in(network):
            text = f"{shown(str(network))} on {address} is an open relay; write your own networks"
            places.append(((index,), text))
    if places:
        raise ComplaintError(places)


def via(value: object) -> tuple[Address, ...]:
    """Return a route's next hops in their order; none from `mx`.

    Raises:
        ValueError: it is neither a next hop, nor a list of them, nor `mx`.
        ComplaintError: the same, of elements of a list.
    """
    if value == "mx":
        return ()
    if not isinstance(value, list):
        return (next_hop(value),)
    if not value:
        raise ValueError("is empty; write at least one")
    found: list[Address] = []
    places: list[tuple[Path, str]] = []
    for index, one in enumerate(value):
        try:
            hop = next_hop(one)
        except ValueError as error:
            places.append(((index,), str(error)))
            continue
        if hop in found:
            places.append(((index,), f"{shown(str(hop))} stands there already"))
        found.append(hop)
    if places:
        raise ComplaintError(places)
    return tuple(found)


def bounce_class(value: object) -> str:
    """Return the name of a class of bounces a person may be suppressed for.

    Raises:
        ValueError: there is no such class, or it is that of the suppressed themselves.
    """
    known = [one.value for one in BounceClass if one is not BounceClass.SUPPRESSED]
    if value not in known:
        raise ValueError(f"{shown(value)} is not a class of bounces; known are {', '.join(known)}")
    return str(value)


def _strangers_in(network: Network) -> bool:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        network = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    private = any(
        known.version == network.version and network.subnet_of(known)  # type: ignore[arg-type]  # same version
        for known in _PRIVATE
    )
    return not private and network.prefixlen < _WIDEST[network.version]
