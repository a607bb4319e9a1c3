"""Mail as it comes, from a seed: streams of `Post`, each in the order of time.

Times are virtual seconds. A stream is lazy, so that a week of it costs nothing before its
time; `merged` puts several together.
"""

import heapq
import itertools
import random
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec

PAGE = 2000
"""Octets of an ordinary message."""


class Post(msgspec.Struct, frozen=True, gc=False):
    """A message somebody hands in at a moment. `size` is octets of its body."""

    at: float
    recipients: tuple[bytes, ...]
    tenant: bytes = b"tenant.example"
    priority: int | None = None
    size: int = PAGE
    hold: float = 0.0
    """Seconds its sender wants it to wait before it leaves (RFC 4865)."""

    @property
    def sender(self) -> bytes:
        """The reverse-path."""
        return b"news@" + self.tenant


Pick = Callable[[random.Random], bytes]
"""Chooses a domain."""


def only(domain: str) -> Pick:
    """Choose one domain."""
    return lambda _: domain.encode()


def zipf(domains: Sequence[str], exponent: float = 1.0) -> Pick:
    """Choose among domains, the first the most popular: the n-th with a weight of n to the -exponent."""
    names = [domain.encode() for domain in domains]
    sums = list(itertools.accumulate(1 / number**exponent for number in range(1, len(names) + 1)))
    return lambda chance: names[bisect(sums, chance.random() * sums[-1])]


def steady(
    chance: random.Random,
    rate: float,
    seconds: float,
    pick: Pick,
    *,
    tenant: bytes = b"tenant.example",
    priority: int | None = None,
    sizes: Sequence[int] = (PAGE,),
    since: float = 0.0,
) -> Iterator[Post]:
    """Single messages at a mean rate a second, at random moments (Poisson)."""
    at = since
    for number in itertools.count():
        at += chance.expovariate(rate)
        if at >= since + seconds:
            return
        recipient = b"user%d@%b" % (number, pick(chance))
        yield Post(at, (recipient,), tenant, priority, chance.choice(sizes))


def mailing(
    recipients: Sequence[bytes],
    *,
    at: float = 0.0,
    each: int = 1,
    rate: float = 0.0,
    tenant: bytes = b"mailing.example",
    priority: int | None = None,
    size: int = PAGE,
) -> Iterator[Post]:
    """A mailing in messages of `each` recipients: all at once, or so many messages a second."""
    for number, first in enumerate(range(0, len(recipients), each)):
        moment = at + number / rate if rate else at
        yield Post(moment, tuple(recipients[first : first + each]), tenant, priority, size)


def people(count: int, domain: str) -> list[bytes]:
    """Return addresses of a domain."""
    return [b"user%d@%b" % (number, domain.encode()) for number in range(count)]


def crowd(chance: random.Random, count: int, pick: Pick) -> list[bytes]:
    """Return addresses in many domains, no two the same."""
    return [b"user%d@%b" % (number, pick(chance)) for number in range(count)]


def resets(
    chance: random.Random, rate: float, seconds: float, pick: Pick, *, priority: int | None = None
) -> Iterator[Post]:
    """Password resets: small, single, and somebody waits for each."""
    return steady(chance, rate, seconds, pick, tenant=b"accounts.example", priority=priority, sizes=(600,))


def merged(*streams: Iterable[Post]) -> Iterator[Post]:
    """Return several streams as one."""
    return heapq.merge(*streams, key=attrgetter("at"))
