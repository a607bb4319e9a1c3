"""Questions to name servers, one name at a time, with dnspython; the answers are values (RFC 5321 §5.1).

It says what DNS said and judges nothing: which fault is final is `policy.classify`'s. UDP with EDNS
first, TCP where an answer was cut short. Each answer comes with the seconds it may be believed: its time
to live within bounds, a negative one's by its SOA (RFC 2308 §5), a failure's a few. No DNSSEC here; that
needs a validating resolver on this machine.
"""

import asyncio
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
import dns.rrset

from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchanger, Exchangers, is_host_name

EXCHANGERS: Final = 50
"""Mail exchangers kept of one domain."""

ALIASES: Final = 8
"""CNAME records followed by questions of our own, where a name server does not follow them."""

TTL_MINIMUM: Final = 5.0
TTL_MAXIMUM: Final = 3600.0
TTL_FAILURE: Final = 10.0
"""Seconds an answer is believed: at least, at most, and where there was none."""

_PERMANENT: Final = frozenset({DnsProblem.NO_DOMAIN, DnsProblem.NO_ADDRESS})


class Questions:
    """Asks name servers. What is no host name must not be asked."""

    def __init__(self, nameservers: Sequence[tuple[str, int]], *, timeout: float) -> None:
        """Use these name servers (address and port), the system's where there are none.

        `timeout` is seconds for one question over all servers.
        """
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration:
            # resolv.conf(5): without the file the name server of this machine is meant.
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            nameservers = [("127.0.0.1", 53)]
        if nameservers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers
            ]
        self._resolver.use_edns(0, 0, 1232)
        self._resolver.lifetime = timeout
        self._resolver.timeout = timeout / 2
        self._resolver.cache = None

    async def exchangers(self, domain: str) -> tuple[Exchangers | DnsFault, float]:
        """Return the mail exchangers of a domain, best first, at most 50, and for how many seconds."""
        records, seconds = await self._ask(domain, dns.rdatatype.MX)
        if isinstance(records, DnsFault):
            return records, seconds
        if records is None:
            return Exchangers((Exchanger(0, domain.removesuffix(".").lower()),), implicit=True), seconds
        best: dict[str, int] = {}
        for record in records:
            assert isinstance(record, dns.rdtypes.ANY.MX.MX)
            name = record.exchange.to_text(omit_final_dot=True).lower()
            if record.exchange == dns.name.root and len(records) == 1:
                return DnsFault(DnsProblem.NULL_MX, domain), seconds
            if is_host_name(name):
                best[name] = min(record.preference, best.get(name, record.preference))
        hosts = sorted((Exchanger(preference, name) for name, preference in best.items()), key=_preference)
        if not hosts:
            # There are MX records, so the domain's own address must not be used (RFC 5321 §5.1).
            return DnsFault(DnsProblem.NO_ADDRESS, domain), seconds
        return Exchangers(tuple(hosts[:EXCHANGERS])), seconds

    async def addresses(self, host: str) -> tuple[Addresses | DnsFault, float]:
        """Return a host's addresses, and for how many seconds."""
        async with asyncio.TaskGroup() as group:
            six = group.create_task(self._ask(host, dns.rdatatype.AAAA))
            four = group.create_task(self._ask(host, dns.rdatatype.A))
        lists: list[list[str]] = []
        faults: list[DnsFault] = []
        temporary: list[DnsFault | None] = []
        seconds = TTL_MAXIMUM
        for records, ttl in (six.result(), four.result()):
            seconds = min(seconds, ttl)
            if isinstance(records, DnsFault):
                faults.append(records)
                temporary.append(None if records.problem in _PERMANENT else records)
            else:
                lists.append([record.to_text() for record in records or ()])
                temporary.append(None)
        addresses = _in_turn(lists)
        if addresses:
            return Addresses(addresses, *temporary), seconds
        # Some name servers deny a name when asked for AAAA; only two denials are one.
        faults.sort(key=lambda fault: fault.problem in _PERMANENT)
        return (faults[0] if faults else DnsFault(DnsProblem.NO_ADDRESS, host)), seconds

    async def _ask(
        self, name: str, kind: dns.rdatatype.RdataType
    ) -> tuple[dns.rrset.RRset | DnsFault | None, float]:
        """Ask one question; return the records (None where there are none of the type) or a fault."""
        seconds = TTL_MAXIMUM
        question = dns.name.from_text(name)
        seen: set[dns.name.Name] = set()
        while question not in seen and len(seen) <= ALIASES:
            seen.add(question)
            answer = await self._ask_once(question, kind, name)
            if not isinstance(answer, dns.resolver.Answer):
                return answer[0], min(seconds, answer[1])
            seconds = min(seconds, _ttl(answer.response))
            if answer.rrset is not None or _denies(answer.response) or answer.canonical_name == question:
                return answer.rrset, seconds
            question = answer.canonical_name
        return DnsFault(DnsProblem.ALIAS_LOOP, name), TTL_FAILURE

    async def _ask_once(
        self, question: dns.name.Name, kind: dns.rdatatype.RdataType, name: str
    ) -> dns.resolver.Answer | tuple[DnsFault, float]:
        try:
            return await self._resolver.resolve(question, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            ttl = min(map(_ttl, error.kwargs["responses"].values()), default=TTL_MINIMUM)
            return DnsFault(DnsProblem.NO_DOMAIN, name), ttl
        except dns.resolver.LifetimeTimeout:
            return DnsFault(DnsProblem.TIMEOUT, name), TTL_FAILURE
        except dns.resolver.NoNameservers as error:
            looped = any(isinstance(one[3], dns.message.ChainTooLong) for one in error.kwargs["errors"])
            problem = DnsProblem.ALIAS_LOOP if looped else DnsProblem.SERVER_FAILURE
            return DnsFault(problem, name), TTL_FAILURE
        except (dns.exception.DNSException, OSError):
            return DnsFault(DnsProblem.SERVER_FAILURE, name), TTL_FAILURE


def _ttl(response: dns.message.QueryMessage) -> float:
    """Return for how many seconds an answer is believed; a negative one without SOA hardly (RFC 2308 §5)."""
    result = response.resolve_chaining()
    if result.answer is None and not _denies(response):
        return TTL_MINIMUM
    return min(max(float(result.minimum_ttl), TTL_MINIMUM), TTL_MAXIMUM)


def _denies(response: dns.message.QueryMessage) -> bool:
    """Tell whether a zone's SOA vouches that there is nothing more; an alias may lead on otherwise."""
    return any(records.rdtype == dns.rdatatype.SOA for records in response.authority)


def _preference(host: Exchanger) -> int:
    return host.preference


def _in_turn(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return tuple(one[index] for index in range(longest) for one in lists if index < len(one))
