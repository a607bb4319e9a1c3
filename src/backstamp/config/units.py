"""What people write, as values: durations, sizes, rates, addresses. Pure.

Every parser takes what TOML gave and raises `ValueError` with a whole sentence: the value
as it was written, what it is not, and how to write it. Nothing is guessed: a duration has
a unit, an address has a port.
"""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from backstamp.config.address import Address
from backstamp.config.names import domain
from backstamp.config.words import shown
from backstamp.policy.destination import Rate

_DURATION = re.compile(
    r"(?:([0-9]{1,9})w)?(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?"
)
_SECONDS = (7 * 86400, 86400, 3600, 60, 1, 0.001)
_TEN_YEARS = 3650 * 86400
_SIZE = re.compile(r"([0-9]{1,15}) ?([A-Za-z]{1,3})")
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_RATE = re.compile(r"([0-9]{1,9})/(.*)", re.DOTALL)
_DAY = 86400
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})")
_MODE = re.compile(r"0?[0-7]{3}")
_PATH = 107
"""Octets a Linux socket's path may have (unix(7): 108 with the NUL)."""
_IDLE = re.compile(r"/(?:\.?/)+")
"""What says nothing in a path."""
_PLAIN = re.compile(r"([^\[\]:]+):([0-9]{1,5})")

Network = IPv4Network | IPv6Network


def duration(value: object) -> float:
    """Return seconds from `30s`, `5m`, `1h30m`, `500ms`, `2d` or `1w`; larger units first, each once.

    Raises:
        ValueError: it is no such text, nothing but zeros, or more than ten years.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not value:
        raise ValueError(f"{shown(value)} is not a duration; write 30s, 5m, 2h or 1d")
    seconds = sum(int(part) * unit for part, unit in zip(found.groups(), _SECONDS, strict=True) if part)
    if not seconds:
        raise ValueError(f"{shown(value)} is no time at all; write 30s, 5m, 2h or 1d")
    if seconds > _TEN_YEARS:
        raise ValueError(f"{shown(value)} is more than ten years")
    return float(seconds)


def period(value: object) -> float | None:
    """Return seconds as `duration` does, None from `never`.

    Raises:
        ValueError: it is neither.
    """
    return None if value == "never" else duration(value)


def rate(value: object) -> Rate:
    """Return a rate from `100/1m`, `10/1s` or `3600/1h`: a count of 1 or more, in a time of up to a day.

    Raises:
        ValueError: it is no such text, or out of these bounds.
    """
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a rate; write 100/1m, 10/1s or 3600/1h")
    try:
        seconds = duration(found[2])
    except ValueError:
        raise ValueError(f"{shown(value)} is not a rate; write 100/1m, 10/1s or 3600/1h") from None
    if int(found[1]) == 0:
        raise ValueError(f"{shown(value)} lets nothing through; write 1/1h or more")
    if seconds > _DAY:
        raise ValueError(f"{shown(value)} counts over more than a day; write 100/1d or a shorter time")
    return Rate(int(found[1]), seconds)


def size(value: object) -> int:
    """Return octets from `512B`, `64kB`, `50MB`, `1GB` (powers of 1000), `64KiB`, `50MiB`, `1GiB` (of 1024).

    Raises:
        ValueError: it is no such text.
    """
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in _BYTES:
        raise ValueError(f"{shown(value)} is not a size; write 64kB, 50MB or 20MiB")
    return int(found[1]) * _BYTES[found[2]]


def host_address(value: object) -> str:
    """Return an IP address of one host, in one spelling.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _is_ip(value):
        raise ValueError(f"{shown(value)} is not an IP address; write 192.0.2.1 or 2001:db8::1")
    found = ip_address(value)
    if found.is_unspecified or found.is_multicast:
        raise ValueError(f"{shown(value)} is no address of one host; write 192.0.2.1 or 2001:db8::1")
    return str(found)


def next_hop(value: object) -> Address:
    """Return a smarthost from `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`; ports 1 to 65535.

    Raises:
        ValueError: it is none of these.
    """
    found = _split(value)
    if found is None or not 1 <= found.port <= 65535:
        raise ValueError(f"{shown(value)} is not a host and a port; write smtp.example.net:25 or [::1]:2526")
    if _is_ip(found.host):
        return found
    try:
        return Address(domain(found.host), found.port)
    except ValueError:
        raise ValueError(f"{shown(value)} names no host; write smtp.example.net:25 or 192.0.2.1:25") from None


