"""Looking at delivery while it works: lanes, throttles and hosts as facts. Nothing is changed, nothing asked.

The dispatcher shows its books; what is made of them is seconds since the epoch and printable
text. Where a message stands is looked for among all that waits: for people, not for every message.
"""

from collections.abc import Collection, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from backstamp.clock import Clock
from backstamp.delivery.facts import Doing, Down, Holder, Limit, Reason, State, Waiting, Way
from backstamp.delivery.knobs import knobs, said
from backstamp.delivery.lane import Lane
from backstamp.delivery.lane import Way as LaneWay
from backstamp.delivery.router import Bound, Question, Tables
from backstamp.delivery.throttle import Capacity, Learned, Throttle
from backstamp.delivery.turns import Place
from backstamp.mail.address import to_alabel
from backstamp.policy.destination import DestinationPolicy
from backstamp.queue.port import Delivery
from backstamp.text import printable

if TYPE_CHECKING:
    from backstamp.delivery.opening import Opener, Slot
    from backstamp.delivery.permits import Permits
    from backstamp.delivery.rates import Rates

AnyLane = Lane[Any]

ALL = "all"
"""The name of the throttle of all lanes together."""


class Books(NamedTuple):
    """Where everything is, as the dispatcher has it."""

    lanes: Collection[AnyLane]
    slots: "Collection[Slot]"
    throttles: Mapping[str, Throttle]
    remembered: Mapping[str, Learned]
    """What was learned before the start, of destinations that had no mail since."""
    asked: Mapping[object, list[Delivery]]
    """Who waits for DNS."""
    nowhere: Collection[tuple[Delivery, Bound]]
    permits: "Permits"
    rates: "Rates"
    opener: "Opener"
    stopping: bool


class Standing(NamedTuple):
    """Where a claimed delivery is, what it waits for; `blocked` names a limit, `until` is when that ends."""

    state: State
    lane: AnyLane | None = None
    waiting: Waiting | None = None
    doing: Doing | None = None
    blocked: str = ""
    until: float | None = None


