"""A lane: everything ready for one next hop, who of it goes next, and who is at work there. Pure.

A lane is a site (or smarthost), a source address and a TLS demand. Lanes pull: a worker that
is free takes a transaction's worth of a message, so that connections are reused and no lane
waits for another. Deliveries of one message that meet in a lane become one job. Workers are
the dispatcher's tasks; idle ones are woken last in, first out, so that the fewest
connections stay warm.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from typing import Generic, TypeVar

import msgspec

from backstamp.delivery.outside import Candidate, Source
from backstamp.delivery.throttle import Capacity, Throttle
from backstamp.delivery.turns import Place, Turns
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.route import Credentials
from backstamp.queue.port import Delivery, Load

W = TypeVar("W")

Find = Callable[[], AsyncIterator[tuple[Candidate, ...] | Outcome]]
"""Yields the hosts of a next hop in the order to try, each as its addresses, or why one cannot be tried."""


class Job:
    """One message in one lane: the deliveries of it that met there, and who is still to be sent to."""

    __slots__ = ("claims", "load", "out", "owed", "pending", "priority", "retry_at", "returns", "until")

    def __init__(self, claims: list[Delivery]) -> None:
        self.claims = claims
        self.load: Load | None = None
        self.pending: dict[int, Recipient] = {}
        """Recipients in no transaction yet, by ordinal."""
        self.priority = 0
        """That of its turns: a route's, where the mail has none of its own."""
        self.out = 0
        """Transactions under way."""
        self.retry_at: float | None = None
        """When the first of those who were deferred is tried again (seconds since the epoch)."""
        self.owed = 0.0
        """What its tenant has not paid for the last turn, since nothing more of it waited then."""
        self.returns = 0
        """How often somebody of it came back to the lane because a host failed, not the mail."""
        self.until = float("-inf")
        """Until when its lane need not be asked for again, once it was begun (monotonic seconds)."""

    @property
    def queue_id(self) -> bytes:
        """The message's id."""
        return self.claims[0].queue_id

    @property
    def arrival(self) -> int:
        """Microseconds since the epoch."""
        return self.claims[0].arrival

    @property
    def domain(self) -> bytes:
        """A domain of it: the first."""
        return self.claims[0].domain

    @property
    def attempts(self) -> int:
        """Attempts this process has given back."""
        return self.claims[0].attempts

    @property
    def count(self) -> int:
        """Recipients that may have to be sent to, at most."""
        return len(self.pending) if self.load is not None else sum(claim.count for claim in self.claims)


class Way(msgspec.Struct, frozen=True):
    """How mail of a lane goes: what holds for it, from where, and to whom it is spoken how."""

    name: str
    """The next hop and what sets the lane apart, for people."""
    policy: DestinationPolicy
    find: Find
    provider: str = ""
    rule: str = ""
    route: str = ""
    """What matched, empty where nothing did."""
    sources: tuple[Source, ...] = ()
    """At most one a family; none: the system chooses."""
    by_mx: bool = False
    """Its hosts were named by MX records, which nobody authenticated (no DNSSEC, no MTA-STS yet)."""
    implicit_tls: bool = False
    credentials: Credentials | None = None


