"""A lane: who of what waits goes next, who joins whom, and what all its throttles say."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery.lane import Job, Lane, Way
from backstamp.delivery.throttle import Capacity, Throttle
from backstamp.delivery.turns import Place
from backstamp.mail.envelope import Flow, Recipient
from backstamp.policy.destination import DestinationPolicy, Rate
from backstamp.queue.port import Load

_numbers = count()


class Claim:
    """A delivery as the queue claims it."""

    def __init__(
        self,
        tenant: bytes = b"a.example",
        *,
        message: object = None,
        priority: int | None = None,
        recipients: int = 1,
        size: int = 1000,
    ) -> None:
        self.queue_id = next(_numbers).to_bytes(16, "big")
        self.domain = b"d.example"
        self.message = message or object()
        self.alone = message is None
        self.flow = Flow(tenant, priority)
        self.count = self.waiting = recipients
        self.arrival, self.attempts, self.size = 5, 3, size


def way(**policy: Any) -> Way:
    return Way("d.example", DestinationPolicy(**policy), lambda: None)  # type: ignore[arg-type,return-value]


def throttle(**policy: Any) -> Throttle:
    return Throttle("d.example", DestinationPolicy(**policy))


def lane(*throttles: Throttle, **policy: Any) -> Lane[str]:
    return Lane("key", way(**policy), throttles or (throttle(),))


def loaded(job: Job, recipients: int) -> Job:
    """Read a job's message, as an attempt does."""
    people = {number: Recipient(b"%d@d.example" % number) for number in range(recipients)}
    job.load, job.pending = Load(b"", b"", people, b""), dict(people)
    return job


def took(one: Lane[str]) -> Job:
    job = one.take()
    assert job is not None
    return job


# ---- mail ----


def test_a_delivery_that_is_alone_is_a_job_of_its_own() -> None:
    one, claim = lane(), Claim()
    assert one.take() is None
    one.offer(claim)
    job = took(one)
    assert job.claims == [claim]
    assert (job.queue_id, job.arrival, job.domain, job.attempts) == (claim.queue_id, 5, b"d.example", 3)
    assert one.take() is None


def test_deliveries_of_one_message_that_meet_are_one_job() -> None:
    one, message = lane(), object()
    first, second, third = (Claim(message=message, recipients=number) for number in (2, 3, 4))
    one.offer(first)
    one.offer(second)
    assert len(one.turns) == 1
    assert one.place(second) == Place(0, 0, 0, 0)
    job = took(one)
    assert job.claims == [first, second]
    assert job.count == 5
    one.offer(third)
    assert job.claims == [first, second]
    assert took(one).claims == [third]


def test_a_job_counts_those_who_are_still_to_be_sent_to() -> None:
    job = Job([Claim(recipients=5)])
    assert job.count == 5
    loaded(job, 3)
    assert job.count == 3


def test_what_fits_into_a_transaction_goes_beside_what_does_not() -> None:
    one = lane(recipients_per_transaction=2)
    large, small, other = Claim(recipients=3), Claim(recipients=2), Claim(recipients=1)
    for claim in (large, small, other):
        one.offer(claim)
    assert [took(one).claims for _ in range(3)] == [[small], [large], [other]]


def test_a_mailing_stays_large_to_its_last_transaction() -> None:
    one = lane(recipients_per_transaction=2)
    mailing, small, other = Claim(recipients=3), Claim(), Claim()
    one.offer(mailing)
    job = loaded(took(one), 1)
    one.back(job)
    one.offer(small)
    one.offer(other)
    assert [took(one).claims for _ in range(3)] == [[small], [mailing], [other]]


def test_a_job_that_is_back_is_not_joined() -> None:
    one, message = lane(), object()
    one.offer(Claim(message=message))
    job = loaded(took(one), 5)
    one.back(job)
    late = Claim(message=message)
    one.offer(late)
    assert job.claims != [late]
    assert took(one) is job
    assert took(one).claims == [late]
    # Nor did taking the first end that the next ones join.
    one.back(job)
    one.offer(Claim(message=message))
    assert took(one) is job
    one.offer(Claim(message=message))
    assert len(one.turns) == 1


