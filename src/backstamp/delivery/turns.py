"""Who goes next inside a lane: priorities, then tenants in turn, then large mail beside small. Pure.

Tenants take turns by the octets they send (deficit round robin, Shreedhar and Varghese 1995,
in the form that charges after the turn, so that whoever is new goes at once). A turn is one
transaction. Inside a tenant, mail of one transaction and mail of many alternate, so that a
mailing holds up nobody's single message. A higher priority goes first, but for one turn in
ten, so that nothing waits for ever.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import chain
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

QUANTUM: Final = 4096
"""Octets a tenant may send in a turn without paying for them by waiting; smaller mail counts as much."""

STRICT: Final = 9
"""Turns in a row that go to a higher priority while a lower one waits."""

T = TypeVar("T")


class Place(NamedTuple):
    """Where an item stands; counts are of items."""

    before: int
    """Of its own tenant, in front of it."""
    others: int
    """Of other tenants, who take turns with its own."""
    tenants: int
    """How many other tenants those are."""
    urgent: int
    """Of a higher priority."""


class _Tenant(Generic[T]):
    __slots__ = ("balance", "large", "small", "turn")

    def __init__(self) -> None:
        self.small: deque[T] = deque()
        self.large: deque[T] = deque()
        self.balance = 0.0
        """In quanta; a tenant in debt is passed over until the others had their turns."""
        self.turn = False
        """Whether the next turn is for large mail, if there is some of both."""

    @property
    def count(self) -> int:
        return len(self.small) + len(self.large)

    def take(self) -> T:
        large = bool(self.large) and (self.turn or not self.small)
        self.turn = not large
        return self.large.popleft() if large else self.small.popleft()

    def before(self, wanted: Callable[[T], bool]) -> int | None:
        """Return how many stand before the first that is wanted, None if none is."""
        for these, those in ((self.small, self.large), (self.large, self.small)):
            for index, item in enumerate(these):
                if wanted(item):
                    # Those of one transaction and those of many alternate.
                    return index + min(len(those), index)
        return None


class _Ring(Generic[T]):
    """The tenants of one priority that have something waiting, in the order of their turns."""

    __slots__ = ("balance", "last", "tenants")

    def __init__(self) -> None:
        self.tenants: OrderedDict[bytes, _Tenant[T]] = OrderedDict()
        self.last = b""
        """Who had the last turn."""
        self.balance = 0.0
        """With what balance."""

    def add(self, item: T, name: bytes, *, large: bool, owed: float) -> None:
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = _Tenant()
            if self.last in self.tenants:
                # Whoever is new goes before the one that just had its turn.
                self.tenants.move_to_end(self.last)
        if len(self.tenants) > 1:
            tenant.balance -= owed
        (tenant.large if large else tenant.small).append(item)

    def take(self) -> T:
        tenants = self.tenants
        if len(tenants) == 1:
            [(name, tenant)] = tenants.items()
            tenant.balance = 1.0
        else:
            name, tenant = self._next()
        self.last, self.balance = name, tenant.balance
        item = tenant.take()
        if tenant.small or tenant.large:
            tenants.move_to_end(name)
        else:
            del tenants[name]
        return item

    def _next(self) -> tuple[bytes, _Tenant[T]]:
        """Return the first tenant that is not in debt when each got its quantum."""
        tenants = self.tenants
        while True:
            for _ in range(len(tenants)):
                name, tenant = next(iter(tenants.items()))
                tenant.balance = min(1.0, tenant.balance + 1)
                if tenant.balance > 0:
                    return name, tenant
                tenants.move_to_end(name)
            # All are in debt: as many rounds pass at once as it takes to free the first.
            rounds = -max(tenant.balance for tenant in tenants.values())
            for tenant in tenants.values():
                tenant.balance += rounds


class Turns(Generic[T]):
    """What waits in a lane, in the order in which it gets turns."""

    def __init__(self) -> None:
        self._rings: dict[int, _Ring[T]] = {}
        self._order: list[int] = []
        """Priorities with somebody waiting, the highest first."""
        self._row = 0
        """Turns in a row of the highest."""
        self._lower = -inf
        """Which priority of the lower ones had the last turn in ten."""
        self.priority = 0
        """The priority of what was taken last."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: T, tenant: bytes, priority: int, *, large: bool, owed: float = 0.0) -> None:
        """Let an item wait for its turn; what has more to send comes back so after each.

        `owed` is what its tenant has not paid for its last turn (`charge`).
        """
        ring = self._rings.get(priority)
        if ring is None:
            ring = self._rings[priority] = _Ring()
        if not ring.tenants:
            self._order = sorted((*self._order, priority), reverse=True)
        ring.add(item, tenant, large=large, owed=owed)
        self._count += 1

    def take(self) -> T | None:
        """Return whose turn it is."""
        if not self._count:
            return None
        priority, *lower = self._order
        if lower:
            self._row += 1
            if self._row > STRICT:
                self._row = 0
                # They share that turn from the top down, and begin again: nobody has all of them.
                priority = next((one for one in lower if one < self._lower), lower[0])
                self._lower = priority
        self.priority = priority
        ring = self._rings[priority]
        item = ring.take()
        self._count -= 1
        if not ring.tenants:
            # The ring stays: it knows who had the last turn.
            self._order.remove(priority)
        return item

    def charge(self, tenant: bytes, priority: int, octets: int) -> float:
        """Let a tenant pay for the turn it just had; return what is owed, if nothing more of it waits."""
        ring = self._rings.get(priority)
        if ring is None:
            return 0.0
        cost = max(1.0, octets / QUANTUM)
        found = ring.tenants.get(tenant)
        if found is None:
            return cost - ring.balance if ring.last == tenant else 0.0
        if len(ring.tenants) > 1:
            found.balance -= cost
        return 0.0

    def place(self, tenant: bytes, wanted: Callable[[T], bool]) -> Place | None:
        """Return where the first item of a tenant that is wanted stands, None if none is.

        It looks through all that the tenant has waiting.
        """
        for priority, ring in self._rings.items():
            own = ring.tenants.get(tenant)
            before = None if own is None else own.before(wanted)
            if before is not None:
                others = [one.count for name, one in ring.tenants.items() if name != tenant]
                higher = [one.tenants.values() for level, one in self._rings.items() if level > priority]
                urgent = sum(one.count for one in chain(*higher))
                return Place(before, sum(others), len(others), urgent)
        return None

    def __iter__(self) -> Iterator[T]:
        """Yield everything that waits, in no order."""
        for ring in self._rings.values():
            for tenant in ring.tenants.values():
                yield from chain(tenant.small, tenant.large)

    def clear(self) -> list[T]:
        """Take everything out and return it, in no order."""
        left = [*self]
        self._rings.clear()
        self._order.clear()
        self._count = 0
        return left