def socket_address(value: object) -> Address:
    """Return where to listen, from `127.0.0.1:2525` or `[::1]:2525`; port 0 lets the system choose.

    Raises:
        ValueError: it is none of these. Names are none: what they mean may change behind our back. So is
            what the system lets nobody listen on: an IPv4-mapped address, a group's, a link's own.
    """
    found = _split(value)
    if found is None or not _is_ip(found.host) or found.port > 65535:
        raise ValueError(
            f"{shown(value)} is not an IP address and a port; write 127.0.0.1:2525 or [::1]:2525"
        )
    address = ip_address(found.host)
    if isinstance(address, IPv6Address):
        if (inner := address.ipv4_mapped) is not None:
            raise ValueError(f"{shown(value)} is an IPv4 address; write {inner}:{found.port}")
        if address.is_link_local:
            raise ValueError(f"{shown(value)} is another one on every link; write [::1]:2525")
    if address.is_multicast:
        raise ValueError(f"{shown(value)} is no address of one host; write 127.0.0.1:2525 or [::1]:2525")
    return found


def listen_address(value: object) -> Address:
    """Return where to listen, from what `socket_address` takes or `unix:/run/backstamp/smtp.sock`.

    Raises:
        ValueError: it is neither; or the path is relative (who hands in mail does so from anywhere), longer
            than a socket's name may be (107 octets, unix(7)), or has a control character.
    """
    if not isinstance(value, str) or not value.startswith("unix:"):
        return socket_address(value)
    path = value.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError(f"{shown(value)} is not the path of a socket; write unix:/run/backstamp/smtp.sock")
    if len(path.encode()) > _PATH:
        raise ValueError(f"{shown(value)} is too long; a socket's path has at most {_PATH} octets")
    # In one spelling; `..` stays, for behind a link it leads elsewhere.
    return Address(_IDLE.sub("/", path), 0)


def mode(value: object) -> int:
    """Return permissions from octal text, `0660` or `666`.

    Raises:
        ValueError: it is no such text; a number is none, for `mode = 660` would mean something else.
    """
    if not isinstance(value, str) or _MODE.fullmatch(value) is None:
        raise ValueError(f'{shown(value)} is not a mode; write "0660" or "0666", with quotes')
    return int(value, 8)


def nameserver(value: object) -> Address:
    """Return a name server from an IP address, with or without a port (53).

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and _is_ip(value):
        return Address(str(ip_address(value)), 53)
    found = _split(value)
    if found is None or not _is_ip(found.host) or not 1 <= found.port <= 65535:
        raise ValueError(f"{shown(value)} is not a name server; write 192.0.2.53, 127.0.0.1:5353 or [::1]:53")
    return found


def network(value: object) -> Network:
    """Return a network from `192.168.0.0/16`, `fd00::/8` or a single address.

    Raises:
        ValueError: it is none, or its address has bits set beyond the prefix.
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a network; write 192.168.0.0/16 or fd00::/8")
    try:
        loose = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a network; write 192.168.0.0/16 or fd00::/8") from None
    if "/" in value and ip_address(value.partition("/")[0]) != loose.network_address:
        # Which of the two was meant, one host or the network, changes who may relay: never guessed.
        raise ValueError(f"{shown(value)} has bits set beyond its prefix; write {loose}, or one address")
    return loose


def _split(value: object) -> Address | None:
    """Split `host:port`; IPv6 addresses stand in brackets. IP addresses come out in one spelling."""
    if not isinstance(value, str):
        return None
    bracketed = _BRACKETED.fullmatch(value)
    found = bracketed or _PLAIN.fullmatch(value)
    if found is None:
        return None
    host = found[1]
    if _is_ip(host):
        parsed = ip_address(host)
        if (bracketed is not None) != isinstance(parsed, IPv6Address):
            return None
        host = str(parsed)
    elif bracketed:
        return None
    return Address(host, int(found[2]))


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
