"""The sorter: brings what was claimed to its lane, and asks for the way of what has none yet.

Deliveries of one domain (and sender, where senders make a difference) wait together for one
answer. What is found holds for a while and is asked again beside the flow, so that mail
follows its exchangers, also what was begun, if its domains stay together; what has no way at
all is settled. A reload lets everything that waits find its way anew.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Final

from backstamp.clock import Clock
from backstamp.delivery.lane import Job, Lane, Way
from backstamp.delivery.router import Bound, Router
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttles import Throttles
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify, route
from backstamp.policy.retry import RetryPolicy
from backstamp.queue.port import DamagedError, Delivery, Load, Outlet

QUESTIONS: Final = 100
"""Questions to DNS at a time."""

GIVING_UP: Final = 8
"""Deliveries without a way that are settled at a time."""

BOUND: Final = 20_000
"""Questions whose answers are kept."""

AnyLane = Lane[Any]


class Sorter:
    """Brings deliveries to lanes. `group` is set before anything is sorted."""

    def __init__(
        self,
        queue: Outlet,
        router: Router,
        throttles: Throttles,
        *,
        clock: Clock,
        tell: Teller,
        kick: Callable[[AnyLane], None],
        settle: Callable[[Job, Outcome, RetryPolicy], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """Make one; `kick` is called for a lane in which something waits, `settle` for what has no way."""
        self._queue = queue
        self.router = router
        self._throttles = throttles
        self._clock = clock
        self._tell = tell
        self._kick = kick
        self._settle = settle
        self._spawn = spawn
        self.lanes: dict[Hashable, AnyLane] = {}
        self.asked: dict[object, list[Delivery]] = {}
        """Who waits for an answer, by question."""
        self.nowhere: deque[tuple[Delivery, Bound]] = deque()
        """Who has no way."""
        self.stopping = False
        self.group: asyncio.TaskGroup
        self._bounds: dict[object, Bound] = {}
        self._questions: deque[tuple[object, bytes, str]] = deque()
        self._askers = 0
        self._givers = 0

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopping = True
        self.nowhere.clear()
        self._questions.clear()

    def forget(self) -> None:
        """Believe no answer any more: there are new tables."""
        self._bounds.clear()

    def leave(self, lane: AnyLane) -> None:
        """Forget a lane nobody needs."""
        if self.lanes.pop(lane.key, None) is not None:
            for throttle in lane.throttles:
                throttle.part()

    # ---- to the lanes ----

    async def sort(self, claims: Sequence[Delivery]) -> None:
        """Bring deliveries to their lanes, or ask for the way of those for which it is not known."""
        personal = self.router.tables.personal
        lanes: dict[AnyLane, None] = {}
        now = self._clock.monotonic()
        for claim in claims:
            sender = await self._sender(claim) if personal else ""
            if sender is None:
                continue
            question: object = (claim.domain, sender) if personal else claim.domain
            bound = self._bounds.get(question)
            if bound is None or bound.useless(now):
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

    # ---- questions ----

    def _ask(self, question: object, claim: Delivery, sender: str) -> None:
        """Find the way for a question; whoever asks meanwhile waits for the same answer."""
        waiting = self.asked.get(question)
        if waiting is not None:
            waiting.append(claim)
            return
        self.asked[question] = [claim]
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
            self.group.create_task(self._find_all(), name="find")

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
        for claim in self.asked.pop(question, ()):
            if (lane := self._join(bound, claim, question)) is not None:
                lanes[lane] = None
        for lane in lanes:
            self._kick(lane)

    def _join(
        self, bound: Bound, claim: Delivery, question: object, priority: int | None = None
    ) -> AnyLane | None:
        """Put a delivery into its lane, or among those that have none; return the lane.

        It has the priority of its way, if it has none of its own, or the one it had before it moved.
        """
        if self.stopping:
            return None
        if bound.way is None:
            self.nowhere.append((claim, bound))
            if self._givers < GIVING_UP:
                self._givers += 1
                self._spawn(self._give_up())
            return None
        key, way = bound.lane(claim)
        lane = self._lane(key, bound, way)
        _note(lane, claim.domain, question, bound)
        lane.offer(claim, bound.priority if priority is None else priority)
        return lane

    def _lane(self, key: Hashable, bound: Bound, way: Way) -> AnyLane:
        """Return the lane of a way, which goes by what holds for it now."""
        assert bound.way is not None
        lane = self.lanes.get(key)
        if lane is None:
            lane = self._enter(Lane(key, way, self._throttles.of(bound, way)))
        elif lane.origin is not bound.way:
            lane.adopt(way, bound.way)
            for throttle in self._throttles.of(bound, way):
                throttle.patience = max(throttle.patience, way.policy.idle)
        return lane

    def _enter(self, lane: AnyLane) -> AnyLane:
        """Return the lane in use that has this one's key: this one, if there is none."""
        known = self.lanes.get(lane.key)
        if known is not None:
            return known
        self.lanes[lane.key] = lane
        for throttle in lane.throttles:
            throttle.join(lane.way.policy.idle)
        return lane

    async def _give_up(self) -> None:
        """Settle those for whom there is no way."""
        try:
            while self.nowhere and not self.stopping:
                claim, bound = self.nowhere.popleft()
                assert bound.outcome is not None and bound.retry is not None
                await self._settle(Job([claim]), bound.outcome, bound.retry.retry)
        finally:
            self._givers -= 1

    # ---- what moves ----

    async def here(self, job: Job, lane: AnyLane) -> bool:
        """Tell whether a job still belongs here; what moved to other exchangers goes to its lane."""
        if job.load is not None:
            return await self._follow(job, job.load, lane)
        gone = []
        for claim in job.claims:
            question = lane.questions.get(claim.domain, claim.domain)
            bound = await self._holds(question, claim.domain)
            if bound.way is None or bound.lane(claim)[0] != lane.key:
                gone.append((claim, bound, question))
        for claim, bound, question in gone:
            job.claims.remove(claim)
            # Another sender may have asked that question: the priority is the one its turn had.
            if (other := self._join(bound, claim, question, job.priority)) is not None:
                self._kick(other)
        return bool(job.claims)

    async def _holds(self, question: object, domain: bytes, *, begun: bool = False) -> Bound:
        """Return what holds for a question now; what was found a while ago is asked again.

        For what was begun somewhere no way is an answer too, until there is another.
        """
        now = self._clock.monotonic()
        bound = self._bounds.get(question)
        if bound is not None and bound.until > now:
            return bound
        sender = question[1] if isinstance(question, tuple) else ""
        if bound is None or (bound.useless(now) and not (begun and bound.way is None)):
            await self._find(question, domain, sender)
            return self._bounds[question]
        if question not in self.asked:
            # It was so a moment ago: nobody waits for the answer that it still is.
            self.asked[question] = []
            self._look_up(question, domain, sender)
        return bound

    async def _follow(self, job: Job, load: Load, lane: AnyLane) -> bool:
        """Find the way of a job that was begun anew; tell whether it stays in its lane.

        Whom no transaction has yet goes; transactions under way end where they were begun.
        """
        if not lane.stale and job.until > self._clock.monotonic():
            return True
        sender = route.sender_name(load.sender)
        personal = self.router.tables.personal
        found = {}
        for domain in {claim.domain: None for claim in job.claims}:
            question: object = (domain, sender) if personal else domain
            found[question] = domain, await self._holds(question, domain, begun=True)
        job.until = min(bound.until for _, bound in found.values())
        ways = {}
        for _, bound in found.values():
            key, way = (None, None) if bound.way is None else bound.lane(job.claims[0])
            ways[key] = bound, way
        if len(ways) != 1 or None in ways:
            # Its domains part, or have no way any more: it ends where it was begun.
            return True
        [(key, (bound, way))] = ways.items()
        assert way is not None
        other = self._lane(key, bound, way)
        for question, (domain, bound) in found.items():
            _note(other, domain, question, bound)
        own = job.claims[0].flow.priority
        job.priority = bound.priority if own is None else own
        if other is lane:
            return True
        other.back(job)
        self._kick(other)
        return False

    async def again(self, moved: Sequence[Delivery], begun: Sequence[tuple[Job, AnyLane]]) -> None:
        """Bring what waited at a reload to its lanes. A mailing need not have its next turn for that.

        By the old tables that turn may be far away: a rate, a pause.
        """
        await self.sort(moved)
        for job, lane in begun:
            assert job.load is not None
            if await self._follow(job, job.load, lane):
                home = self._enter(lane)
                home.back(job)
                self._kick(home)


def _note(lane: AnyLane, domain: bytes, question: object, bound: Bound) -> None:
    """Let a lane know what was asked for a domain of it, where the answer may change."""
    if bound.moves:
        if len(lane.questions) >= BOUND:
            lane.questions.clear()
        lane.questions[domain] = question
