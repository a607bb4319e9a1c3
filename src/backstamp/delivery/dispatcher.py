"""The dispatcher: claims what is due, routes it to its lane, and runs the lanes' workers.

A claimed delivery costs a place in its lane and nothing else, so everything that is due is
claimed, and a slow lane holds up nobody. Workers are tasks of one group; all lanes share
a bound on connections, and lanes that found none left get theirs in turn. Shutdown runs
against the flow: stop claiming, let transactions end within a grace, then cancel.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from backstamp.clock import Clock
from backstamp.delivery.attempt import Attempter, Connect, Find, Slot
from backstamp.delivery.candidates import Finder
from backstamp.delivery.lane import Lane
from backstamp.delivery.reports import Reporter
from backstamp.delivery.tell import Teller
from backstamp.mail.address import to_alabel
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.route import RouteTable
from backstamp.queue.port import Delivery, Outlet

CLAIMS = 256
"""Deliveries claimed in one go: bounds how long the loop is kept from everything else."""

CONNECTIONS = 1000
"""Connections of all lanes together."""

Worker = asyncio.Future[Delivery | None]


class Dispatcher:
    """Runs delivery for one partition."""

    def __init__(
        self,
        queue: Outlet,
        connect: Connect,
        finder: Finder,
        *,
        routes: RouteTable,
        policy: DestinationPolicy,
        reporter: Reporter,
        clock: Clock,
        chance: Callable[[], float],
        tell: Teller,
        connections: int = CONNECTIONS,
    ) -> None:
        self._queue = queue
        self._finder = finder
        self._routes = routes
        self._policy = policy
        self._reporter = reporter
        self._attempter = Attempter(queue, connect, clock=clock, chance=chance, tell=tell)
        self._connections = connections
        self._lanes: dict[object, Lane[Worker]] = {}
        self._starved: deque[Lane[Worker]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._resting: dict[Worker, Lane[Worker]] = {}
        """Idle workers, the one idle longest first."""
        self._idle = asyncio.Event()
        self._stopping = False
        self._group: asyncio.TaskGroup
        self._sources: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """Workers at this moment, each with at most one connection."""
        return len(self._workers)

    @property
    def lanes(self) -> int:
        """Lanes with something to do or somebody at work."""
        return len(self._lanes)

    def reload(self, routes: RouteTable, policy: DestinationPolicy) -> None:
        """Take a new table and policy; lanes at work keep theirs until they are done."""
        self._routes = routes
        self._policy = policy

    async def run(self) -> None:
        """Deliver until `drain`."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._sources = [
                    self._group.create_task(self._claim(), name="claim"),
                    self._group.create_task(self._reporter.run(), name="report"),
                ]
        finally:
            self._stopping = True

    async def drain(self, grace: float) -> None:
        """Stop claiming, let transactions under way end within `grace` seconds, then give up on them."""
        self._stopping = True
        for task in self._sources:
            task.cancel()
        for lane in self._lanes.values():
            lane.ready.clear()
            for worker in lane.idle:
                _wake(worker, None)
            lane.idle.clear()
        try:
            async with asyncio.timeout(grace):
                while self._workers:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            for task in self._workers:
                task.cancel()

    async def _claim(self) -> None:
        while True:
            for delivery in await self._queue.claim(CLAIMS):
                lane = self._lane(delivery.domain)
                if lane.offer(delivery, _wake):
                    self._start(lane)
            # Claims that are ready come without waiting; give workers and listeners their turn.
            await asyncio.sleep(0)

    def _lane(self, domain: bytes) -> Lane[Worker]:
        """Return the lane a domain's mail goes through."""
        name = to_alabel(domain)
        route = self._routes.lookup(name)
        key: object = name if route is None or route.via is None else route.via
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, self._policy, self._find(key, name))
        return lane

    def _find(self, key: object, name: str) -> Find:
        finder = self._finder
        route = self._routes.lookup(name)
        if route is None or route.via is None:
            return lambda: finder.by_mx(name)
        via = route.via
        return lambda: finder.by_route(via)

    def _start(self, lane: Lane[Worker]) -> None:
        """Start a worker for a lane, or remember that it wants one and let an idle one of another lane go."""
        if len(self._workers) >= self._connections:
            if lane not in self._starved:
                self._starved.append(lane)
            any(_retire(other, worker) for worker, other in self._resting.items())
            return
        lane.workers += 1
        task = self._group.create_task(self._work(lane))
        self._workers.add(task)
        task.add_done_callback(self._gone)

    async def _work(self, lane: Lane[Worker]) -> None:
        """Take deliveries of a lane until there has been none for a while."""
        slot = Slot()
        try:
            while not self._stopping and (claim := await self._next(lane)) is not None:
                await self._attempter.run(claim, lane.find, lane.policy, slot)
        finally:
            lane.workers -= 1
            self._leave(lane)
            await slot.close()

    def _gone(self, worker: asyncio.Task[None]) -> None:
        """Count a worker out; its connection is for the lane that has waited longest."""
        self._workers.discard(worker)
        self._idle.set()
        while self._starved and not self._stopping and len(self._workers) < self._connections:
            lane = self._starved.popleft()
            if lane.wants_worker():
                self._start(lane)

    async def _next(self, lane: Lane[Worker]) -> Delivery | None:
        """Return the next delivery, None if there was none for the policy's idle time."""
        if lane.ready:
            return lane.ready.popleft()
        if self._starved:
            # Another lane has waited for a connection: an idle one is a luxury now.
            return None
        loop = asyncio.get_running_loop()
        worker: Worker = loop.create_future()
        lane.idle.append(worker)
        self._resting[worker] = lane
        timer = loop.call_later(lane.policy.idle, _retire, lane, worker)
        try:
            return await worker
        finally:
            timer.cancel()
            del self._resting[worker]

    def _leave(self, lane: Lane[Worker]) -> None:
        """Forget a lane nobody needs; one that got something while the worker was leaving goes on."""
        if not self._stopping and lane.wants_worker():
            self._start(lane)
        elif lane.empty:
            self._lanes.pop(lane.key, None)


def _wake(worker: Worker, claim: Delivery | None) -> None:
    worker.set_result(claim)


def _retire(lane: Lane[Worker], worker: Worker) -> bool:
    """Let a worker go if it is idle. It leaves the lane in the same turn: nobody can hand it a delivery."""
    if worker not in lane.idle:
        return False
    lane.idle.remove(worker)
    worker.set_result(None)
    return True
