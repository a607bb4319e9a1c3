"""Failures of AUTH: slower, then locked out, and never the honest user elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.lockout import LONGEST, TRUST, Lockout, network

EVIL, HOME = "192.0.2.66", "198.51.100.1"
MINUTES = 900.0


def fail(lockout: Lockout, times: int, peer: str = EVIL, user: str = "ann", now: float = 0.0) -> None:
    for _ in range(times):
        lockout.failed(peer, user, now)


def test_answers_come_later_with_each_failure() -> None:
    """Security 11: delay."""
    lockout = Lockout(10, MINUTES)
    assert lockout.delay(EVIL, "ann", 0) == 0
    seen = []
    for _ in range(6):
        lockout.failed(EVIL, "ann", 0)
        seen.append(lockout.delay(EVIL, "ann", 0))
    assert seen == [1, 2, 4, 8, LONGEST, LONGEST]


def test_however_many_failures_the_wait_is_bounded() -> None:
    lockout = Lockout(100_000, MINUTES)
    fail(lockout, 2000)
    assert lockout.delay(EVIL, "ann", 0) == LONGEST


def test_an_address_is_locked_out_whoever_it_says_it_is() -> None:
    """Security 11: a counter per address, shared over connections."""
    lockout = Lockout(10, MINUTES)
    for number in range(9):
        lockout.failed(EVIL, f"user{number}", 0)
    assert lockout.locked(EVIL, "somebody", 0) is None
    lockout.failed(EVIL, "", 5)
    assert lockout.locked(EVIL, "somebody", 5) == 5 + MINUTES
    assert lockout.locked(EVIL, "", 5) == 5 + MINUTES
    assert lockout.locked(HOME, "somebody", 5) is None


def test_a_user_is_locked_out_over_many_addresses() -> None:
    """Security 11: a counter per user."""
    lockout = Lockout(10, MINUTES)
    for number in range(10):
        lockout.failed(f"192.0.2.{number}", "ann", 0)
    assert lockout.locked("192.0.2.77", "ann", 0) == MINUTES
    assert lockout.locked("192.0.2.77", "bob", 0) is None


def test_nobody_is_locked_out_where_they_succeeded() -> None:
    """Security 11: an attacker elsewhere does not lock out the honest user."""
    lockout = Lockout(10, MINUTES)
    lockout.succeeded(HOME, "ann", 0)
    fail(lockout, 30, EVIL)
    fail(lockout, 30, HOME, "bob")
    assert lockout.locked(EVIL, "ann", 1) is not None
    assert lockout.locked(HOME, "bob", 1) is not None
    assert lockout.locked(HOME, "ann", 1) is None
    assert lockout.delay(HOME, "ann", 1) == 0
    assert lockout.locked(HOME, "ann", TRUST) is None


def test_trust_ends() -> None:
    lockout = Lockout(10, MINUTES)
    lockout.succeeded(HOME, "ann", 0)
    fail(lockout, 10, EVIL, now=TRUST - 1)
    assert lockout.locked(HOME, "ann", TRUST - 1) is None
    assert lockout.locked(HOME, "ann", TRUST) is not None


def test_own_failures_lock_out_where_one_is_trusted_too() -> None:
    lockout = Lockout(3, MINUTES)
    lockout.succeeded(HOME, "ann", 0)
    fail(lockout, 2, HOME)
    assert lockout.delay(HOME, "ann", 0) == 2
    lockout.succeeded(HOME, "ann", 0)
    assert lockout.delay(HOME, "ann", 0) == 0
    fail(lockout, 3, HOME)
    assert lockout.locked(HOME, "ann", 0) == MINUTES
    assert lockout.locked(HOME, "bob", 0) is None, "a neighbour pays nothing for it"
    assert lockout.locked(EVIL, "ann", 0) is None


def test_a_success_does_not_clear_what_the_address_guessed_of_others() -> None:
    lockout = Lockout(10, MINUTES)
    for number in range(10):
        lockout.succeeded(EVIL, "mallory", 0)
        lockout.failed(EVIL, f"user{number}", 0)
    assert lockout.locked(EVIL, "user11", 0) is not None
    assert lockout.locked(EVIL, "mallory", 0) is None


def test_a_lock_out_ends_and_is_not_prolonged() -> None:
    lockout = Lockout(3, MINUTES)
    fail(lockout, 3, now=10)
    fail(lockout, 3, now=100)
    assert lockout.locked(EVIL, "ann", 100) == 10 + MINUTES
    assert lockout.locked(EVIL, "ann", 10 + MINUTES) is None
    assert lockout.delay(EVIL, "ann", 10 + MINUTES) == 0


def test_failures_far_apart_are_forgotten() -> None:
    lockout = Lockout(3, MINUTES)
    for number in range(20):
        lockout.failed(EVIL, "ann", number * MINUTES / 2)
        assert lockout.locked(EVIL, "ann", number * MINUTES / 2) is None


def test_memory_is_bounded_and_the_quietest_is_forgotten_first() -> None:
    lockout = Lockout(2, MINUTES, size=3)
    fail(lockout, 1, "192.0.2.1", "ann")
    for number in range(2, 6):
        fail(lockout, 1, f"192.0.2.{number}", f"user{number}")
        lockout.succeeded(f"192.0.2.{number}", f"user{number}", 0)
    assert lockout.delay("192.0.2.1", "ann", 0) == 0
    fail(lockout, 2, "192.0.2.2", "user2")
    assert lockout.locked("192.0.2.2", "user2", 0) is not None
    sizes = [len(one._kept) for one in (lockout._addresses, lockout._users, lockout._own)]
    assert max(*sizes, len(lockout._trusted)) <= 3


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_client(peer: str, client: str) -> None:
    assert network(peer) == client


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
            st.sampled_from(["ann", "bob", ""]),
            st.floats(0, 600),
        ),
        max_size=60,
    )
)
def test_a_lock_out_always_ends_within_its_time(events: list[tuple[bool, str, str, float]]) -> None:
    lockout = Lockout(3, MINUTES, size=2)
    now = 0.0
    for good, peer, user, pause in events:
        now += pause
        (lockout.succeeded if good else lockout.failed)(peer, user, now)
        until = lockout.locked(peer, user, now)
        assert until is None or now < until <= now + MINUTES
        assert 0 <= lockout.delay(peer, user, now) <= LONGEST
