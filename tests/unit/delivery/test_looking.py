"""Limits and lanes as facts: what a throttle learned, who holds it, when the next may go."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from backstamp.delivery.facts import Reason, State
from backstamp.delivery.hosts import Hosts
from backstamp.delivery.lane import Lane, Way
from backstamp.delivery.looking import Books, Looker
from backstamp.delivery.permits import Permits
from backstamp.delivery.rates import Rates
from backstamp.delivery.router import Bound
from backstamp.delivery.throttle import Capacity, Throttle
from backstamp.mail.envelope import Flow
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy.adapt import Action
from backstamp.policy.destination import DestinationPolicy, Rate

SHIFT = 1_700_000_000.0


class Clock:
    """100 s after some fixed point, `SHIFT` after the epoch."""

    def wall(self) -> float:
        return SHIFT + 100.0

    def monotonic(self) -> float:
        return 100.0


async def nowhere() -> AsyncIterator[Any]:
    return
    yield


class Claim:
    queue_id, domain, message, alone, count, size = b"i" * 16, b"y.test", 1, True, 1, 10
    flow = Flow(b"t")


class Place:
    """A lane at `mx.test`, and the books that have it."""

    def __init__(self, **policy: Any) -> None:
        self.policy = DestinationPolicy(**policy)
        self.way = Way("mx.test", self.policy, nowhere)
        self.throttle = Throttle("mx.test", self.policy)
        self.all = Throttle("all", DestinationPolicy(connections=9))
        self.lane: Lane[Any] = Lane("key", self.way, (self.throttle, self.all))
        self.dead = Hosts()
        self.claim: Any = Claim()
        self.lane.offer(self.claim)
        self.permits, self.rates = Permits(), Rates()
        self.books = Books(
            [self.lane],
            [],
            {"mx.test": self.throttle},
            {},
            {},
            (),
            self.permits,
            self.rates,
            SimpleNamespace(dead=self.dead),  # type: ignore[arg-type]  # nothing else of it is looked at
            stopping=False,
        )
        self.bound = Bound(float("inf"), key="key", way=self.way)

    @property
    def looker(self) -> Looker:
        return Looker(self.books, Clock())

    def limit(self) -> Any:
        return self.looker.limits(self.bound, self.way)[0]


def test_what_waits_and_has_a_connection_waits_for_its_turn() -> None:
    place = Place()
    place.lane.workers = place.lane.sessions = 1
    found = place.looker.standing(place.claim)
    assert (found.state, found.blocked) == (State.TURN, "")
    assert found.waiting is not None and found.waiting.before == 0


def test_a_pause_stands_before_a_rate() -> None:
    place = Place(message_rate=Rate(1, 60.0))
    place.throttle.send(90.0)
    found = place.looker.standing(place.claim)
    assert (found.state, found.blocked) == (State.RATE, "mx.test")
    assert found.until == round(SHIFT + 150, 3)
    assert place.limit().next_message == round(SHIFT + 150, 3)
    place.throttle.pause(95.0, 300.0, "mx said 421 \x1b busy")
    found = place.looker.standing(place.claim)
    assert (found.state, found.until) == (State.PAUSE, SHIFT + 395)
    assert place.limit().learned["pause"].why == "mx said 421   busy"
    assert place.limit().learned["pause"].since == SHIFT + 95


def test_who_has_no_permit_learns_who_has_it() -> None:
    place = Place()
    other: Lane[Any] = Lane("other", Way("mx9.test", place.policy, nowhere), (place.throttle,))
    other.workers = place.throttle.held = 1
    place.books = place.books._replace(lanes=[place.lane, other])
    found = place.looker.standing(place.claim)
    assert (found.state, found.blocked, found.until) == (State.PERMIT, "mx.test", None)
    assert [(one.name, one.connections) for one in place.limit().holders] == [("mx9.test", 1)]


def test_who_stands_in_line_learns_how_many_are_before_it() -> None:
    place = Place(connections=1, message_rate=Rate(1, 60.0))
    way = Way("mx9.test", place.policy, nowhere)
    others: list[Lane[Any]] = [Lane(name, way, (place.throttle,)) for name in "ab"]
    place.throttle.held = 1
    for lane in (*others, place.lane):
        place.permits.ask(lane, 100.0)
    waiting = place.looker.standing(place.claim).waiting
    assert waiting is not None and waiting.line == 2
    # With a session it waits for the rate.
    for lane in (others[0], place.lane):
        place.rates.stand(lane, 100.0)
    waiting = place.looker.standing(place.claim).waiting
    assert waiting is not None and waiting.line == 1
    # Of a way without a message that is not asked.
    assert place.looker.waiting(place.lane, None).line == 0


def test_a_connection_that_is_being_opened() -> None:
    place = Place()
    place.lane.workers = 1
    slot: Any = SimpleNamespace(
        job=None, session=None, lane=place.lane, doing="connecting", with_whom="mx.test", since=99.0
    )
    place.books = place.books._replace(slots=[slot])
    found = place.looker.standing(place.claim)
    assert found.state is State.OPENING
    assert found.doing is not None and found.doing.since == SHIFT + 99
    slot.job, slot.doing = SimpleNamespace(claims=[place.claim]), "sending"
    assert place.looker.standing(place.claim).state is State.SENDING


def test_what_waits_for_dns_has_no_way_or_is_on_its_way() -> None:
    place = Place()
    place.lane.leave()
    assert place.looker.standing(place.claim).state is State.DUE
    asked = place.books._replace(asked={b"y.test": [place.claim]})
    assert Looker(asked, Clock()).standing(place.claim).state is State.RESOLVING
    lost = place.books._replace(nowhere=[(place.claim, place.bound)])
    assert Looker(lost, Clock()).standing(place.claim).state is State.LOST


def test_a_ceiling_has_its_reason_and_its_probe() -> None:
    place = Place()
    place.throttle.held = 3
    assert place.throttle.refused(60.0, "mx said 421 too many connections") == 2
    limit = place.limit()
    assert (limit.ceiling, limit.probe_at) == (2, SHIFT + 120)
    assert limit.learned["fewer"].since == SHIFT + 60


def test_how_much_goes_at_a_time_has_its_reason() -> None:
    place = Place(recipients_per_transaction=100, messages_per_connection=3)
    assert (place.limit().recipients, place.limit().messages) == (None, None)
    place.throttle.recipients = Capacity(2, "mx said 452 \x1b too many", 95.0)
    place.throttle.messages = Capacity(3, "mx said 421 enough", 95.0)
    limit = place.limit()
    # Three is what the configuration says, too.
    assert (limit.recipients, limit.messages) == (2, None)
    assert limit.learned == {"recipients": Reason("mx said 452   too many", SHIFT + 95)}
    learned = place.throttle.learned(100.0, SHIFT + 100)
    assert learned is not None
    place.books = place.books._replace(throttles={}, remembered={"mx.test": learned})
    assert place.limit() == limit


def test_what_was_learned_before_the_start_is_told_though_nothing_was_sent_since() -> None:
    place = Place()
    place.throttle.pause(95.0, 300.0, "mx said 421 busy")
    learned = place.throttle.learned(100.0, SHIFT + 100)
    assert learned is not None
    assert learned.lessons[Action.PAUSE].since == SHIFT + 95
    place.books = place.books._replace(throttles={}, remembered={"mx.test": learned})
    assert place.limit().paused_until == SHIFT + 395
    assert place.limit().learned["pause"].since == SHIFT + 95


def test_each_lesson_keeps_its_own_reason() -> None:
    throttle = Throttle("x", DestinationPolicy())
    throttle.held = 2
    throttle.refused(1.0, "too many")
    throttle.pause(2.0, 60.0, "later")
    throttle.slower(3.0, 0.5, 60.0, "slow down")
    learned = throttle.learned(4.0, 4.0)
    assert learned is not None
    assert {action: lesson.why for action, lesson in learned.lessons.items()} == {
        Action.FEWER: "too many",
        Action.PAUSE: "later",
        Action.SLOWER: "slow down",
    }
    later = throttle.learned(100.0, 100.0)
    assert later is not None and [*later.lessons] == [Action.FEWER]


def test_dead_hosts_of_a_way() -> None:
    place = Place()
    outcome = Outcome(Verdict.DEFERRED, Reply(450, "4.4.1 no connection"), host="mx.test[127.0.0.2]:25")
    place.dead.failed(("127.0.0.2", 25), outcome, 90.0, 30.0)
    other = Outcome(Verdict.DEFERRED, Reply(450, "4.4.1 no"), host="mx9.test[127.0.0.3]:25")
    place.dead.failed(("127.0.0.3", 25), other, 90.0, 30.0)
    [down] = place.looker.down({"mx.test"})
    assert (down.since, down.again) == (SHIFT + 90, SHIFT + 120)
