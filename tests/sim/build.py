"""How the delivery side is put together here: the only place that knows the dispatcher's signature."""

from collections.abc import Callable, Iterable

from tests.sim.world import World

from backstamp.clock import Clock
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Tables
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Learned
from backstamp.queue.port import Outlet

HOSTNAME = "relay.example"


def dispatcher(
    queue: Outlet,
    world: World,
    *,
    tables: Tables,
    reporter: Reporter,
    clock: Clock,
    chance: Callable[[], float],
    tell: Teller,
    connections: int,
    learned: Iterable[Learned],
) -> Dispatcher:
    """Return a dispatcher that acts in a world."""
    return Dispatcher(
        queue,
        world,
        world.names,
        tables=tables,
        reporter=reporter,
        clock=clock,
        chance=chance,
        tell=tell,
        hostname=HOSTNAME,
        own_names=frozenset({HOSTNAME}),
        connections=connections,
        learned=learned,
    )
