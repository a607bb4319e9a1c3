"""A DNS server for tests: dnspython's messages over UDP and TCP, answers from a table.

The zone is a dict of names (lower case, no trailing dot) to records by type; a name that is
not in it does not exist. Trouble is scripted for a name, or for `name/TYPE`: an rcode,
silence, an answer cut short on UDP, aliases not followed, a negative answer without its SOA.
"""

import asyncio
import socket
from collections import Counter
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = dict[str, dict[str, list[str]]]
SOA = "ns.invalid. hostmaster.invalid. 1 3600 600 86400 7"


class DnsServer:
    """Answers on one address, the same port for UDP and TCP."""

    def __init__(self, zone: Zone, host: str = "127.0.0.1", *, ttl: int = 60) -> None:
        self.zone = zone
        self.address = (host, 0)
        self.questions: Counter[tuple[str, str]] = Counter()
        """How often a name and type were asked."""
        self.transports: Counter[str] = Counter()
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.cut: set[str] = set()
        self.bare: set[str] = set()
        self.without_soa: set[str] = set()
        self.delay = 0.0
        self._ttl = ttl
        self._udp: asyncio.DatagramTransport
        self._tcp: asyncio.Server

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        host = self.address[0]
        for _ in range(20):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((host, 0))
            port = sock.getsockname()[1]
            try:
                self._tcp = await asyncio.start_server(self._stream, host, port)
            except OSError:
                sock.close()
                continue
            break
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
        self.address = (host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        await asyncio.sleep(0)

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        """Return the answer to one question, None to be silent."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.questions[name, kind] += 1
        self.transports[transport] += 1
        keys = {name, f"{name}/{kind}"}
        if keys & self.silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        rcode = next((self.rcodes[key] for key in keys if key in self.rcodes), None)
        if rcode is not None:
            response.set_rcode(rcode)
        elif keys & self.cut and transport == "udp":
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind, bare=bool(keys & self.bare), soa=not keys & self.without_soa)
        if transport == "tcp":
            return response.to_wire(max_size=65535)
        # What does not fit in the datagram the client takes (EDNS) is cut short, and says so.
        return response.to_wire(prefer_truncation=True)

    def _fill(self, response: dns.message.Message, name: str, kind: str, *, bare: bool, soa: bool) -> None:
        for _ in range(12):
            records = self.zone.get(name)
            if records is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            if kind in records:
                response.answer.append(dns.rrset.from_text(f"{name}.", self._ttl, "IN", kind, *records[kind]))
                return
            if "CNAME" not in records:
                break
            response.answer.append(
                dns.rrset.from_text(f"{name}.", self._ttl, "IN", "CNAME", *records["CNAME"])
            )
            if bare:
                return
            name = records["CNAME"][0].rstrip(".").lower()
        if soa:
            owner = name.rpartition(".")[2]
            response.authority.append(dns.rrset.from_text(f"{owner}.", self._ttl, "IN", "SOA", SOA))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                answer = self.answer(await reader.readexactly(length), "tcp")
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None:
            asyncio.get_running_loop().call_later(self._server.delay, self._transport.sendto, answer, addr)