class Lane(Generic[W]):
    """The mail of one next hop that is ready. `W` is how a worker is woken."""

    def __init__(self, key: object, way: Way, throttles: tuple[Throttle, ...]) -> None:
        self.key = key
        self.way = self.origin = way
        """How its mail goes, and what that was made from (`adopt`)."""
        self.stale = False
        """Whether there are new tables, and nobody asked them for this lane yet."""
        self.throttles = throttles
        """The provider's or the lane's own first, those that never learn last."""
        self.learners = tuple(throttle for throttle in throttles if throttle.learns)
        """The throttles that learn from how this lane's hosts do; only these have rates and pauses."""
        self._ended = 0
        """Messages of a connection after which a host said 421 last."""
        self.questions: dict[bytes, object] = {}
        """By domain: what was asked to find this lane, where the answer may change."""
        self.turns: Turns[Delivery | Job] = Turns()
        self.idle: list[W] = []
        self.workers = 0
        self.coming = 0
        """Workers that were called and have not taken anything yet."""
        self.woken = 0
        """Those of them that were idle and come at once, without opening anything first."""
        self.sessions = 0
        """Workers whose connection is open and answered."""
        self.last: Outcome | None = None
        """What was last heard of a host that failed."""
        self.since = 0.0
        """When it was, in seconds since the epoch."""
        self._joining: dict[tuple[Hashable, int], Job] = {}
        """By message and priority."""

    def adopt(self, way: Way, origin: Way) -> None:
        """Take another way with the same key: other policies, or the same again."""
        self.way, self.origin = way, origin
        self.stale = False

    @property
    def recipients(self) -> int:
        """Recipients of a transaction, at most."""
        most = self.way.policy.recipients_per_transaction
        taught = self.teaches.recipients
        return most if taught is None else min(most, taught.count)

    @property
    def messages(self) -> int:
        """Messages of a connection, at most."""
        most = self.way.policy.messages_per_connection
        taught = self.teaches.messages
        return most if taught is None else min(most, taught.count)

    def ended(self, taken: int, now: float, why: str) -> bool:
        """A host said 421 after so many messages of a connection; tell whether its limit was learned."""
        twice, self._ended = taken == self._ended, taken
        if not (twice and 0 < taken < self.messages):
            return False
        self.teaches.messages = Capacity(taken, why, now)
        return True

    # ---- mail ----

    def offer(self, claim: Delivery, priority: int = 0) -> None:
        """Take a delivery in; it joins what waits of its message. `priority`: if it has none of its own."""
        own = claim.flow.priority
        if own is not None:
            priority = own
        if claim.alone:
            self._add(claim, claim, priority, large=claim.count > self.recipients)
            return
        key = (claim.message, priority)
        job = self._joining.get(key)
        if job is not None:
            job.claims.append(claim)
            return
        job = self._joining[key] = Job([claim])
        # Whoever waits for it in other domains comes in the same turn of the loop, most likely.
        self._add(job, claim, priority, large=True)

    def back(self, job: Job) -> None:
        """Let a job that has more to send wait for its next turn."""
        # Whatever is left of it: a mailing's last transaction is no single message.
        claim = job.claims[0]
        self._add(job, claim, job.priority, large=True, owed=job.owed)
        job.owed = 0.0

    def _add(
        self, item: Delivery | Job, claim: Delivery, priority: int, *, large: bool, owed: float = 0.0
    ) -> None:
        self.turns.add(item, claim.flow.tenant, priority, large=large, owed=owed)

    def take(self) -> Job | None:
        """Return the job whose turn it is; others of its message make a new one from now on."""
        item = self.turns.take()
        if item is None:
            return None
        job = item if isinstance(item, Job) else Job([item])
        claim = job.claims[0]
        priority = job.priority = self.turns.priority
        if self.turns or item is job or claim.count > self.recipients:
            # A single message is alone here otherwise: there is nobody to be fair to.
            job.owed = self.turns.charge(claim.flow.tenant, priority, claim.size)
        if job.load is None and not claim.alone:
            self._joining.pop((claim.message, priority), None)
        return job

    def leave(self) -> list[Delivery]:
        """Take out everything that was not begun, and return it."""
        claims: list[Delivery] = []
        begun = []
        for item in self.turns.clear():
            if not isinstance(item, Job):
                claims.append(item)
            elif item.load is None:
                claims += item.claims
            else:
                begun.append(item)
        self._joining.clear()
        for job in begun:
            self.back(job)
        return claims

    def begun(self) -> list[Job]:
        """Take out the jobs that were begun; after `leave` nothing else waits."""
        return [item for item in self.turns.clear() if isinstance(item, Job)]

    def place(self, claim: Delivery) -> Place | None:
        """Return where the message of a delivery stands among those that wait here, None if it does not.

        It is looked for among all of its tenant: for people, not for every message.
        """

        def wanted(item: Delivery | Job) -> bool:
            return item is claim or (isinstance(item, Job) and any(one is claim for one in item.claims))

        return self.turns.place(claim.flow.tenant, wanted)

    # ---- workers ----

    def wake(self) -> W:
        """Return who was idle last, to be called for a message; it counts until it has `come`."""
        self.woken += 1
        self.call()
        return self.idle.pop()

    def call(self) -> None:
        """Count a worker that is called for a message, at the rates too, until it has `come`."""
        self.coming += 1
        for throttle in self.throttles:
            throttle.called += 1

    def come(self) -> None:
        """One that was called is there."""
        for throttle in self.throttles:
            throttle.called -= 1

    # ---- permits ----

    def may_connect(self, now: float) -> tuple[float, Throttle | None]:
        """Return from when on one more connection may be begun, and who says so if it is not now."""
        return _latest((throttle.may_connect(now), throttle) for throttle in self.throttles)

    def may_begin(self, now: float) -> tuple[float, Throttle | None]:
        """Return from when on a connection may be begun that has something to send, and who says so."""
        answers = [(throttle.may_connect(now), throttle) for throttle in self.throttles]
        answers += [(throttle.may_send(now), throttle) for throttle in self.learners if throttle.paced]
        return _latest(answers)

    def may_send(self, now: float) -> float:
        """Return from when on one more message may be sent: not later than `now` if at once."""
        at = now
        for throttle in self.learners:
            if throttle.paced or throttle.paused_until > at:
                at = max(at, throttle.may_send(now))
        return at

    def slowest(self, now: float) -> Throttle | None:
        """Return the throttle whose rate of messages keeps it off the longest."""
        return _latest((one.may_send(now), one) for one in self.learners)[1]

    def send(self, now: float) -> float:
        """Count a message that goes now if all rates let it; return when to ask again, `now` if it goes.

        Nothing is taken ahead: it would count at one throttle when it goes by another's leave, later.
        """
        at = now
        for throttle in self.learners:
            if throttle.paced:
                at = max(at, throttle.send_at(now))
        if at <= now:
            for throttle in self.learners:
                throttle.send(now)
        return at

    def connect(self, now: float) -> float:
        """Count a connection that is begun now if all rates let it; return when to ask again, as `send`."""
        at = max([throttle.connect_at(now) for throttle in self.throttles])
        if at <= now:
            for throttle in self.throttles:
                throttle.connect(now)
        return at

    def paused(self, now: float) -> bool:
        """Tell whether a host asked to be left alone for a while, or this machine has nothing to give."""
        return any(throttle.paused_until > now for throttle in self.throttles)

    def starved(self, now: float) -> bool:
        """Tell whether this machine had nothing for one more connection a moment ago."""
        return any(throttle.paused_until > now for throttle in self.throttles if not throttle.learns)

    @property
    def teaches(self) -> Throttle:
        """The throttle that learns from what this lane's hosts say: the provider's, else its own."""
        return self.throttles[0]

    def held(self, now: float) -> bool:
        """Tell whether no more connections are held than are allowed."""
        for one in self.throttles:
            window = one.window
            # Nearly always there is room: this is asked before every message.
            roomy = one.held <= window.size and window.ceiling is None
            if not roomy and one.held - one.racing > window.limit(now):
                return False
        return True

    @property
    def wants_idle(self) -> bool:
        """Whether somebody is idle and there is something for him."""
        return bool(self.idle) and len(self.turns) > self.woken

    @property
    def wants_worker(self) -> bool:
        """Whether more waits than those who were called will take."""
        return len(self.turns) > self.coming

    @property
    def empty(self) -> bool:
        """Nothing waits and nobody works: the lane can be forgotten."""
        return not self.turns and not self.workers


def _latest(answers: Iterable[tuple[float, Throttle]]) -> tuple[float, Throttle | None]:
    """Return the answer of the throttle that keeps a lane the longest."""
    return max(answers, key=_moment, default=(0.0, None))


def _moment(answer: tuple[float, Throttle]) -> float:
    return answer[0]
