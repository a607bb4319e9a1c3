"""The resolver: dnspython's questions, with a cache, and answers as values (RFC 5321 §5.1).

It says what DNS said and judges nothing: which fault is final is `policy.classify`'s. UDP
with EDNS first, TCP where an answer was cut short. Time to live is kept within bounds,
negative answers by their SOA (RFC 2308 §5), failures a few seconds. No DNSSEC here; that
needs a validating resolver on this machine.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.resolver

from backstamp.clock import Clock
from backstamp.net.cache import Cache
from backstamp.policy.mx import DnsFault, DnsProblem, Exchanger, Exchangers

EXCHANGERS: Final = 50
"""Mail exchangers kept of one domain."""

TTL_MINIMUM: Final = 5.0
TTL_MAXIMUM: Final = 3600.0
TTL_FAILURE: Final = 10.0
CACHE_SIZE: Final = 10_000


class Resolver:
    """Asks for mail exchangers and addresses."""

    def __init__(self, nameservers: Sequence[tuple[str, int]], *, clock: Clock, timeout: float = 5.0) -> None:
        """Use these name servers (address and port), the system's where there are none.

        `timeout` is seconds for one question over all servers.
        """
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers
            ]
        self._resolver.use_edns(0, 0, 1232)
        self._resolver.lifetime = timeout
        self._resolver.timeout = timeout / 2
        self._resolver.cache = None
        self._exchangers: Cache[Exchangers | DnsFault] = Cache(clock.monotonic, size=CACHE_SIZE)
        self._addresses: Cache[tuple[str, ...] | DnsFault] = Cache(clock.monotonic, size=CACHE_SIZE)

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        """Return the mail exchangers of a domain (A-labels, lower case)."""
        return await self._exchangers.get(domain, lambda: self._ask_exchangers(domain))

    async def addresses(self, host: str) -> tuple[str, ...] | DnsFault:
        """Return a host's addresses, IPv6 and IPv4 in turn; an address stands for itself."""
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            return await self._addresses.get(host, lambda: self._ask_addresses(host))

    async def close(self) -> None:
        """End what is under way."""
        await self._exchangers.close()
        await self._addresses.close()

    # ---- questions ----

    async def _ask_exchangers(self, domain: str) -> tuple[Exchangers | DnsFault, float]:
        answer, seconds = await self._ask(domain, dns.rdatatype.MX)
        if isinstance(answer, DnsFault):
            return answer, seconds
        if answer.rrset is None:
            # RFC 5321 §5.1: without MX the domain itself is the host, with preference 0.
            return Exchangers((Exchanger(0, domain),), implicit=True), seconds
        hosts = []
        for record in answer.rrset:
            assert isinstance(record, dns.rdtypes.ANY.MX.MX)
            if record.exchange == dns.name.root:
                if len(answer.rrset) == 1:
                    return DnsFault(DnsProblem.NULL_MX, domain), seconds  # RFC 7505 §3
                continue
            hosts.append(Exchanger(record.preference, record.exchange.to_text(omit_final_dot=True).lower()))
        hosts.sort(key=lambda host: host.preference)
        if not hosts:
            return DnsFault(DnsProblem.NO_ADDRESS, domain), seconds
        return Exchangers(tuple(hosts[:EXCHANGERS])), seconds

    async def _ask_addresses(self, host: str) -> tuple[tuple[str, ...] | DnsFault, float]:
        async with asyncio.TaskGroup() as group:
            six = group.create_task(self._ask(host, dns.rdatatype.AAAA))
            four = group.create_task(self._ask(host, dns.rdatatype.A))
        lists: list[list[str]] = []
        faults = []
        seconds = TTL_MAXIMUM
        for answer, ttl in (six.result(), four.result()):
            seconds = min(seconds, ttl)
            if isinstance(answer, DnsFault):
                faults.append(answer)
            else:
                lists.append([record.to_text() for record in answer.rrset or ()])
        addresses = _in_turn(lists)
        if addresses:
            return addresses, seconds
        return (faults[0] if faults else DnsFault(DnsProblem.NO_ADDRESS, host)), seconds

    async def _ask(
        self, name: str, kind: dns.rdatatype.RdataType
    ) -> tuple[dns.resolver.Answer | DnsFault, float]:
        """Ask one question; return the answer (its rrset None where there is no such record) or a fault."""
        try:
            question = dns.name.from_text(name)
            answer = await self._resolver.resolve(question, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return DnsFault(DnsProblem.NO_DOMAIN, name), _negative(error)
        except dns.resolver.LifetimeTimeout:
            return DnsFault(DnsProblem.TIMEOUT, name), TTL_FAILURE
        except dns.resolver.NoNameservers:
            return DnsFault(DnsProblem.SERVER_FAILURE, name), TTL_FAILURE
        except dns.message.ChainTooLong:
            return DnsFault(DnsProblem.ALIAS_LOOP, name), TTL_FAILURE
        except (dns.exception.SyntaxError, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel,
                dns.name.BadEscape, UnicodeError):  # fmt: skip
            return DnsFault(DnsProblem.BAD_NAME, name), TTL_MAXIMUM
        except (dns.exception.DNSException, OSError):
            return DnsFault(DnsProblem.SERVER_FAILURE, name), TTL_FAILURE
        ttl = answer.chaining_result.minimum_ttl
        return answer, min(max(float(ttl), TTL_MINIMUM), TTL_MAXIMUM)


def _negative(error: dns.resolver.NXDOMAIN) -> float:
    """Return how long a name's absence may be believed."""
    for response in error.kwargs.get("responses", {}).values():
        ttl = response.resolve_chaining().minimum_ttl
        return min(max(float(ttl), TTL_MINIMUM), TTL_MAXIMUM)
    return TTL_MINIMUM


def _in_turn(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return tuple(one[index] for index in range(longest) for one in lists if index < len(one))