class Looker:
    """Looks into one state of the books, at one moment."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self.books = books
        self.now = clock.wall()
        self._monotonic = clock.monotonic()
        self._shift = self.now - self._monotonic

    # ---- a delivery ----

    def standing(self, delivery: Delivery) -> Standing:
        """Tell where a claimed delivery is."""
        books = self.books
        for slot in books.slots:
            if slot.job is not None and any(claim is delivery for claim in slot.job.claims):
                return Standing(
                    State.SENDING, slot.lane, self.waiting(slot.lane, None), doing=self._doing(slot)
                )
        for lane in books.lanes:
            if (place := lane.place(delivery)) is not None:
                return self._in_lane(lane, place)
        if any(claim is delivery for waiting in books.asked.values() for claim in waiting):
            return Standing(State.RESOLVING)
        if any(claim is delivery for claim, _ in books.nowhere):
            return Standing(State.LOST)
        return Standing(State.DUE)

    def _in_lane(self, lane: AnyLane, place: Place) -> Standing:
        now = self._monotonic
        waiting = self.waiting(lane, place)
        at, slowest = max(((one.may_send(now), one) for one in lane.throttles), key=_moment)
        if at > now:
            state = State.PAUSE if slowest.paused_until >= at else State.RATE
            return Standing(state, lane, waiting, None, slowest.key, self._wall(at))
        at, throttle = lane.may_connect(now)
        blocked = throttle.key if throttle is not None and at > now else ""
        until = self._wall(at) if blocked and at < float("inf") else None
        if lane.sessions:
            return Standing(State.TURN, lane, waiting, None, blocked, until)
        if lane.workers:
            return Standing(State.OPENING, lane, waiting, next(iter(waiting.doing), None), blocked, until)
        if blocked:
            return Standing(State.PERMIT, lane, waiting, None, blocked, until)
        return Standing(State.TURN, lane, waiting)

    # ---- a lane ----

    def waiting(self, lane: AnyLane, place: Place | None) -> Waiting:
        """Return what waits in a lane and who works there."""
        doing = tuple(self._doings(lane))
        books = self.books
        lines = books.rates.lines if books.rates.lines.at(lane) is not None else books.permits.lines
        found = Waiting(len(lane.turns), lane.workers, lane.sessions, doing, *(place or ()))
        return found if place is None else msgspec.structs.replace(found, line=lines.before(lane))

    def lanes(self, bound: Bound) -> Waiting | None:
        """Return what waits in the lanes of a way, all of its source addresses together; None without any."""
        found = [one for one in self.books.lanes if one.key == bound.key or _of_pool(one.key, bound)]
        if not found:
            return None
        return Waiting(
            sum(len(lane.turns) for lane in found),
            sum(lane.workers for lane in found),
            sum(lane.sessions for lane in found),
            tuple(doing for lane in found for doing in self._doings(lane)),
        )

    def _doings(self, lane: AnyLane) -> Iterator[Doing]:
        return (self._doing(slot) for slot in self.books.slots if slot.lane is lane and slot.doing)

    def _doing(self, slot: "Slot") -> Doing:
        # A session between two messages does nothing that is worth telling.
        idle = slot.job is None and slot.session is not None
        return Doing("open" if idle else slot.doing, printable(slot.with_whom), self._wall(slot.since))

    # ---- limits ----

    def limits(self, bound: Bound, way: LaneWay) -> tuple[Limit, ...]:
        """Return the limits of a way, those of which nothing is known yet as the policy has them."""
        found = [self._limit(self._throttle(name, policy)) for name, policy in bound.limits(way)]
        every = next((one for lane in self.books.lanes for one in lane.throttles if one.key == ALL), None)
        return (*found, *([] if every is None else [self._limit(every)]))

    def _throttle(self, name: str, policy: DestinationPolicy) -> Throttle:
        known = self.books.throttles.get(name)
        if known is not None:
            return known
        fresh = Throttle(name, policy)
        if (learned := self.books.remembered.get(name)) is not None:
            fresh.recall(learned, self._monotonic, self.now)
        return fresh

    def _limit(self, throttle: Throttle) -> Limit:
        now, window = self._monotonic, throttle.window
        paused = throttle.paused_until > now
        slow = throttle.slow if throttle.slow_until > now else None
        sends = throttle.may_send(now)
        rate = slow or throttle.policy.message_rate
        holds = {"fewer": window.ceiling is not None, "pause": paused, "slower": slow is not None}
        learned = {action.value: lesson for action, lesson in throttle.lessons.items() if holds[action.value]}
        policy = throttle.policy
        recipients = _below(throttle.recipients, policy.recipients_per_transaction)
        messages = _below(throttle.messages, policy.messages_per_connection)
        kind = "all" if throttle.key == ALL else "provider" if _provider(throttle.key) else "destination"
        return Limit(
            throttle.key,
            kind,
            window.limit(now),
            window.most,
            throttle.held,
            window.ceiling,
            self._wall(window.probe_at) if window.ceiling is not None else None,
            said(rate) if rate is not None else "",
            self._wall(throttle.slow_until) if slow is not None else None,
            self._wall(sends) if sends > now else None,
            said(throttle.policy.connection_rate) if throttle.policy.connection_rate else "",
            self._wall(throttle.paused_until) if paused else None,
            recipients.count if recipients is not None else None,
            messages.count if messages is not None else None,
            {
                what: Reason(printable(one.why), self._wall(one.since))
                for what, one in {**learned, "recipients": recipients, "messages": messages}.items()
                if one is not None
            },
            tuple(self._holders(throttle)),
        )

    def _holders(self, throttle: Throttle) -> Iterator[Holder]:
        for lane in self.books.lanes:
            if lane.workers and throttle in lane.throttles:
                yield Holder(lane.way.name, lane.workers)

    # ---- a way ----

    def way(self, question: Question, bound: Bound, way: LaneWay, tables: Tables) -> Way:
        """Return a way as facts."""
        credentials = way.credentials
        return Way(
            way.name,
            not bound.moves,
            to_alabel(question.domain),
            way.route,
            way.rule,
            way.provider,
            way.policy.tls.name.lower(),
            way.implicit_tls,
            credentials.username if credentials is not None else "",
            tuple(one.address for one in way.sources),
            tuple(knobs(question, bound, way, tables)),
            self.limits(bound, way),
            tuple(self.down(_names(way.name))),
        )

    def down(self, names: Set[str]) -> Iterator[Down]:
        """Yield the dead ones among some hosts."""
        for dead in self.books.opener.dead:
            name, _, rest = dead.outcome.host.partition("[")
            # A smarthost is named with its port, a mail exchanger without.
            if not names.isdisjoint({name, f"{name}:{rest.rpartition(':')[2]}"}):
                reply = printable(str(dead.outcome.reply))
                yield Down(dead.outcome.host, reply, self._wall(dead.since), self._wall(dead.again))

    def _wall(self, monotonic: float) -> float:
        return round(monotonic + self._shift, 3)


def _moment(answer: tuple[float, Throttle]) -> float:
    return answer[0]


def _below(taught: Capacity | None, most: int) -> Capacity | None:
    """Return how many a host takes, if that is less than the configuration says."""
    return taught if taught is not None and taught.count < most else None


def _of_pool(key: object, bound: Bound) -> bool:
    return bound.pool is not None and isinstance(key, tuple) and bool(key) and key[0] == bound.key


def _provider(name: str) -> bool:
    return name.startswith("provider ")


def _names(name: str) -> set[str]:
    """Return the hosts in the name of a site or of a smarthost."""
    hosts = name.partition(" ")[0].replace("|", ",").split(",")
    return {host.replace("[", "").replace("]", "") for host in hosts}
