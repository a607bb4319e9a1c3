"""Rates: no window holds more than its count, whatever is asked when."""

from fractions import Fraction
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.destination import Rate
from backstamp.policy.rate import Pacer, conforming

RATES = st.builds(Rate, st.integers(1, 1000), st.sampled_from((0.1, 1.0, 7.0, 60.0, 3600.0)))
STEPS = st.one_of(st.just(0.0), st.floats(0.0, 0.01), st.floats(0.0, 100.0))


def test_what_may_go_is_spread_evenly() -> None:
    pacer = Pacer(Rate(100, 3600.0))
    assert pacer.take(5.0) == 5.0
    assert pacer.take(5.0) == pytest.approx(41.0)
    assert pacer.take(50.0) == pytest.approx(77.0)
    assert pacer.take(1000.0) == 1000.0


def test_asking_takes_nothing() -> None:
    pacer = Pacer(Rate(1, 10.0))
    assert pacer.earliest(3.0) == pacer.earliest(3.0) == 3.0
    pacer.take(3.0)
    assert pacer.earliest(4.0) == pacer.earliest(4.0) == pytest.approx(13.0)
    assert pacer.earliest(20.0) == 20.0


def test_others_that_are_about_to_go_come_first() -> None:
    pacer = Pacer(Rate(1, 10.0))
    assert pacer.earliest(3.0, booked=2) == pytest.approx(23.0)
    pacer.take(3.0)
    assert pacer.earliest(4.0, booked=1) == pytest.approx(23.0)
    # One may be counted before it goes.
    assert pacer.earliest(6.0, after=5.0) == pytest.approx(15.0)
    assert pacer.earliest(6.0, after=1.0) == pytest.approx(13.0)


def test_another_rate_counts_from_what_went_last() -> None:
    pacer = Pacer(Rate(1, 10.0))
    pacer.take(100.0)
    pacer.set(Rate(1, 60.0))
    assert pacer.earliest(101.0) == pytest.approx(160.0)
    pacer.set(Rate(1, 2.0))
    assert pacer.earliest(101.0) == pytest.approx(102.0)


@given(st.floats(0.0, 1e7), RATES, st.lists(STEPS, min_size=2, max_size=60))
def test_no_window_holds_more_than_its_count(begin: float, rate: Rate, steps: list[float]) -> None:
    """Half-open windows of exactly the rate's seconds, in exact arithmetic; also after months of uptime."""
    pacer, now, went = Pacer(rate), begin, []
    for step in steps:
        now = pacer.take(now + step)
        went.append(Fraction(now))
    for first in range(len(went) - rate.count):
        assert went[first + rate.count] - went[first] >= Fraction(rate.seconds)
    assert all(later - earlier > 0 for earlier, later in pairwise(went))


@given(st.floats(0.0, 1e7), st.integers(1, 1000), st.sampled_from((0.1, 1.0, 60.0)))
def test_as_many_as_the_count_fit_into_the_window(begin: float, count: int, seconds: float) -> None:
    """It is no slower than it has to be, but for what rounding costs."""
    pacer = Pacer(Rate(count, seconds))
    went = [Fraction(pacer.take(begin)) for _ in range(count + 1)]
    took = went[-1] - went[0]
    assert Fraction(seconds) <= took <= Fraction(seconds) + Fraction(count * 4e-9)


CHANGES = st.lists(st.tuples(RATES, st.lists(STEPS, max_size=8)), min_size=1, max_size=6)


@given(st.floats(0.0, 1e6), CHANGES)
def test_changes_of_the_rate_leave_no_gap(begin: float, changes: list[tuple[Rate, list[float]]]) -> None:
    """Two neighbours are as far apart as the rate wants that was in force when the later one went."""
    pacer, now, last = Pacer(Rate(1, 1.0)), begin, None
    for rate, steps in changes:
        pacer.set(rate)
        for step in steps:
            now = pacer.take(now + step)
            if last is not None:
                assert (Fraction(now) - last) * rate.count >= Fraction(rate.seconds)
            last = Fraction(now)


@given(RATES, st.lists(STEPS, max_size=20))
def test_what_is_asked_is_what_is_given(rate: Rate, steps: list[float]) -> None:
    pacer, now = Pacer(rate), 0.0
    for step in steps:
        now += step
        earliest = pacer.earliest(now)
        assert pacer.take(now) == earliest
        now = earliest


@given(RATES, st.lists(STEPS, max_size=60), st.floats(0.0, 1000.0))
def test_who_is_policed_has_the_whole_count_at_once_and_never_twice_it(
    rate: Rate, steps: list[float], start: float
) -> None:
    now, due = start, -inf
    taken: list[float] = []
    for step in steps * 20:
        now += step
        if (after := conforming(rate, due, now)) is not None:
            due = after
            taken.append(now)
    for index, first in enumerate(taken):
        within = sum(1 for one in taken[index:] if one - first < rate.seconds)
        assert within <= 2 * rate.count


@given(RATES, st.floats(0.0, 10_000.0))
def test_a_burst_of_the_count_and_then_one_each_interval(rate: Rate, now: float) -> None:
    due = -inf
    for _ in range(rate.count):
        after = conforming(rate, due, now)
        assert after is not None
        due = after
    assert conforming(rate, due, now) is None
    interval = rate.seconds / rate.count
    assert conforming(rate, due, now + interval * 0.9) is None
    later = conforming(rate, due, now + interval)
    assert later is not None
    assert conforming(rate, later, now + interval) is None