def test_mail_without_a_priority_has_that_of_its_way() -> None:
    one = lane()
    plain, urgent, calm = Claim(), Claim(priority=9), Claim(priority=4)
    for claim in (calm, plain, urgent):
        one.offer(claim, 5)
    assert one.place(plain) == Place(0, 0, 0, 1)
    assert one.place(Claim(priority=9)) is None
    jobs = [took(one) for _ in range(3)]
    assert [job.claims for job in jobs] == [[urgent], [plain], [calm]]
    assert [job.priority for job in jobs] == [9, 5, 4]


def test_a_mailing_keeps_the_priority_of_its_way_from_turn_to_turn() -> None:
    one, calm, urgent = lane(), Claim(), Claim()
    one.offer(calm, -3)
    job = loaded(took(one), 5)
    one.back(job)
    one.offer(urgent, 3)
    one.leave()
    one.offer(urgent, 3)
    assert [took(one).claims for _ in range(2)] == [[urgent], [calm]]
    assert job.priority == -3


def test_deliveries_of_one_message_and_of_ways_with_two_priorities_have_two_turns() -> None:
    one, message = lane(), object()
    calm, urgent, more = (Claim(message=message) for _ in range(3))
    one.offer(calm, -3)
    one.offer(urgent, 3)
    one.offer(more, -3)
    assert [took(one).claims for _ in range(2)] == [[urgent], [calm, more]]


def test_a_mailing_pays_for_its_turn_when_it_is_back() -> None:
    one = lane()
    one.offer(Claim(b"mailing.example", size=4 * 4096))
    for _ in range(20):
        one.offer(Claim(b"other.example"))
    mailing, order = None, ""
    for _ in range(12):
        job = took(one)
        if job.claims[0].flow.tenant == b"mailing.example":
            mailing = mailing or loaded(job, 1000)
            assert job is mailing
            one.back(job)
        order += "M" if job is mailing else "o"
    assert order == "MooooMooooMo"


def test_what_was_not_begun_can_leave() -> None:
    one, message = lane(), object()
    alone, first, second, begun = Claim(), Claim(message=message), Claim(message=message), Claim()
    one.offer(begun)
    job = loaded(took(one), 7)
    one.back(job)
    for claim in (alone, first, second):
        one.offer(claim)
    assert sorted(one.leave(), key=id) == sorted((alone, first, second), key=id)
    assert one.begun() == [job]
    assert one.take() is None
    third = Claim(message=message)
    one.offer(third)
    assert took(one).claims == [third]


# ---- what hosts take ----


def test_a_transaction_has_no_more_recipients_than_the_host_took() -> None:
    one = lane(recipients_per_transaction=100)
    assert one.recipients == 100
    one.teaches.recipients = Capacity(50, "452 enough", 0.0)
    assert one.recipients == 50
    one.adopt(way(recipients_per_transaction=10), one.origin)
    assert one.recipients == 10


def test_a_connection_has_no_more_messages_than_the_host_took_twice() -> None:
    one = lane(messages_per_connection=100)
    assert not one.ended(20, 5.0, "421 enough")
    assert not one.ended(30, 5.0, "421 enough")
    assert one.messages == 100
    assert one.ended(30, 5.0, "421 enough")
    assert one.messages == 30
    assert not one.ended(30, 5.0, "421 enough")
    assert not one.ended(0, 5.0, "421 enough")
    assert not one.ended(0, 5.0, "421 enough")
    assert not one.ended(200, 5.0, "421 enough")
    assert not one.ended(200, 5.0, "421 enough")
    assert one.messages == 30
    assert one.teaches.messages == Capacity(30, "421 enough", 5.0)
    one.adopt(way(messages_per_connection=5), one.origin)
    assert one.messages == 5


def test_another_way_may_have_the_same_key() -> None:
    one, made, origin = lane(), way(idle=9.0), way()
    one.stale = True
    one.adopt(made, origin)
    assert (one.way, one.origin, one.stale) == (made, origin, False)


# ---- permits and rates ----


