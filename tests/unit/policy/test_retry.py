"""The retry schedule, printed in whole: what the documents say is what is computed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy import retry
from backstamp.policy.retry import RetryPolicy

DEFAULT = RetryPolicy()
NOW = 1_800_000_000.0
HOUR = 3600.0

# When a message that fails at once, every time, is tried: after so many seconds of life.
ATTEMPTS = [
    0.0,
    60.0,
    360.0,
    1260.0,
    3060.0,
    6660.0,
    13860.0,
    *(28260.0 + 4 * HOUR * n for n in range(30)),
]

policies = st.builds(
    RetryPolicy,
    st.lists(st.floats(1, 86400), min_size=1, max_size=10).map(tuple),
    st.floats(60, 30 * 86400),
)
times = st.floats(0, 4e9)
chances = st.floats(0, 1, exclude_max=True)


def life(policy: RetryPolicy, chance: float) -> list[float]:
    """Return the ages at which a message is tried until it is given up."""
    ages = [0.0]
    while not retry.expired(policy, NOW + ages[-1], NOW):
        ages.append(retry.next_attempt(policy, NOW + ages[-1], NOW, chance) - NOW)
    return ages


def test_the_whole_default_schedule() -> None:
    assert life(DEFAULT, 0.0) == ATTEMPTS
    assert ATTEMPTS[-2] < DEFAULT.lifetime <= ATTEMPTS[-1]


def test_the_schedule_as_the_documents_print_it() -> None:
    assert DEFAULT.schedule == (60, 300, 900, 1800, 3600, 7200, 14400)
    assert DEFAULT.lifetime == 5 * 86400


@pytest.mark.parametrize(
    ("age", "seconds"),
    [
        (-5.0, 60),
        (0.0, 60),
        (59.9, 60),
        (60.0, 300),
        (359.9, 300),
        (360.0, 900),
        (1260.0, 1800),
        (3060.0, 3600),
        (6660.0, 7200),
        (13860.0, 14400),
        (28260.0, 14400),
        (1e9, 14400),
    ],
)
def test_the_wait_follows_from_the_age(age: float, seconds: float) -> None:
    assert retry.wait(DEFAULT, age) == seconds


@given(policies, times, times, chances)
def test_jitter_only_adds_and_at_most_a_tenth(
    policy: RetryPolicy, now: float, arrival: float, chance: float
) -> None:
    wait = retry.wait(policy, now - arrival)
    delay = retry.next_attempt(policy, now, arrival, chance) - now
    assert wait - 1e-3 <= delay <= wait * 1.1 + 1e-3


@given(policies, times, times, chances)
def test_the_next_attempt_lies_ahead(policy: RetryPolicy, now: float, arrival: float, chance: float) -> None:
    assert retry.next_attempt(policy, now, arrival, chance) > now


@given(policies, times, chances, chances)
def test_more_chance_is_never_sooner(policy: RetryPolicy, now: float, one: float, two: float) -> None:
    less, more = sorted((one, two))
    assert retry.next_attempt(policy, now, now, less) <= retry.next_attempt(policy, now, now, more)


@given(chances)
def test_with_any_jitter_every_window_sees_one_attempt(chance: float) -> None:
    assert len(ATTEMPTS) - 3 <= len(life(DEFAULT, chance)) <= len(ATTEMPTS)


def test_a_lifetime_ends_with_the_first_failure_after_it() -> None:
    assert not retry.expired(DEFAULT, NOW + 432_000 - 0.5, NOW)
    assert retry.expired(DEFAULT, NOW + 432_000, NOW)
    assert not retry.expired(DEFAULT, NOW - 86400, NOW)


@given(policies, times, times, chances)
def test_after_a_start_nothing_waits_longer_than_five_minutes(
    policy: RetryPolicy, now: float, arrival: float, chance: float
) -> None:
    due = retry.first_attempt(policy, now, arrival, chance)
    assert now <= due <= now + min(retry.wait(policy, now - arrival), retry.SPREAD)


def test_what_was_never_tried_goes_at_once_after_a_start() -> None:
    assert retry.first_attempt(DEFAULT, NOW + 59, NOW, 0.9) == NOW + 59
    assert retry.first_attempt(DEFAULT, NOW + 60, NOW, 0.5) == NOW + 60 + 150
    assert retry.first_attempt(DEFAULT, NOW + 86400, NOW, 0.5) == NOW + 86400 + 150
