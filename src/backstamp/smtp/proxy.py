"""The PROXY protocol, versions 1 and 2: whom a proxy speaks for. Pure.

A proxy that is trusted (`[[listen]] proxies`) says before anything else whose connection it
passes on (haproxy's doc/proxy-protocol.txt). Octets come in any pieces: what a beginning
already decides, no octet behind it changes. Nothing is taken leniently, for what stands here
decides who may relay; and nothing is read beyond the bounds. Of additions (TLVs) one is looked at:
whether the client came to the proxy by TLS. The others, their checksum too, are passed over.
"""

import enum
import ipaddress
import re
from typing import Final

import msgspec

LONGEST_V1: Final = 107
"""Octets of a header of version 1, its CRLF too (§2.1)."""

LONGEST_V2: Final = 16 + 536
"""Octets of a header of version 2 that are read: §2.2 allows 65,551, and asks for one that goes in one
segment of 536."""

_BEGIN_V1: Final = b"PROXY "
_BEGIN_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final = 16
_V1: Final = re.compile(
    rb"TCP([46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_UNKNOWN_V1: Final = re.compile(rb"UNKNOWN(?: .*)?", re.DOTALL)

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_SSL: Final = 0x20
_CLIENT_SSL: Final = 0x01
_OCTETS: Final = {0x11: 4, 0x21: 16}
"""Octets of an address by family and transport: TCP over IPv4 and over IPv6. Mail comes by no other."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """A whole header of `length` octets; what follows them is the client's.

    `source` is the client's IP address (an IPv4-mapped one as the IPv4 address it is) and `port` its port;
    empty and 0 where the proxy speaks for itself or does not know: then the connection's own address counts.
    """

    source: str
    port: int
    length: int
    tls: bool = False
    """Whether the client came to the proxy by TLS, as far as the proxy says so (version 2, §2.2.6)."""

    @property
    def local(self) -> bool:
        """Whether the connection's own address counts (LOCAL, UNKNOWN, UNSPEC)."""
        return not self.source


class Unfinished(enum.Enum):
    """Why there is no header."""

    NEED_MORE = "it is not whole yet"
    MALFORMED = "this is none, or none that says who the client is"


NEED_MORE: Final = Unfinished.NEED_MORE
MALFORMED: Final = Unfinished.MALFORMED


def parse(buffer: bytes | bytearray) -> Header | Unfinished:
    """Return the header a connection begins with, as far as it came.

    A connection whose header is malformed is closed without a word. At most `LONGEST_V2` octets are
    looked at; NEED_MORE is never said to as many.
    """
    begin = bytes(buffer[: len(_BEGIN_V2)])
    for known, read in ((_BEGIN_V1, _version_1), (_BEGIN_V2, _version_2)):
        if begin.startswith(known):
            return read(buffer)
        if known.startswith(begin):
            return NEED_MORE
    return MALFORMED


def _version_1(buffer: bytes | bytearray) -> Header | Unfinished:
    line = bytes(buffer[:LONGEST_V1])
    end = line.find(b"\r\n")
    if end < 0:
        return MALFORMED if len(line) == LONGEST_V1 else NEED_MORE
    said = line[len(_BEGIN_V1) : end]
    if _UNKNOWN_V1.fullmatch(said) is not None:
        return Header("", 0, end + 2)
    if (found := _V1.fullmatch(said)) is None:
        return MALFORMED
    made = ipaddress.IPv4Address if found[1] == b"4" else ipaddress.IPv6Address
    try:
        source, _ = (made(found[which].decode("ascii")) for which in (2, 3))
    except ValueError:
        return MALFORMED
    port, other = int(found[4]), int(found[5])
    return Header(_plain(source), port, end + 2) if max(port, other) <= 65_535 else MALFORMED


def _version_2(buffer: bytes | bytearray) -> Header | Unfinished:
    if len(buffer) < _FIXED:
        return NEED_MORE
    command, kind = buffer[12], buffer[13]
    length = _FIXED + int.from_bytes(buffer[14:16])
    octets = _OCTETS.get(kind, 0)
    speaks_for_itself = command == _LOCAL or (command == _PROXY and kind == _UNSPECIFIED)
    speaks_for_another = command == _PROXY and octets > 0 and length >= _FIXED + 2 * octets + 4
    if length > LONGEST_V2 or not (speaks_for_itself or speaks_for_another):
        return MALFORMED
    if len(buffer) < length:
        return NEED_MORE
    if speaks_for_itself:
        return Header("", 0, length)
    source = ipaddress.ip_address(bytes(buffer[_FIXED : _FIXED + octets]))
    port = _FIXED + 2 * octets
    tls = _by_tls(bytes(buffer[port + 4 : length]))
    return Header(_plain(source), int.from_bytes(buffer[port : port + 2]), length, tls)


def _by_tls(additions: bytes) -> bool:
    """Tell whether PP2_TYPE_SSL is among them, and has PP2_CLIENT_SSL set; what is cut off says nothing."""
    at = 0
    while len(additions) >= at + 3:
        end = at + 3 + int.from_bytes(additions[at + 1 : at + 3])
        if additions[at] == _SSL and at + 3 < end <= len(additions):
            return bool(additions[at + 3] & _CLIENT_SSL)
        at = end
    return False


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