def test_the_throttle_that_keeps_a_lane_longest_decides() -> None:
    own, shared = throttle(), throttle()
    one = lane(own, shared)
    assert one.may_connect(5.0)[0] == one.may_send(5.0) == 5.0
    own.pause(5.0, 10.0, "")
    shared.pause(5.0, 30.0, "")
    assert one.may_connect(6.0) == (35.0, shared)
    assert one.may_send(6.0) == 35.0
    own.held = 1
    assert one.may_connect(6.0) == (float("inf"), own)
    assert one.may_send(6.0) == 35.0


@pytest.mark.parametrize("what", ["send", "connect"])
def test_nothing_is_counted_before_every_rate_lets_it_go(what: str) -> None:
    """A shared rate is kept where a slower one of the lane's own holds back: nothing is taken ahead there."""
    rate = "message_rate" if what == "send" else "connection_rate"
    own, shared = throttle(**{rate: Rate(1, 100.0)}), throttle(**{rate: Rate(1, 10.0)})
    slow, quick = lane(own, shared), lane(shared)
    assert getattr(slow, what)(0.0) == 0.0
    at = getattr(slow, what)(5.0)
    assert at == pytest.approx(100.0)
    assert getattr(quick, what)(95.0) == 95.0
    assert getattr(slow, what)(at) == pytest.approx(105.0)
    assert getattr(slow, what)(106.0) == 106.0
    assert getattr(quick, what)(107.0) == pytest.approx(116.0)


def test_no_more_are_held_than_allowed() -> None:
    own, shared = throttle(), throttle()
    one = lane(own, shared)
    own.held = 1
    assert one.held(0.0)
    shared.held = 2
    assert not one.held(0.0)


def test_the_first_throttle_is_taught_and_all_learn_that_may() -> None:
    provider, own, whole = throttle(), throttle(), Throttle("all", DestinationPolicy(), learns=False)
    one = lane(provider, own, whole)
    assert one.teaches is provider
    assert one.learners == (provider, own)


# ---- workers ----


def test_a_worker_is_wanted_for_what_nobody_comes_for() -> None:
    one = lane()
    assert not one.wants_worker
    one.offer(Claim())
    assert one.wants_worker
    one.coming = 1
    assert not one.wants_worker
    one.offer(Claim())
    assert one.wants_worker


def test_who_is_idle_is_wanted_though_others_are_coming() -> None:
    """Those who open a session first may take long; one with a session takes it at once."""
    one = lane()
    one.idle.append("idle")
    assert not one.wants_idle
    one.coming = 3
    one.offer(Claim())
    assert one.wants_idle
    one.woken = 1
    assert not one.wants_idle
    one.woken = 0
    one.idle.clear()
    assert not one.wants_idle


def test_a_lane_is_empty_when_nothing_waits_and_nobody_works() -> None:
    one = lane()
    assert one.empty
    one.offer(Claim())
    assert not one.empty
    one.take()
    one.workers = 1
    assert not one.empty


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.just("take"), st.booleans(), st.none()),
        st.tuples(st.just("leave"), st.none(), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_delivery_is_in_one_place(steps: list[tuple[str, Any, Any]]) -> None:
    """Offered, taken, back, left: a delivery is in the lane or in one job outside, and never in two."""
    one = lane(recipients_per_transaction=2)
    messages = [object() for _ in range(3)]
    inside: set[Claim] = set()
    begun: set[Job] = set()
    for act, value, recipients in steps:
        match act:
            case "offer":
                claim = Claim(message=messages[value] if value < 3 else None, recipients=recipients)
                inside.add(claim)
                one.offer(claim)
            case "take":
                if (job := one.take()) is None:
                    assert not inside
                elif value:
                    if job.load is None:
                        loaded(job, 5)
                    begun.add(job)
                    one.back(job)
                else:
                    begun.discard(job)
                    assert inside.issuperset(job.claims)
                    inside.difference_update(job.claims)
            case "leave":
                left = one.leave()
                assert len(left) == len({*left})
                kept = {claim for job in begun for claim in job.claims}
                assert {*left} == inside - kept
                inside = kept
    found: list[Claim] = []
    while (job := one.take()) is not None:
        assert len({claim.message for claim in job.claims}) == 1
        found += job.claims
    assert len(found) == len({*found})
    assert {*found} == inside
