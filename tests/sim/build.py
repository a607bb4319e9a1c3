"""How the delivery side is put together here: the only place that knows the dispatcher's signature."""

from collections.abc import Callable

from tests.sim.world import World

from backstamp.clock import Clock
from backstamp.delivery.candidates import Finder
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.outside import Candidate, Manner, Source
from backstamp.delivery.reports import Reporter
from backstamp.delivery.tell import Teller
from backstamp.mail.fault import Fault
from backstamp.policy.destination import DestinationPolicy, PolicyTable
from backstamp.policy.route import RouteTable
from backstamp.queue.port import Outlet

HOSTNAME = "relay.example"


def dispatcher(
    queue: Outlet,
    world: World,
    *,
    policies: PolicyTable,
    routes: RouteTable,
    reporter: Reporter,
    clock: Clock,
    chance: Callable[[], float],
    tell: Teller,
    connections: int,
) -> Dispatcher:
    """Return a dispatcher that acts in a world."""

    async def connect(candidate: Candidate, policy: DestinationPolicy) -> object:
        wire = await world.dial(candidate, Source(), policy.timeouts.connect)
        if isinstance(wire, Fault):
            return wire
        return await world.open(wire, candidate, Manner(policy, HOSTNAME))

    finder = Finder(
        world.names,
        port=policies.default.port,
        private=True,
        own_names=frozenset({HOSTNAME}),
        own_addresses=frozenset(),
        chance=chance,
    )
    return Dispatcher(
        queue,
        connect,  # type: ignore[arg-type]  # a session in memory is no `Connection`
        finder,
        routes=routes,
        policy=policies.default,
        reporter=reporter,
        clock=clock,
        chance=chance,
        tell=tell,
        connections=connections,
    )
