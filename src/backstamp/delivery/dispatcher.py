"""The dispatcher: claims what is due, finds its lane, and runs the lanes' workers.

A claimed delivery costs a place in its lane and nothing else, so everything that is due is
claimed, and a slow lane holds up nobody. A worker is a task with a permit for one
connection; it takes what has its turn until nothing has. Permits, rates and pauses are the
throttles'; what waits for a moment has a timer, what waits for a permit gets it in turn.
Shutdown runs against the flow: stop claiming, let transactions end within a grace, cancel.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final

from backstamp.clock import Clock
from backstamp.delivery import hosts
from backstamp.delivery.attempt import Attempter
from backstamp.delivery.candidates import Finder
from backstamp.delivery.feedback import Feedback
from backstamp.delivery.history import History
from backstamp.delivery.idle import IdleWorkers, Worker
from backstamp.delivery.lane import Job, Lane
from backstamp.delivery.looking import Books
from backstamp.delivery.opening import Opener, Slot
from backstamp.delivery.outside import Net, Resolver
from backstamp.delivery.permits import NEVER, Permits
from backstamp.delivery.rates import Rates
from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Router, Tables
from backstamp.delivery.sorter import Sorter
from backstamp.delivery.suppressed import Suppression
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Learned
from backstamp.delivery.throttles import Throttles
from backstamp.delivery.tries import Tries
from backstamp.mail.outcome import Outcome
from backstamp.net.timer import Timer
from backstamp.policy import classify
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.queue.port import Delivery, Outlet

CLAIMS: Final = 256
"""Deliveries claimed in one go: bounds how long the loop is kept from everything else."""

CONNECTIONS: Final = 2000
"""Connections of all lanes together: twice what the sound ones need, for those that hosts keep waiting."""

TURNS: Final = 20
"""Messages a worker sends before it makes room for a lane that waits for its permit."""

AnyLane = Lane[Worker]


class Dispatcher:
    """Runs delivery for one partition."""

    def __init__(
        self,
        queue: Outlet,
        net: Net,
        resolver: Resolver,
        *,
        tables: Tables,
        reporter: Reporter,
        clock: Clock,
        chance: Callable[[], float],
        tell: Teller,
        hostname: str,
        own_names: frozenset[str] = frozenset(),
        own_addresses: frozenset[str] = frozenset(),
        connections: int = CONNECTIONS,
        suppression: Suppression | None = None,
        learned: Iterable[Learned] = (),
        taught: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a dispatcher; `taught` is called when `learned` has something new."""
        self._queue = queue
        self._clock = clock
        self._reporter = reporter
        self._tell = tell
        finder = Finder(resolver, own_names=own_names, own_addresses=own_addresses, chance=chance)
        self.history = History()
        self.feedback = Feedback(tables.adaptations, clock, tell, taught)
        self.opener = Opener(
            net,
            hostname=hostname,
            clock=clock,
            tell=tell,
            feedback=self.feedback,
            own_names=own_names,
            freed=self._serve,
        )
        self._attempter = Attempter(
            queue,
            self.opener,
            clock=clock,
            chance=chance,
            tell=tell,
            feedback=self.feedback,
            reporter=reporter,
            history=self.history,
            suppression=suppression,
            kick=self._kick,
            wanted=lambda lane: self._permits.wanted(lane, clock.monotonic(), opening=True),
        )
        self._throttles = Throttles(connections, learned, clock)
        self._sorter = Sorter(
            queue,
            Router(tables, resolver, finder),
            self._throttles,
            clock=clock,
            tell=tell,
            kick=self._kick,
            settle=self._attempter.give_up,
            spawn=self._spawn,
        )
        self._permits = Permits()
        self._rates = Rates()
        self._timers: dict[AnyLane, Timer] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._slots: set[Slot] = set()
        self._resting = IdleWorkers()
        self._idle = asyncio.Event()
        self._stopping = False
        self._group: asyncio.TaskGroup
        self._loop: asyncio.AbstractEventLoop
        self._sources: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """Connections on the way or open."""
        return self._throttles.all.held

    @property
    def lanes(self) -> int:
        """Lanes with something to do or somebody at work."""
        return len(self._sorter.lanes)

    def books(self) -> Books:
        """Return what is where now, for whoever looks: nothing in it is to be changed."""
        return Books(
            self._sorter.lanes.values(),
            self._slots,
            self._throttles.known,
            self._throttles.remembered,
            self._sorter.asked,
            self._sorter.nowhere,
            self._permits,
            self._rates,
            self.opener,
            stopping=self._stopping,
        )

    @property
    def router(self) -> Router:
        """What finds ways."""
        return self._sorter.router

    def learned(self) -> list[Learned]:
        """Return what destinations taught and is to be remembered over a restart."""
        return self._throttles.learned()

    def reload(self, tables: Tables, connections: int, own_addresses: frozenset[str] | None = None) -> None:
        """Take new tables: what waits finds its way anew, transactions under way end as they began.

        `own_addresses` None: they are as they were.
        """
        sorter = self._sorter
        sorter.router.tables = tables
        if own_addresses is not None:
            sorter.router.finder.own_addresses = own_addresses
        sorter.forget()
        self._throttles.resize(connections)
        self.feedback.adaptations = tables.adaptations
        moved: list[Delivery] = []
        begun: list[tuple[Job, AnyLane]] = []
        for lane in [*sorter.lanes.values()]:
            moved += lane.leave()
            begun += [(job, lane) for job in lane.begun()]
            lane.stale = True
            for throttle in lane.throttles:
                # Who comes back says anew how long its sessions wait.
                throttle.patience = 0.0
            self._leave(lane)
        # Their sessions were opened as the old tables say, and may be some too many now.
        self._resting.retire_all()
        if moved or begun:
            self._group.create_task(sorter.again(moved, begun), name="reload")

    async def run(self) -> None:
        """Deliver until `drain`."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._group:
                self._sorter.group = self._group
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
        for timer in self._timers.values():
            timer.cancel()
        self._sorter.stop()
        for lane in self._sorter.lanes.values():
            lane.leave()
        self._resting.retire_all()
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
            await self._sorter.sort(await self._queue.claim(CLAIMS))
            # Claims that are ready come without waiting; give workers and listeners their turn.
            await asyncio.sleep(0)

    # ---- workers ----

    def _kick(self, lane: AnyLane) -> None:
        """Let as many workers come as have something to take, now or when the lane's rates allow."""
        now = self._clock.monotonic()
        while (lane.wants_idle or lane.wants_worker) and not self._stopping:
            if lane.idle:
                at = self._goes(lane, now)
                if at > now:
                    self._later(lane, at)
                    return
                lane.wake().set_result(True)
            elif not self._start(lane, now):
                return

    def _goes(self, lane: AnyLane, now: float, *, called: bool = False) -> float:
        """Return when a lane with a session may send: `now`, if it has its turn or was `called` for it."""
        rates = self._rates
        while (at := lane.may_send(now)) <= now and (first := None if called else rates.before(lane)):
            rates.leave(first)
            if first.wants_idle and first.may_send(now) <= now:
                first.wake().set_result(True)
        if at > now:
            rates.stand(lane, now)
        else:
            rates.leave(lane)
        return at

    def _start(self, lane: AnyLane, now: float) -> bool:
        """Start a worker for a lane; if there is no permit, see to it that it is looked at when there is."""
        if (place := self._permits.waits(lane)) is not None:
            # Its time may have come, or that of those before it.
            self._call(self._permits.called(place, now))
            return False
        at, throttle = self._permits.ask(lane, now)
        if throttle is None:
            lane.workers += 1
            lane.call()
            self._spawn(self._work(lane))
            return True
        if at < NEVER:
            self._later(lane, at)
        if throttle.held >= throttle.window.limit(now):
            self._resting.make_room(throttle)
        return False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._workers.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._idle.set()

    def _later(self, lane: AnyLane, at: float) -> None:
        """Look at a lane again at a monotonic time."""
        timer = self._timers.get(lane)
        when = self._loop.time() + max(0.0, at - self._clock.monotonic())
        if timer is not None:
            if timer.when <= when:
                return
            timer.cancel()
        self._timers[lane] = Timer(self._loop, when, self._due, lane)

    def _due(self, lane: AnyLane) -> None:
        del self._timers[lane]
        self._kick(lane)
        if (place := self._permits.waits(lane)) is not None:
            # It may want no connection any more: then those behind it are called.
            self._call(self._permits.called(place, self._clock.monotonic()))

    async def _work(self, lane: AnyLane) -> None:
        """Take what has its turn in a lane until there has been nothing for a while."""
        slot = Slot(lane)
        self._slots.add(slot)
        slot.coming = True
        lane.come()
        try:
            while await self._next(lane, slot):
                if not _ready(slot, lane):
                    outcome = await self._open(lane, slot)
                    if slot.session is None:
                        now = self._clock.monotonic()
                        if lane.workers > 1 or not lane.held(now) or lane.starved(now):
                            # Others have sessions, or try for one, or hold what the host lets have:
                            # nobody else is called to find that out. Or it is not the host: mail waits.
                            self._permits.forget(lane)
                            break
                        slot.arrived()
                        await self._down(lane, outcome)
                        continue
                    now = self._clock.monotonic()
                    if self._goes(lane, now) > now:
                        # Meanwhile another may have been told of a pause, or had the turn.
                        continue
                slot.arrived()
                job = lane.take()
                if job is None:
                    continue
                await self._turn(job, lane, slot)
                self._serve(lane)
                if lane.wants_worker and self._permits.waits(lane) is None:
                    self._kick(lane)
        except asyncio.CancelledError:
            # Nobody but the end of everything cancels a worker.
            self._stopping = self._sorter.stopping = True
            raise
        finally:
            slot.arrived()
            slot.unbook()
            await slot.close()
            self._slots.discard(slot)
            lane.workers -= 1
            self._permits.give_back(lane)
            self._serve(lane)
            self._leave(lane)

    async def _turn(self, job: Job, lane: AnyLane, slot: Slot) -> None:
        """Let a job have its turn, or go to the lane where it belongs by now."""
        slot.book(self._clock.monotonic())
        try:
            moves = lane.stale or lane.questions
            if not moves or await self._sorter.here(job, lane):
                await self._attempter.run(job, lane, slot)
        except Exception as error:  # a bug in finding its way costs nobody else anything
            self._tell.alarm(job.queue_id, f"a turn broke: {error!r}", "tried again on schedule")
            self._attempter.let_go(job, lane.way.policy.retry)
        finally:
            slot.unbook()

    async def _open(self, lane: AnyLane, slot: Slot) -> Outcome | None:
        """Open a session before anybody's mail is looked at; return what kept it from being opened."""
        try:
            return await self.opener.open(lane, slot, Tries())
        except Exception as error:  # a bug in one lane costs no other anything
            await slot.close()
            self._tell.alarm(b"\0" * 16, f"opening a session broke: {error!r}", "tried again on schedule")
            return classify.broken()

    async def _down(self, lane: AnyLane, outcome: Outcome | None) -> None:
        """No host of a lane gives a session: settle whose turn it is."""
        if outcome is None:
            outcome = classify.dns(DnsFault(DnsProblem.NO_ADDRESS, lane.way.name))
        lane.last, lane.since = outcome, self._clock.wall()
        job = lane.take()
        if job is not None:
            await self._attempter.give_up(job, outcome, lane.way.policy.retry)

    async def _next(self, lane: AnyLane, slot: Slot) -> bool:
        """Wait until there is something to do for a worker; False: it is to go."""
        called = False
        while not self._stopping:
            now = self._clock.monotonic()
            if not lane.held(now):
                return False
            if self._permits.wanted(lane, now) and (not lane.turns or slot.turns >= TURNS):
                # An idle connection is a luxury where another lane waits for one, and a busy one is shared.
                return False
            opening = not _ready(slot, lane)
            if opening and slot.turns and self._permits.wanted(lane, now, opening=True):
                # The next one that may be opened is another's; this lane waits for one behind it.
                self._kick(lane)
                return False
            at, patience = now, lane.way.policy.idle
            if lane.turns:
                at = self._goes(lane, now, called=called)
                if at > now and (place := self._rates.lines.at(lane)) is not None:
                    # Lanes that share a rate wait for it alike: else whoever waits longest has all of it.
                    patience = max(patience, place.patience)
                # A session is opened before the rate lets a message go: else others that have one always go.
                ahead = opening and at - now <= patience and not lane.paused(now)
                if at <= now or ahead:
                    # Who waits for the rate may begin too: it comes and goes before anybody has opened one.
                    self._serve(lane)
                    return True
                self._later(lane, at)
            if lane.stale or slot.session is None or at - now > patience:
                return False
            slot.arrived()
            called = await self._resting.rest(lane, patience)
            if not called:
                return False
            slot.coming = True
        return False

    def _serve(self, lane: AnyLane) -> None:
        """Let lanes that wait for a permit have it, now that something changed at these throttles."""
        if self._stopping or not self._permits.waiting:
            return
        self._call(self._permits.served(lane, self._clock.monotonic()))

    def _call(self, lanes: Iterator[AnyLane]) -> None:
        """Let lanes ask that stood in line."""
        for lane in lanes:
            self._kick(lane)

    def _leave(self, lane: AnyLane) -> None:
        """Forget a lane nobody needs; one in which something waits goes on, now or in a while."""
        if lane.turns and not self._stopping:
            if lane.workers and not lane.idle:
                self._later(lane, self._clock.monotonic() + hosts.pause(lane.way.policy.retry.schedule[0]))
            else:
                self._kick(lane)
        elif lane.empty:
            place = self._permits.waits(lane)
            self._permits.forget(lane)
            self._rates.leave(lane)
            if (timer := self._timers.pop(lane, None)) is not None:
                timer.cancel()
            self._sorter.leave(lane)
            if place is not None:
                self._call(self._permits.called(place, self._clock.monotonic()))


def _ready(slot: Slot, lane: AnyLane) -> bool:
    """Tell whether a slot's session may take another message."""
    session = slot.session
    return session is not None and session.usable and slot.sent < lane.messages
