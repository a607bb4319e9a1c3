"""A throttle: what one destination lets this relay do, what it taught, and what is remembered of it."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery.throttle import KEPT, SLOWEST, Capacity, Learned, Lesson, Throttle
from backstamp.policy.adapt import Action
from backstamp.policy.destination import DestinationPolicy, Rate
from backstamp.policy.window import PROBE

NEVER = float("inf")
WALL = 1_800_000_000.0


def throttle(**knobs: Any) -> Throttle:
    made = Throttle("d.example", DestinationPolicy(**knobs))
    made.window.size = float(made.policy.connections)
    return made


# ---- connections ----


def test_a_connection_may_be_begun_while_there_is_room() -> None:
    one = throttle(connections=2)
    one.held = 1
    assert one.may_connect(5.0) == 5.0
    one.held = 2
    assert one.may_connect(5.0) == NEVER


def test_one_more_than_the_ceiling_comes_with_time() -> None:
    one = throttle(connections=9)
    one.window.refused(0.0, 3)
    one.window.size = 9.0
    one.held = 3
    assert one.may_connect(5.0) == PROBE
    assert one.may_connect(PROBE) == PROBE
    one.held = 4
    assert one.may_connect(PROBE) == NEVER
    assert one.may_connect(5.0) == NEVER


def test_connections_have_a_rate() -> None:
    one = throttle(connection_rate=Rate(1, 10.0))
    one.connect(5.0)
    assert one.may_connect(6.0) == one.connect_at(6.0) == pytest.approx(15.0)
    assert one.may_connect(20.0) == one.connect_at(20.0) == 20.0
    # Those who wait for it already go first.
    one.callers |= {1: None, 2: None}
    assert one.may_connect(20.0) == pytest.approx(40.0)
    assert one.connect_at(20.0) == 20.0
    assert throttle().connect_at(6.0) == 6.0
    throttle().connect(6.0)


def test_a_pause_is_for_connections_and_messages() -> None:
    one = throttle(connections=1, message_rate=Rate(1, 1.0), connection_rate=Rate(1, 1.0))
    assert one.pause(10.0, 60.0, "450 later")
    assert one.may_connect(20.0) == one.may_send(20.0) == 70.0
    assert one.may_connect(80.0) == one.may_send(80.0) == 80.0
    # Whose turn was granted before goes on.
    assert one.send_at(20.0) == one.connect_at(20.0) == 20.0
    assert one.lessons == {Action.PAUSE: Lesson("450 later", 10.0)}


def test_a_pause_that_sessions_meet_one_after_the_other_is_told_once() -> None:
    one = throttle()
    assert one.pause(10.0, 60.0, "why")
    assert not one.pause(11.0, 60.0, "why")
    assert one.may_send(12.0) == 71.0
    assert not one.pause(12.0, 5.0, "why")
    assert one.may_send(13.0) == 71.0
    assert one.pause(50.0, 60.0, "why")


def test_one_is_idle_when_no_lane_obeys_it_and_nothing_keeps_anybody_back() -> None:
    one = throttle(message_rate=Rate(1, 10.0), connection_rate=Rate(1, 20.0))
    assert one.idle(0.0)
    one.lanes = 1
    assert not one.idle(0.0)
    one.lanes = 0
    one.send(0.0)
    one.connect(0.0)
    assert not one.idle(9.0)
    assert not one.idle(19.0)
    assert one.idle(21.0)
    one.pause(21.0, 5.0, "")
    assert not one.idle(25.0)


# ---- messages ----


def test_messages_have_a_rate_and_those_about_to_go_are_counted() -> None:
    one = throttle(message_rate=Rate(1, 10.0))
    assert one.may_send(5.0) == 5.0
    one.book(5.0)
    assert one.may_send(5.0) == pytest.approx(15.0)
    assert one.send_at(5.0) == 5.0
    # Whoever is kept from using that turn keeps nobody from the next.
    assert one.may_send(15.1) == 15.1
    one.booked -= 1
    assert one.may_send(5.0) == 5.0
    one.send(5.0)
    assert one.may_send(6.0) == one.send_at(6.0) == pytest.approx(15.0)
    free = throttle()
    free.send(5.0)
    assert free.may_send(5.0) == free.send_at(5.0) == 5.0


# ---- slower ----


def test_slower_is_a_factor_of_the_rate_for_a_time() -> None:
    one = throttle(message_rate=Rate(60, 60.0))
    assert one.slower(0.0, 0.5, 600.0, "421 slow down") == Rate(1, 2.0)
    one.send(0.0)
    assert one.send_at(0.0) == pytest.approx(2.0)
    assert one.lessons == {Action.SLOWER: Lesson("421 slow down", 0.0)}
    # Sessions that were open hear the same a moment later.
    assert one.slower(100.0, 0.5, 600.0, "421 slow down") is None
    assert one.slower(400.0, 0.5, 600.0, "421 slow down") == Rate(1, 4.0)
    one.send(999.0)
    assert one.send_at(999.0) == pytest.approx(1003.0)
    one.send(1003.0)
    assert (one.slow, one.send_at(1003.0)) == (None, pytest.approx(1004.0))


def test_without_a_rate_it_is_slower_than_of_late() -> None:
    one = throttle()
    for second in range(120):
        one.send(1000.0 + second / 2)
    assert one.slower(1060.0, 0.5, 600.0, "") == Rate(1, pytest.approx(1.0))
    quiet = throttle()
    assert quiet.slower(1000.0, 0.5, 600.0, "") == SLOWEST
    quiet.send(2000.0)
    assert quiet.slow is None
    assert quiet.send_at(2000.0) == 2000.0


def test_of_late_is_this_minute_or_the_one_before() -> None:
    one = throttle()
    for _ in range(120):
        one.send(1000.0)
    one.send(1060.0)
    assert one.slower(1090.0, 0.5, 600.0, "") == Rate(1, pytest.approx(1.0))
    long_ago = throttle()
    for _ in range(120):
        long_ago.send(1000.0)
    long_ago.send(1200.0)
    assert long_ago.slower(1230.0, 0.5, 600.0, "") == Rate(1, pytest.approx(60.0))


@pytest.mark.parametrize("rate", [Rate(1, 3600.0), Rate(2, 100.0), Rate(1, 60.0)])
def test_slower_is_never_faster_than_the_operator_said(rate: Rate) -> None:
    """A destination with a rate below the slowest that replies can bring about keeps its own."""
    one = throttle(message_rate=rate)
    slowed = one.slower(0.0, 0.5, 600.0, "")
    assert slowed is not None
    interval = rate.seconds / rate.count
    assert slowed.seconds / slowed.count == max(60.0, interval)
    one.send(0.0)
    assert one.send_at(0.0) >= interval


def test_what_was_taught_is_never_faster_than_a_new_policy() -> None:
    one = throttle(message_rate=Rate(60, 60.0))
    one.slower(0.0, 0.5, 600.0, "")
    one.send(0.0)
    one.adopt(DestinationPolicy(message_rate=Rate(1, 100.0)))
    assert one.send_at(0.0) == pytest.approx(100.0)
    one.adopt(DestinationPolicy())
    assert one.send_at(0.0) == pytest.approx(2.0)
    recalled = throttle(message_rate=Rate(1, 100.0))
    recalled.recall(Learned("d.example", slow=Rate(1, 2.0), slow_until=WALL + 600), 0.0, WALL)
    recalled.send(0.0)
    assert recalled.send_at(0.0) == pytest.approx(100.0)


# ---- fewer ----


def test_fewer_connections_for_a_time() -> None:
    one = throttle(connections=20)
    assert one.fewer(0.0, 0.5, 600.0, "451 busy") == 10
    assert one.lessons == {Action.FEWER: Lesson("451 busy", 0.0)}
    assert one.fewer(100.0, 0.5, 600.0, "451 busy") is None
    assert one.fewer(400.0, 0.5, 600.0, "451 busy") == 5


def test_a_refusal_is_told_once_and_its_reason_kept() -> None:
    one = throttle(connections=20)
    one.held = 5
    assert one.refused(10.0, "421 enough") == 4
    assert one.refused(70.0, "421 again") is None
    assert one.lessons == {Action.FEWER: Lesson("421 enough", 10.0)}
    # What is over is not told for what holds.
    one.pause(70.0, 1.0, "450 later")
    learned = one.learned(80.0, 80.0)
    assert learned is not None
    assert [*learned.lessons] == [Action.FEWER]
    # One that was recalled without a reason has one from the next refusal on.
    again = throttle(connections=20)
    again.recall(Learned("d.example", 4), 0.0, WALL)
    again.held = 5
    assert again.refused(70.0, "421 again") is None
    assert again.lessons == {Action.FEWER: Lesson("421 again", 70.0)}


# ---- policies ----


def test_another_policy_keeps_what_was_taught_and_what_went() -> None:
    one = throttle(connections=20, message_rate=Rate(1, 10.0), connection_rate=Rate(1, 10.0))
    one.window.refused(0.0, 7)
    one.send(0.0)
    one.connect(0.0)
    one.adopt(one.policy)
    one.adopt(DestinationPolicy(connections=5, message_rate=Rate(1, 30.0), connection_rate=Rate(1, 20.0)))
    assert one.window.limit(0.0) == 5
    assert one.window.ceiling == 7
    assert one.send_at(1.0) == pytest.approx(30.0)
    assert one.connect_at(1.0) == pytest.approx(20.0)
    one.adopt(DestinationPolicy())
    assert one.send_at(1.0) == one.connect_at(1.0) == 1.0


# ---- remembering ----


def test_nothing_taught_is_nothing_to_remember() -> None:
    one = throttle()
    assert one.learned(5.0, WALL) is None
    one.pause(0.0, 1.0, "")
    one.slower(0.0, 0.5, 1.0, "")
    assert one.learned(5.0, WALL) is None


def test_what_was_taught_outlives_a_restart() -> None:
    one = throttle(connections=20)
    one.held = 8
    assert one.refused(100.0, "421 enough") == 7
    one.held = 0
    one.pause(100.0, 60.0, "450 later")
    one.slower(100.0, 0.5, 600.0, "421 slow down")
    learned = one.learned(110.0, WALL)
    lessons = {
        Action.FEWER: Lesson("421 enough", WALL - 10),
        Action.PAUSE: Lesson("450 later", WALL - 10),
        Action.SLOWER: Lesson("421 slow down", WALL - 10),
    }
    until = (WALL + 50, WALL + 590)
    assert learned == Learned("d.example", 7, WALL + PROBE - 10, PROBE, *until, SLOWEST, lessons)
    again = throttle(connections=20)
    # The process began anew 20 seconds later, and so did its clock.
    again.recall(learned, 3.0, WALL + 20)
    assert again.may_connect(3.0) == 33.0
    assert again.window.limit(3.0) == 7
    assert again.window.probe_at == pytest.approx(33.0)
    again.send(40.0)
    assert again.send_at(40.0) == pytest.approx(100.0)
    assert again.learned(3.0, WALL + 20) == learned


def test_how_much_goes_at_a_time_outlives_a_restart_and_not_a_week() -> None:
    one = throttle()
    one.recipients = Capacity(2, "452 too many", 90.0)
    one.messages = Capacity(3, "421 enough", 100.0)
    learned = one.learned(110.0, WALL)
    assert learned is not None
    assert learned.recipients == Capacity(2, "452 too many", WALL - 20)
    assert learned.messages == Capacity(3, "421 enough", WALL - 10)
    kept = msgspec.json.decode(msgspec.json.encode([learned]), type=list[Learned])
    assert kept == [learned]
    again = throttle()
    again.recall(kept[0], 3.0, WALL + 30)
    assert again.learned(3.0, WALL + 30) == learned
    late = throttle()
    late.recall(learned, 3.0, WALL - 15 + KEPT)
    assert (late.recipients, late.messages) == (None, Capacity(3, "421 enough", 3.0 + 5 - KEPT))


def test_a_clock_that_was_set_back_pauses_nobody_for_a_year() -> None:
    """It was a year ahead when the host asked for a minute."""
    ahead = WALL + 365 * 86400
    one = throttle(connections=20)
    one.held = 8
    one.refused(100.0, "421 enough")
    one.pause(100.0, 60.0, "450 later")
    one.slower(100.0, 0.5, 600.0, "421 slow down")
    one.recipients = Capacity(2, "452 too many", 90.0)
    learned = one.learned(110.0, ahead)
    assert learned is not None
    again = throttle(connections=20)
    again.recall(learned, 3.0, WALL)
    assert again.paused_until == 63.0
    assert again.slow_until == 603.0
    assert again.window.probe_at == 3.0 + PROBE
    assert [lesson.since for lesson in again.lessons.values()] == [3.0, 3.0, 3.0]
    assert again.recipients == Capacity(2, "452 too many", 3.0)


def test_what_an_earlier_version_kept_is_read() -> None:
    lessons = '{"fewer":{"why":"421 enough","since":1800000000.0}}'
    kept = f'[{{"key":"d.example","ceiling":7,"probe_at":1800000060.0,"lessons":{lessons}}}]'
    [learned] = msgspec.json.decode(kept, type=list[Learned])
    one = throttle(connections=20)
    one.recall(learned, 0.0, WALL)
    assert (one.window.ceiling, one.recipients, one.messages) == (7, None, None)


def test_what_is_over_counts_no_more() -> None:
    learned = Learned("d.example", 7, WALL, 120.0, WALL + 50, WALL + 50, SLOWEST)
    one = throttle(connections=5)
    one.recall(learned, 0.0, WALL + 60)
    assert one.window.ceiling is None
    assert one.may_connect(0.0) == one.may_send(0.0) == 0.0
    assert one.slow is None
    lower = throttle(connections=20)
    lower.recall(Learned("d.example", 0, WALL), 0.0, WALL)
    assert lower.window.ceiling == 1


RATES = st.one_of(st.none(), st.builds(Rate, st.integers(1, 30), st.sampled_from((1.0, 10.0, 60.0))))
STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 30.0),
        st.one_of(
            st.tuples(st.just("slower"), st.floats(0.1, 0.9)),
            st.tuples(st.just("pause"), st.floats(0.0, 100.0)),
            st.tuples(st.just("adopt"), RATES),
            st.tuples(st.just("send"), st.none()),
        ),
    ),
    max_size=60,
)


@given(RATES, STEPS)
def test_no_two_messages_are_closer_than_the_policys_rate(rate: Rate | None, steps: list[Any]) -> None:
    """Whatever replies teach: those that go under one policy keep its rate."""
    one, now, went = throttle(message_rate=rate), 0.0, [[]]
    rates: list[Rate | None] = [rate]
    for step, (act, value) in steps:
        now += step
        match act:
            case "slower":
                one.slower(now, value, 50.0, "")
            case "pause":
                one.pause(now, value, "")
            case "adopt":
                one.adopt(DestinationPolicy(message_rate=value))
                rates.append(value)
                went.append([])
            case "send":
                if (now := max(now, one.may_send(now))) < NEVER:
                    one.send(now)
                    went[-1].append(now)
    for wanted, times in zip(rates, went, strict=True):
        if wanted is not None:
            apart = wanted.seconds / wanted.count
            assert all(later - earlier >= apart - 1e-9 for earlier, later in pairwise(times))
