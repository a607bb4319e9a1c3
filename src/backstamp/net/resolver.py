"""The resolver: questions to DNS, each asked once, with a cache, and answers as values (RFC 5321 §5.1).

What is no host name is not asked. The part that asks (`net.questions`) comes with the first question:
dnspython is a tenth of an idle relay's memory, and one whose smarthost has an address needs none of it.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from backstamp.clock import Clock
from backstamp.net.cache import Cache
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchangers, is_host_name

if TYPE_CHECKING:
    from backstamp.net.questions import Questions

CACHE_SIZE: Final = 10_000
"""Names kept, of each kind."""

UNLOADED: Final = 10.0
"""Seconds until the next try where the part that asks could not be loaded."""

Answer = TypeVar("Answer")


class Resolver:
    """Asks for mail exchangers and addresses."""

    def __init__(self, nameservers: Sequence[tuple[str, int]], *, clock: Clock, timeout: float = 5.0) -> None:
        """Use these name servers (address and port), the system's where there are none.

        `timeout` is seconds for one question over all servers.
        """
        self._nameservers = nameservers
        self._timeout = timeout
        self._questions: Questions | None = None
        self._exchangers: Cache[Exchangers | DnsFault] = Cache(clock.monotonic, size=CACHE_SIZE)
        self._addresses: Cache[Addresses | DnsFault] = Cache(clock.monotonic, size=CACHE_SIZE)

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        """Return the mail exchangers of a domain (A-labels, lower case), best first, at most 50.

        Without MX the domain itself is its host (RFC 5321 §5.1); `0 .` is a fault (RFC 7505 §3).
        """
        known = self._exchangers.peek(domain)
        if known is not None:
            return known
        if not is_host_name(domain):
            return DnsFault(DnsProblem.BAD_NAME, domain)
        return await self._exchangers.get(domain, lambda: self._ask(domain, lambda to: to.exchangers(domain)))

    async def addresses(self, host: str) -> Addresses | DnsFault:
        """Return a host's addresses, IPv6 and IPv4 in turn; an address stands for itself.

        Where one family has answers and the other failed for now, that fault is told beside them:
        whoever cannot use those addresses must not take them for all there are.
        """
        known = self._addresses.peek(host)
        if known is not None:
            return known
        try:
            return Addresses((str(ipaddress.ip_address(host)),))
        except ValueError:
            pass
        if not is_host_name(host):
            return DnsFault(DnsProblem.BAD_NAME, host)
        return await self._addresses.get(host, lambda: self._ask(host, lambda to: to.addresses(host)))

    async def close(self) -> None:
        """End what is under way; who waits for it is cancelled."""
        await self._exchangers.close()
        await self._addresses.close()

    async def _ask(
        self, name: str, ask: Callable[["Questions"], Awaitable[tuple[Answer, float]]]
    ) -> tuple[Answer | DnsFault, float]:
        if self._questions is None:
            try:
                # In a thread: clients notice nothing.
                self._questions = await asyncio.to_thread(_load, self._nameservers, self._timeout)
            except (ImportError, OSError):
                # Out of file descriptors, say: as temporary as a name server that fails.
                return DnsFault(DnsProblem.SERVER_FAILURE, name), UNLOADED
        return await ask(self._questions)


def _load(nameservers: Sequence[tuple[str, int]], timeout: float) -> "Questions":
    from backstamp.net.questions import Questions

    return Questions(nameservers, timeout=timeout)
