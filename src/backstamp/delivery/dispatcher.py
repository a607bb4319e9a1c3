"""The dispatcher: claims what is due, finds its lane, and runs the lanes' workers.

A claimed delivery costs a place in its lane and nothing else, so everything that is due is
claimed, and a slow lane holds up nobody. A worker is a task with a permit for one
connection; it takes what has its turn until nothing has. Permits, rates and pauses are the
throttles'; what waits for a moment has a timer, what waits for a permit gets it in turn.
Shutdown runs against the flow: stop claiming, let transactions end within a grace, cancel.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any, Final

from backstamp.clock import Clock
from backstamp.delivery import hosts
from backstamp.delivery.attempt import Attempter
from backstamp.delivery.candidates import Finder
from backstamp.delivery.feedback import Feedback
from backstamp.delivery.history import History
from backstamp.delivery.lane import Job, Lane, Way
from backstamp.delivery.looking import Books
from backstamp.delivery.opening import Opener, Slot
from backstamp.delivery.outside import Net, Resolver
from backstamp.delivery.permits import NEVER, Permits
from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Bound, Router, Tables
from backstamp.delivery.suppressed import Suppression
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Learned, Throttle
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify, route
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.queue.port import DamagedError, Delivery, Load, Outlet

CLAIMS: Final = 256
"""Deliveries claimed in one go: bounds how long the loop is kept from everything else."""

CONNECTIONS: Final = 2000
"""Connections of all lanes together: twice what the sound ones need, for those that hosts keep waiting."""

QUESTIONS: Final = 100
"""Questions to DNS at a time."""

GIVING_UP: Final = 8
"""Deliveries without a way that are settled at a time."""

TURNS: Final = 20
"""Messages a worker sends before it makes room for a lane that waits for its permit."""

BOUND: Final = 20_000
"""Questions whose answers, and throttles whose lessons, are kept."""

Worker = asyncio.Future[bool]
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
        self.router = Router(tables, resolver, finder)
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
        )
        self._all = Throttle("all", DestinationPolicy(connections=connections), learns=False)
        self._all.window.size = connections
        self._throttles: OrderedDict[str, Throttle] = OrderedDict()
        self._remembered = {one.key: one for one in learned}
        self._lanes: dict[Hashable, AnyLane] = {}
        self._permits = Permits()
        self._timers: dict[AnyLane, asyncio.TimerHandle] = {}
        self._bounds: dict[object, Bound] = {}
        self._asked: dict[object, list[Delivery]] = {}
        self._questions: deque[tuple[object, bytes, str]] = deque()
        self._askers = 0
        self._nowhere: deque[tuple[Delivery, Bound]] = deque()
        self._givers = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._slots: set[Slot] = set()
        self._resting: dict[Worker, AnyLane] = {}
        """Idle workers, the one idle longest first."""
        self._idle = asyncio.Event()
        self._stopping = False
        self._group: asyncio.TaskGroup
        self._loop: asyncio.AbstractEventLoop
        self._sources: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """Connections on the way or open."""
        return self._all.held

    @property
    def lanes(self) -> int:
        """Lanes with something to do or somebody at work."""
        return len(self._lanes)

    def books(self) -> Books:
        """Return what is where now, for whoever looks: nothing in it is to be changed."""
        return Books(
            self._lanes.values(),
            self._slots,
            self._throttles,
            self._remembered,
            self._asked,
            self._nowhere,
            self._permits,
            self.opener,
            stopping=self._stopping,
        )

    def learned(self) -> list[Learned]:
        """Return what destinations taught and is to be remembered over a restart."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        found = (throttle.learned(now, wall) for throttle in self._throttles.values())
        known = {one.key: one for one in found if one is not None}
        unused = {key: one for key, one in self._remembered.items() if key not in self._throttles}
        return [*unused.values(), *known.values()]

    def reload(self, tables: Tables, connections: int) -> None:
        """Take new tables: what waits finds its way anew, transactions under way end as they began."""
        self.router.tables = tables
        self._all.window.most = connections
        self._all.window.size = connections
        self.feedback.adaptations = tables.adaptations
        self._bounds.clear()
        moved: list[Delivery] = []
        begun: list[tuple[Job, AnyLane]] = []
        for lane in [*self._lanes.values()]:
            moved += lane.leave()
            begun += [(job, lane) for job in lane.begun()]
            lane.stale = True
            self._leave(lane)
        for worker in [*self._resting]:
            # Its session was opened as the old tables say, and may be one too many now.
            self._retire(worker)
        if moved or begun:
            self._group.create_task(self._again(moved, begun), name="reload")

    async def run(self) -> None:
        """Deliver until `drain`."""
        self._loop = asyncio.get_running_loop()
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
        for timer in self._timers.values():
            timer.cancel()
        self._nowhere.clear()
        self._questions.clear()
        for lane in self._lanes.values():
            lane.leave()
        for worker in list(self._resting):
            self._retire(worker)
        try:
            async with asyncio.timeout(grace):
                while self._workers:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            for task in self._workers:
                task.cancel()

    # ---- from the queue to the lanes ----

    async def _claim(self) -> None:
        while True:
            await self._placed(await self._queue.claim(CLAIMS))
            # Claims that are ready come without waiting; give workers and listeners their turn.
            await asyncio.sleep(0)

    async def _placed(self, claims: Sequence[Delivery]) -> None:
        """Bring deliveries to their lanes, or ask for the way of those for which it is not known."""
        personal = self.router.tables.personal
        lanes: dict[AnyLane, None] = {}
        for claim in claims:
            sender = await self._sender(claim) if personal else ""
            if sender is None:
                continue
            question: object = (claim.domain, sender) if personal else claim.domain
            bound = self._bounds.get(question)
            if bound is None or bound.useless(self._clock.monotonic()):
                self._ask(question, claim, sender)
            elif (lane := self._join(bound, claim, question)) is not None:
                lanes[lane] = None
        for lane in lanes:
            self._kick(lane)

    async def _sender(self, claim: Delivery) -> str | None:
        """Return the sender of a message, as routes name it; None where the claim is over."""
        try:
            load = await self._queue.load([claim], content=False)
        except DamagedError:
            return None
        except Exception as error:  # a disk that cannot be read now may be later
            self._tell.alarm(claim.queue_id, f"a message could not be read: {error!r}", "tried again")
            self._queue.give_back(claim, self._clock.wall() + 60)
            return None
        self._queue.rest(claim)
        return route.sender_name(load.sender)

    def _ask(self, question: object, claim: Delivery, sender: str) -> None:
        """Find the way for a question; whoever asks meanwhile waits for the same answer."""
        waiting = self._asked.get(question)
        if waiting is not None:
            waiting.append(claim)
            return
        self._asked[question] = [claim]
        asked = self.router.question(claim.domain, sender)
        bound = self.router.by_route(asked)
        if bound is not None:
            self._answered(question, bound)
        else:
            self._look_up(question, claim.domain, sender)

    def _look_up(self, question: object, domain: bytes, sender: str) -> None:
        """Ask DNS when it is this question's turn."""
        self._questions.append((question, domain, sender))
        if self._askers < QUESTIONS:
            self._askers += 1
            self._group.create_task(self._find_all(), name="find")

    async def _find_all(self) -> None:
        try:
            while self._questions:
                await self._find(*self._questions.popleft())
        finally:
            self._askers -= 1

    async def _find(self, question: object, domain: bytes, sender: str) -> None:
        tables = None
        # A reload meanwhile makes it an answer from tables that hold no more.
        while tables is not self.router.tables:
            tables = self.router.tables
            bound = await self._way(domain, sender)
        self._answered(question, bound)

    async def _way(self, domain: bytes, sender: str) -> Bound:
        now = self._clock.monotonic()
        try:
            asked = self.router.question(domain, sender)
            return self.router.by_route(asked) or await self.router.by_mx(asked, now)
        except Exception as error:  # a bug in finding one way costs nobody else anything
            self._tell.alarm(b"\0" * 16, f"finding a way broke: {error!r}", "tried again on schedule")
            return Bound(now, classify.broken(), self.router.tables.policies.default)

    def _answered(self, question: object, bound: Bound) -> None:
        if len(self._bounds) >= BOUND:
            self._bounds.clear()
        self._bounds[question] = bound
        lanes: dict[AnyLane, None] = {}
        for claim in self._asked.pop(question, ()):
            if (lane := self._join(bound, claim, question)) is not None:
                lanes[lane] = None
        for lane in lanes:
            self._kick(lane)

    def _join(self, bound: Bound, claim: Delivery, question: object) -> AnyLane | None:
        """Put a delivery into its lane, or among those that have none; return the lane."""
        if self._stopping:
            return None
        if bound.way is None:
            self._nowhere.append((claim, bound))
            if self._givers < GIVING_UP:
                self._givers += 1
                self._spawn(self._give_up())
            return None
        key, way = bound.lane(claim)
        lane = self._lane(key, bound, way)
        if bound.moves:
            if len(lane.questions) >= BOUND:
                lane.questions.clear()
            lane.questions[claim.domain] = question
        lane.offer(claim)
        return lane

    def _lane(self, key: Hashable, bound: Bound, way: Way) -> AnyLane:
        """Return the lane of a way, which goes by what holds for it now."""
        assert bound.way is not None
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._enter(Lane(key, way, self._limits(bound, way)))
        elif lane.origin is not bound.way:
            lane.adopt(way, bound.way)
            self._limits(bound, way)
        return lane

    def _enter(self, lane: AnyLane) -> AnyLane:
        """Return the lane in use that has this one's key: this one, if there is none."""
        known = self._lanes.get(lane.key)
        if known is not None:
            return known
        self._lanes[lane.key] = lane
        for throttle in lane.throttles:
            throttle.lanes += 1
        return lane

    def _limits(self, bound: Bound, way: Way) -> tuple[Throttle, ...]:
        """Return a lane's throttles, that of all last."""
        return (*(self._throttle(name, policy) for name, policy in bound.limits(way)), self._all)

    def _throttle(self, key: str, policy: DestinationPolicy) -> Throttle:
        throttle = self._throttles.get(key)
        if throttle is not None:
            throttle.adopt(policy)
            self._throttles.move_to_end(key)
            return throttle
        throttle = self._throttles[key] = Throttle(key, policy)
        if (known := self._remembered.pop(key, None)) is not None:
            throttle.recall(known, self._clock.monotonic(), self._clock.wall())
        for _ in range(min(2, len(self._throttles) - BOUND)):
            oldest = next(iter(self._throttles.values()))
            # Whatever keeps somebody back stays, whatever their number.
            if oldest.idle(self._clock.monotonic()):
                del self._throttles[oldest.key]
            else:
                self._throttles.move_to_end(oldest.key)
        return throttle

    async def _give_up(self) -> None:
        """Settle those for whom there is no way."""
        try:
            while self._nowhere and not self._stopping:
                claim, bound = self._nowhere.popleft()
                assert bound.outcome is not None and bound.retry is not None
                await self._attempter.give_up(Job([claim]), bound.outcome, bound.retry.retry)
        finally:
            self._givers -= 1

    # ---- workers ----

    def _kick(self, lane: AnyLane) -> None:
        """Let as many workers come as have something to take, now or when the lane's rates allow."""
        now = self._clock.monotonic()
        while (lane.wants_idle or lane.wants_worker) and not self._stopping:
            at = lane.may_send(now)
            if at > now:
                self._later(lane, at)
                return
            if lane.idle:
                lane.coming += 1
                lane.woken += 1
                lane.idle.pop().set_result(True)
            elif not self._start(lane, now):
                return

    def _start(self, lane: AnyLane, now: float) -> bool:
        """Start a worker for a lane; if there is no permit, see to it that it is looked at when there is."""
        if self._permits.waits(lane):
            return False
        at, throttle = self._permits.ask(lane, now)
        if throttle is None:
            lane.workers += 1
            lane.coming += 1
            self._spawn(self._work(lane))
            return True
        if at < NEVER:
            self._later(lane, at)
        else:
            self._make_room(throttle)
        return False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._workers.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._idle.set()

    def _make_room(self, throttle: Throttle) -> None:
        """Let the worker go that has been idle longest where others wait for a permit."""
        for worker, lane in self._resting.items():
            if throttle in lane.throttles and not lane.turns:
                self._retire(worker)
                return

    def _later(self, lane: AnyLane, at: float) -> None:
        """Look at a lane again at a monotonic time."""
        timer = self._timers.get(lane)
        loop = self._loop
        when = loop.time() + max(0.0, at - self._clock.monotonic())
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[lane] = loop.call_at(when, self._due, lane)

    def _due(self, lane: AnyLane) -> None:
        del self._timers[lane]
        self._kick(lane)

    async def _work(self, lane: AnyLane) -> None:
        """Take what has its turn in a lane until there has been nothing for a while."""
        slot = Slot(lane)
        self._slots.add(slot)
        slot.coming = True
        try:
            while await self._next(lane, slot):
                if not _ready(slot, lane):
                    outcome = await self._open(lane, slot)
                    if slot.session is None:
                        if lane.workers > 1 or not lane.held(self._clock.monotonic()):
                            # Others have sessions, or try for one, or hold what the host lets have:
                            # nobody else is called to find that out.
                            self._permits.forget(lane)
                            break
                        slot.arrived()
                        await self._down(lane, outcome)
                        continue
                    now = self._clock.monotonic()
                    if lane.may_send(now) > now:
                        # Meanwhile another may have been told of a pause, or had the turn.
                        continue
                slot.arrived()
                job = lane.take()
                if job is None:
                    continue
                await self._turn(job, lane, slot)
                self._serve(lane)
                if lane.wants_worker:
                    self._kick(lane)
        except asyncio.CancelledError:
            # Nobody but the end of everything cancels a worker.
            self._stopping = True
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
        slot.book()
        try:
            moves = lane.stale or (job.load is None and lane.questions)
            if not moves or await self._here(job, lane):
                await self._attempter.run(job, lane, slot)
        except Exception as error:  # a bug in finding its way costs nobody else anything
            self._tell.alarm(job.queue_id, f"a turn broke: {error!r}", "tried again on schedule")
            self._attempter.let_go(job, lane.way.policy.retry)
        finally:
            slot.unbook()

    async def _open(self, lane: AnyLane, slot: Slot) -> Outcome | None:
        """Open a session before anybody's mail is looked at; return what kept it from being opened."""
        try:
            return await self.opener.open(lane, slot, set())
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

    async def _here(self, job: Job, lane: AnyLane) -> bool:
        """Tell whether a job still belongs here; what moved to other exchangers goes to its lane."""
        if job.load is not None:
            return not lane.stale or await self._follow(job, job.load, lane)
        now = self._clock.monotonic()
        gone = []
        for claim in job.claims:
            question = lane.questions.get(claim.domain, claim.domain)
            bound = self._bounds.get(question)
            if bound is None or bound.until <= now:
                sender = question[1] if isinstance(question, tuple) else ""
                if bound is None or bound.useless(now):
                    await self._find(question, claim.domain, sender)
                    bound = self._bounds[question]
                elif question not in self._asked:
                    # It was so a moment ago: nobody waits for the answer that it still is.
                    self._asked[question] = []
                    self._look_up(question, claim.domain, sender)
            if bound.way is None or bound.lane(claim)[0] != lane.key:
                gone.append((claim, bound, question))
        for claim, bound, question in gone:
            job.claims.remove(claim)
            if (other := self._join(bound, claim, question)) is not None:
                self._kick(other)
        return bool(job.claims)

    async def _follow(self, job: Job, load: Load, lane: AnyLane) -> bool:
        """Find the way anew for a job begun under other tables; tell whether it stays in its lane."""
        sender = route.sender_name(load.sender)
        personal = self.router.tables.personal
        found = {}
        for domain in {claim.domain: None for claim in job.claims}:
            question: object = (domain, sender) if personal else domain
            bound = self._bounds.get(question)
            if bound is None or bound.useless(self._clock.monotonic()):
                await self._find(question, domain, sender if personal else "")
                bound = self._bounds[question]
            if bound.way is not None:
                key, way = bound.lane(job.claims[0])
                found[key] = bound, way
        if len(found) != 1:
            # Its domains part, or have no way any more: it ends where it was begun.
            return True
        [(key, (bound, way))] = found.items()
        other = self._lane(key, bound, way)
        if other is lane:
            return True
        other.back(job)
        self._kick(other)
        return False

    async def _again(self, moved: Sequence[Delivery], begun: Sequence[tuple[Job, AnyLane]]) -> None:
        """Bring what waited at a reload to its lanes. A mailing need not have its next turn for that.

        By the old tables that turn may be far away: a rate, a pause.
        """
        await self._placed(moved)
        for job, lane in begun:
            assert job.load is not None
            if await self._follow(job, job.load, lane):
                home = self._enter(lane)
                home.back(job)
                self._kick(home)

    async def _next(self, lane: AnyLane, slot: Slot) -> bool:
        """Wait until there is something to do for a worker; False: it is to go."""
        while not self._stopping:
            now = self._clock.monotonic()
            if not lane.held(now):
                return False
            if self._permits.wanted(lane) and (not lane.turns or slot.turns >= TURNS):
                # An idle connection is a luxury where another lane waits for one, and a busy one is shared.
                return False
            at = now
            if lane.turns:
                at = lane.may_send(now)
                if at <= now:
                    return True
                self._later(lane, at)
            if lane.stale or slot.session is None or at - now > lane.way.policy.idle:
                return False
            slot.arrived()
            if not await self._rest(lane):
                return False
            slot.coming = True
        return False

    async def _rest(self, lane: AnyLane) -> bool:
        """Wait for something to do; False if there was nothing for the policy's idle time."""
        loop = self._loop
        worker: Worker = loop.create_future()
        lane.idle.append(worker)
        self._resting[worker] = lane
        timer = loop.call_later(lane.way.policy.idle, self._retire, worker)
        try:
            return await worker
        finally:
            timer.cancel()
            del self._resting[worker]
            if worker.done() and not worker.cancelled() and worker.result():
                lane.woken -= 1

    def _retire(self, worker: Worker) -> None:
        """Let a worker go if it is idle. It leaves its lane in the same turn: nobody can wake it."""
        lane = self._resting.get(worker)
        if lane is not None and worker in lane.idle:
            lane.idle.remove(worker)
            worker.set_result(False)

    def _serve(self, lane: AnyLane) -> None:
        """Let lanes that wait for a permit have it, now that something changed at these throttles."""
        if self._stopping or not self._permits.waiting:
            return
        for other in self._permits.served(lane, self._clock.monotonic()):
            self._kick(other)

    def _leave(self, lane: AnyLane) -> None:
        """Forget a lane nobody needs; one in which something waits goes on, now or in a while."""
        if lane.turns and not self._stopping:
            if lane.workers and not lane.idle:
                self._later(lane, self._clock.monotonic() + hosts.pause(lane.way.policy.retry.schedule[0]))
            else:
                self._kick(lane)
        elif lane.empty:
            self._permits.forget(lane)
            if (timer := self._timers.pop(lane, None)) is not None:
                timer.cancel()
            if self._lanes.pop(lane.key, None) is not None:
                for throttle in lane.throttles:
                    throttle.lanes -= 1


def _ready(slot: Slot, lane: AnyLane) -> bool:
    """Tell whether a slot's session may take another message."""
    session = slot.session
    return session is not None and session.usable and slot.sent < lane.messages
