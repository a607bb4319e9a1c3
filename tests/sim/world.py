"""The world delivery acts in: mail hosts by address, and the names that lead to them.

It is a `Net` and, with `names`, a `Resolver` (`delivery.outside`). What reached whom is known
here better than to the relay: `duplicates` lists each message a recipient was sent again
though it had been acknowledged, `unknown` what was taken without a word.
"""

import asyncio
import ipaddress
import random
from collections.abc import Iterable, Sequence

from tests.sim.habits import Habit
from tests.sim.peer import Pace, Peer, Visit
from tests.sim.promise import Promise
from tests.sim.talk import Talk, dial, greet

from backstamp.delivery.outside import Candidate, Manner, Source
from backstamp.mail.content import Content
from backstamp.mail.content import size as octets
from backstamp.mail.fault import Fault
from backstamp.net.client import Refusal
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchanger, Exchangers

EXTENSIONS = {"PIPELINING": "", "8BITMIME": "", "SIZE": "50000000", "ENHANCEDSTATUSCODES": ""}
FIRST = ipaddress.ip_address("11.0.0.1")
FIRST6 = ipaddress.ip_address("2600::1")


class World:
    """All hosts. Make it on a running virtual loop."""

    def __init__(self, chance: random.Random) -> None:
        self.loop = asyncio.get_running_loop()
        self.chance = chance
        self.names = Names(self)
        self.peers: dict[str, Peer] = {}
        """By address."""
        self.hosts: dict[str, list[Peer]] = {}
        """By name."""
        self.duplicates: list[tuple[bytes, bytes]] = []
        self.taken: dict[tuple[bytes, bytes], bool] = {}
        """Message and recipient: whether it was acknowledged."""

    # ---- making it ----

    def host(
        self,
        name: str,
        *habits: Habit,
        promises: Sequence[Promise] = (),
        addresses: int = 1,
        pace: Pace | None = None,
        tls: str = "",
        family: int = 4,
    ) -> list[Peer]:
        """Add a mail host with a number of addresses, which share its habits; return them.

        A host that is there already gets them besides: so one of both families is made.
        """
        made = []
        for _ in range(addresses):
            address = str((FIRST if family == 4 else FIRST6) + len(self.peers))
            peer = Peer(
                self, name, address, habits, promises, pace=pace or Pace(), extensions=EXTENSIONS, tls=tls
            )
            self.peers[address] = peer
            made.append(peer)
        self.hosts.setdefault(name, []).extend(made)
        return made

    def domain(self, name: str, *hosts: str, since: float = 0.0) -> None:
        """Name the mail exchangers of a domain, each with a preference below the one before."""
        records = tuple(Exchanger(10 * number, host) for number, host in enumerate(hosts, 1))
        self.names.put(name, Exchangers(records), since)

    def simple(self, domain: str, *habits: Habit, promises: Sequence[Promise] = ()) -> Peer:
        """Add a domain with one exchanger at one address."""
        self.domain(domain, f"mx.{domain}")
        return self.host(f"mx.{domain}", *habits, promises=promises)[0]

    # ---- what it saw ----

    def violations(self) -> list[str]:
        """Return every moment at which a promise was broken."""
        promises = {id(one): one for peer in self.peers.values() for one in peer.promises}
        return [line for one in promises.values() for line in one.violations]

    def present(self) -> int:
        """Return how many connections there are."""
        return sum(peer.present for peer in self.peers.values())

    def take(self, peer: Peer, name: bytes, recipients: Iterable[bytes], *, acknowledged: bool) -> None:
        """A host took a message for some recipients."""
        count = 0
        for recipient in recipients:
            count += 1
            key = (name, recipient)
            known = self.taken.get(key, False)
            if known:
                self.duplicates.append(key)
            self.taken[key] = known or acknowledged
        peer.takes.append((self.loop.time(), name, count, acknowledged))

    def name(self, content: Content) -> bytes:
        """Return what tells a message from others: its Message-ID, or its first line without one."""
        header = content if isinstance(content, bytes) else content.header
        if not header.startswith(b"Message-ID:"):
            at = header.find(b"\nMessage-ID:") + 1
            return header[at : header.find(b"\r", at)]
        return header[: header.find(b"\r")]

    def size(self, content: Content) -> int:
        """Return the octets of a message."""
        return octets(content)

    # ---- delivery.outside.Net ----

    async def dial(self, candidate: Candidate, source: Source, seconds: float) -> Visit | Fault:
        """Connect to an address."""
        return await dial(self.peers[candidate.address], source.address, seconds)

    async def open(self, wire: Visit, candidate: Candidate, manner: Manner) -> Talk | Refusal | Fault:
        """Begin a session."""
        return await greet(wire, manner)

    def hang_up(self, wire: Visit) -> None:
        """Close a connection nobody wants."""
        wire.end()


class Names:
    """What DNS says, from when on: the last that was `put` for a moment holds. Answers are kept for `ttl`."""

    def __init__(self, world: World, *, seconds: float = 0.01, ttl: float = 60.0) -> None:
        self._world = world
        self._seconds = seconds
        self._ttl = ttl
        self._said: dict[str, list[tuple[float, Exchangers | DnsFault]]] = {}
        self._kept: dict[str, tuple[float, Exchangers | DnsFault]] = {}
        self.questions = 0

    def put(self, domain: str, answer: Exchangers | DnsFault, since: float = 0.0) -> None:
        """From a second on, a domain has these exchangers, or this fault."""
        said = self._said.setdefault(domain, [])
        said.append((since, answer))
        said.sort(key=lambda one: one[0])

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        """Return the mail exchangers of a domain."""
        now = self._world.loop.time()
        until, answer = self._kept.get(domain, (0.0, None))
        if answer is not None and now < until:
            return answer
        self.questions += 1
        await asyncio.sleep(self._seconds)
        now = self._world.loop.time()
        fitting = [one for since, one in self._said.get(domain, []) if since <= now]
        answer = fitting[-1] if fitting else DnsFault(DnsProblem.NO_DOMAIN, domain)
        self._kept[domain] = (now + self._ttl, answer)
        return answer

    async def addresses(self, host: str) -> Addresses | DnsFault:
        """Return the addresses of a host."""
        peers = self._world.hosts.get(host)
        if not peers:
            return DnsFault(DnsProblem.NO_ADDRESS, host)
        return Addresses(tuple(peer.address for peer in peers))
