"""Settling: every recipient of an attempt is failed, deferred or done, and what must be written follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery.settle import settle
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy.retry import RetryPolicy
from backstamp.queue.port import Reason
from backstamp.queue.stamps import Stamp

ARRIVAL = 1_800_000_000.0
POLICY = RetryPolicy()
UNKNOWN = Outcome(Verdict.FAILED, Reply(550, "5.1.1 unknown"), Scope.RECIPIENT, "mx.test")
LATER = Outcome(Verdict.DEFERRED, Reply(451, "4.7.1 greylisted"), Scope.RECIPIENT, "mx.test")
DONE = Outcome(Verdict.DELIVERED, Reply(250, "ok"), Scope.MESSAGE, "mx.test")
OVER = Reply(554, "5.4.7 delivery time expired; the last answer was: 451 4.7.1 greylisted")
outcomes = st.builds(
    Outcome,
    st.sampled_from(Verdict),
    st.builds(Reply, st.sampled_from([250, 451, 550]), st.sampled_from(["", "a", "b"])),
    st.sampled_from(Scope),
    st.sampled_from(["", "mx1.test", "mx2.test"]),
)


def test_each_to_his_own() -> None:
    now = ARRIVAL + 1
    result = settle({0: UNKNOWN, 1: LATER, 2: DONE}, POLICY, now=now, arrival=ARRIVAL, chance=0.0)
    assert result.marks == {0: Stamp.FAILED}
    assert result.failed == {0: UNKNOWN}
    assert result.deferred == {1: LATER}
    assert result.retry_at == now + 60
    assert result.reasons == (Reason((0,), UNKNOWN.reply, "mx.test", int(now * 1e6)),)


def test_what_was_delivered_leaves_nothing() -> None:
    result = settle({0: DONE}, POLICY, now=ARRIVAL, arrival=ARRIVAL, chance=0.0)
    assert (result.marks, result.reasons, result.failed, result.deferred) == ({}, (), {}, {})


def test_a_thousand_recipients_of_one_refusal_are_one_reason() -> None:
    result = settle(dict.fromkeys(range(1000), UNKNOWN), POLICY, now=ARRIVAL, arrival=ARRIVAL, chance=0.5)
    assert [reason.ordinals for reason in result.reasons] == [tuple(range(1000))]


def test_other_words_or_another_host_are_another_reason() -> None:
    elsewhere = Outcome(Verdict.FAILED, UNKNOWN.reply, Scope.RECIPIENT, "mx2.test")
    otherwise = Outcome(Verdict.FAILED, Reply(550, "5.7.1 unwanted"), Scope.RECIPIENT, "mx.test")
    found = {0: UNKNOWN, 1: elsewhere, 2: otherwise, 3: UNKNOWN}
    result = settle(found, POLICY, now=ARRIVAL, arrival=ARRIVAL, chance=0.5)
    assert [reason.ordinals for reason in result.reasons] == [(0, 3), (1,), (2,)]


def test_a_lifetime_ends_with_a_failed_attempt() -> None:
    soon = settle({0: LATER}, POLICY, now=ARRIVAL + POLICY.lifetime - 1, arrival=ARRIVAL, chance=0.0)
    assert soon.marks == {}
    over = settle({0: LATER, 1: DONE}, POLICY, now=ARRIVAL + POLICY.lifetime, arrival=ARRIVAL, chance=0.0)
    assert over.marks == {0: Stamp.FAILED}
    assert over.failed == {0: Outcome(Verdict.FAILED, OVER, Scope.RECIPIENT, "mx.test")}
    assert over.reasons[0].reply == OVER
    assert over.deferred == {}


def deferred(text: str) -> Outcome:
    return Outcome(Verdict.DEFERRED, Reply(451, text), Scope.RECIPIENT, "mx.test")


@pytest.mark.parametrize("age", [300.0, 3600.0, 86400.0])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_a_named_pause_is_met_and_at_most_a_tenth_later(age: float, chance: float) -> None:
    now = ARRIVAL + age
    found = {0: deferred("4.7.1 Greylisted, try again in 5 minutes")}
    retry_at = settle(found, POLICY, now=now, arrival=ARRIVAL, chance=chance).retry_at
    assert now + 300 <= retry_at <= now + 330


def test_the_longest_of_several_named_pauses_counts() -> None:
    """Who names none is tried with them: the host itself said when."""
    found = {0: deferred("wait 5 minutes"), 1: deferred("wait 7 minutes"), 2: LATER, 3: UNKNOWN}
    result = settle(found, POLICY, now=ARRIVAL + 86400, arrival=ARRIVAL, chance=0.0)
    assert result.retry_at == ARRIVAL + 86400 + 420


def test_a_named_pause_is_no_longer_than_the_last_wait() -> None:
    result = settle({0: deferred("wait 20 hours")}, POLICY, now=ARRIVAL, arrival=ARRIVAL, chance=0.0)
    assert result.retry_at == ARRIVAL + POLICY.schedule[-1]


@pytest.mark.parametrize(
    ("age", "wait"), [(0.0, 10.0), (10.0, 10.0), (30.0, 30.0), (3600.0, 60.0), (-5.0, 10.0)]
)
def test_a_host_that_names_seconds_is_asked_no_more_often_than_the_first_wait(
    age: float, wait: float
) -> None:
    now = ARRIVAL + age
    result = settle({0: deferred("retry in 10 seconds")}, POLICY, now=now, arrival=ARRIVAL, chance=0.0)
    assert result.retry_at == now + wait


def test_what_a_failed_recipient_was_told_delays_nobody() -> None:
    gone = Outcome(Verdict.FAILED, Reply(550, "blocked for 3 hours"), Scope.RECIPIENT, "mx.test")
    result = settle({0: gone, 1: LATER}, POLICY, now=ARRIVAL, arrival=ARRIVAL, chance=0.0)
    assert result.retry_at == ARRIVAL + 60


def test_a_clock_that_jumped_back_gives_nobody_up() -> None:
    result = settle({0: LATER}, POLICY, now=ARRIVAL - 1e9, arrival=ARRIVAL, chance=0.0)
    assert (result.marks, set(result.deferred)) == ({}, {0})


@given(st.dictionaries(st.integers(0, 50), outcomes), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_nobody_is_forgotten_and_nobody_counted_twice(
    found: dict[int, Outcome], age: float, chance: float
) -> None:
    now = ARRIVAL + age
    result = settle(found, POLICY, now=now, arrival=ARRIVAL, chance=chance)
    done = {ordinal for ordinal, outcome in found.items() if outcome.verdict is Verdict.DELIVERED}
    assert set(result.failed) | set(result.deferred) | done == set(found)
    assert not (
        set(result.failed) & set(result.deferred) or done & (set(result.failed) | set(result.deferred))
    )
    assert result.marks == dict.fromkeys(result.failed, Stamp.FAILED)
    told = [ordinal for reason in result.reasons for ordinal in reason.ordinals]
    assert sorted(told) == sorted(result.failed)
    for reason in result.reasons:
        assert {(result.failed[o].reply, result.failed[o].host) for o in reason.ordinals} == {
            (reason.reply, reason.host)
        }
    assert result.retry_at > now


def test_rfc_4865_a_life_begins_when_the_mail_may_leave() -> None:
    """RFC 4865: what waited for its time as asked is tried as long as mail that came just then."""
    release = ARRIVAL + 6 * 86_400
    for age in (0.0, 61.0, POLICY.lifetime - 1, POLICY.lifetime):
        held = settle({0: LATER}, POLICY, now=release + age, arrival=ARRIVAL, release=release, chance=0.5)
        assert held == settle({0: LATER}, POLICY, now=release + age, arrival=release, chance=0.5)


def test_rfc_4865_after_a_try_before_its_time_mail_waits_for_it_again() -> None:
    """RFC 4865: an operator's try is one; it neither ends a life nor begins it."""
    named = Outcome(Verdict.DEFERRED, Reply(450, "4.7.1 try again in 60 seconds"), Scope.RECIPIENT, "mx.test")
    release = ARRIVAL + 7 * 86_400
    found = settle({0: named}, POLICY, now=release - 1, arrival=ARRIVAL, release=release, chance=0.5)
    assert (found.marks, found.retry_at) == ({}, release)
