"""Permits: never more than allowed, nobody waits while there is room, whoever waits longest is next."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstamp.delivery.lane import Lane, Way
from backstamp.delivery.permits import NEVER, Permits
from backstamp.delivery.throttle import Throttle
from backstamp.policy.destination import DestinationPolicy, Rate

WAY = Way("d.example", DestinationPolicy(), lambda: None)  # type: ignore[arg-type,return-value]


def throttle(connections: int, **knobs: Any) -> Throttle:
    made = Throttle("some", DestinationPolicy(connections=connections, **knobs))
    made.window.size = float(connections)
    return made


def lane(*throttles: Throttle) -> Lane[Any]:
    return Lane(object(), WAY, throttles)


def test_a_permit_is_one_of_each_throttle() -> None:
    permits, own, shared = Permits(), throttle(2), throttle(5)
    one = lane(own, shared)
    assert permits.ask(one, 0.0) == (0.0, None)
    assert (own.held, shared.held) == (1, 1)
    permits.give_back(one)
    assert (own.held, shared.held) == (0, 0)
    assert not permits.waiting


def test_without_throttles_everything_is_allowed() -> None:
    assert Permits().ask(lane(), 0.0) == (0.0, None)


def test_whoever_gets_none_waits_at_the_throttle_that_says_no() -> None:
    permits, own, other, shared = Permits(), throttle(9), throttle(9), throttle(1)
    one, two = lane(own, shared), lane(other, shared)
    permits.ask(one, 0.0)
    assert permits.ask(two, 0.0) == (NEVER, shared)
    assert permits.waiting
    assert permits.waits(two) is shared
    assert permits.waits(one) is None
    assert (other.held, shared.held) == (0, 1)
    assert permits.wanted(one, 0.0)
    assert not permits.wanted(two, 0.0)


def test_what_is_given_back_goes_to_the_one_that_waited_longest() -> None:
    permits, shared = Permits(), throttle(1)
    lanes = [lane(throttle(9), shared) for _ in range(4)]
    for one in lanes:
        permits.ask(one, 0.0)
    assert list(permits.served(lanes[0], 0.0)) == []
    permits.give_back(lanes[0])
    # Not to who had it and asks again, before those are called who wait.
    assert permits.ask(lanes[0], 0.0) == (NEVER, shared)
    found = []
    for chosen in permits.served(lanes[0], 0.0):
        found.append(chosen)
        permits.ask(chosen, 0.0)
    assert found == [lanes[1]]
    assert permits.waits(lanes[2]) is shared
    permits.give_back(lanes[1])
    # One that has nothing to do any more takes none, and the next is served.
    assert list(permits.served(lanes[1], 0.0)) == [lanes[2], lanes[3], lanes[0]]
    assert not permits.waiting


def test_a_lane_wants_for_others_not_for_itself() -> None:
    permits, shared = Permits(), throttle(1)
    one, two = lane(shared), lane(shared)
    permits.ask(one, 0.0)
    permits.ask(one, 0.0)
    assert not permits.wanted(one, 0.0)
    permits.ask(two, 0.0)
    assert permits.wanted(one, 0.0)
    permits.forget(one)
    assert permits.wanted(one, 0.0)
    assert permits.waits(one) is None
    permits.forget(two)
    permits.forget(two)
    assert not permits.waiting
    assert not permits.wanted(one, 0.0)


def test_whom_a_rate_keeps_off_stands_in_line_until_its_time() -> None:
    permits, shared = Permits(), throttle(5, connection_rate=Rate(1, 10.0))
    one, two, three = (lane(throttle(9), shared) for _ in range(3))
    permits.ask(one, 0.0)
    one.connect(0.0)
    at, why = permits.ask(two, 1.0)
    assert (10.0 <= at < 10.1, why) == (True, shared)
    assert permits.waits(two) is shared
    # There is room, and what another would open is wanted; what it has open is not.
    assert permits.wanted(one, 1.0, opening=True)
    assert not permits.wanted(one, 1.0)
    assert not permits.wanted(two, 1.0, opening=True)
    # Who is called too early stands first again, with a time; whoever comes new stands behind.
    assert permits.ask(three, 1.0)[1] is shared
    found = []
    for chosen in permits.served(one, 2.0):
        found.append(chosen)
        assert permits.ask(chosen, 2.0) == (at, shared)
    assert found == [two]
    # Its time comes: nobody who is new goes before it, and the next is called after it.
    assert permits.ask(one, 11.0) == (NEVER, shared)
    found = []
    for chosen in permits.called(shared, 11.0):
        found.append(chosen)
        assert permits.ask(chosen, 11.0)[0] == (0.0 if chosen is two else pytest.approx(21.0))
        chosen.connect(11.0)
    assert found == [two, three]
    assert shared.held == 2
    assert [permits.waits(each) for each in (one, two, three)] == [shared, None, shared]


def test_who_was_called_and_wants_nothing_leaves_the_line() -> None:
    permits, shared = Permits(), throttle(5, message_rate=Rate(1, 10.0))
    one, two, three = (lane(shared) for _ in range(3))
    one.send(0.0)
    assert permits.ask(two, 1.0)[1] is permits.ask(three, 1.0)[1] is shared
    found = []
    for chosen in permits.called(shared, 1.0):
        found.append(chosen)
        if chosen is three:
            permits.ask(chosen, 1.0)
    assert found == [two, three]
    assert [permits.waits(each) for each in (two, three)] == [None, shared]


def test_whoever_takes_a_permit_and_wants_another_is_no_reason_to_stop() -> None:
    permits, shared = Permits(), throttle(5, connection_rate=Rate(1, 10.0))
    one, two, three = (lane(shared) for _ in range(3))
    one.connect(0.0)
    for each in (one, two, three):
        assert permits.ask(each, 1.0)[1] is shared
    found = []
    for chosen in permits.called(shared, 20.0):
        found.append(chosen)
        assert permits.ask(chosen, 20.0) == (0.0, None)
        if found == [one]:
            # Those who stand there are first.
            assert permits.ask(chosen, 20.0) == (NEVER, shared)
    assert found == [one, two, three, one]


def test_a_ceiling_that_is_held_is_given_back_to_who_waits_for_a_probe() -> None:
    permits, shared = Permits(), throttle(5)
    one, two = lane(shared), lane(shared)
    permits.ask(one, 0.0)
    shared.window.refused(0.0, 1)
    at, why = permits.ask(two, 1.0)
    assert (at, why) == (shared.window.probe_at, shared)
    assert permits.wanted(one, 1.0)
    permits.give_back(one)
    assert [permits.ask(chosen, 1.0) for chosen in permits.served(one, 1.0)] == [(0.0, None)]


def test_whoever_waits_above_a_ceiling_knows_in_time_when_more_is_tried() -> None:
    """What is given back down to the ceiling is for nobody; from then on it is time that is waited for."""
    permits, shared = Permits(), throttle(5)
    one, two = lane(shared), lane(shared)
    for _ in range(3):
        permits.ask(one, 0.0)
    shared.window.refused(0.0, 2)
    shared.window.size = 5.0
    assert permits.ask(two, 1.0) == (NEVER, shared)
    permits.give_back(one)
    probe = shared.window.probe_at
    assert [permits.ask(chosen, 2.0) for chosen in permits.served(one, 2.0)] == [(probe, shared)]
    assert [permits.ask(chosen, probe) for chosen in permits.called(shared, probe)] == [(0.0, None)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "give", "give", "forget", "fail", "answer", "refuse", "pass")),
        st.integers(0, 5),
    ),
    max_size=150,
)


@settings(max_examples=200)
@given(st.tuples(*[st.integers(1, 4)] * 4), STEPS)
def test_never_more_than_allowed_and_nobody_waits_while_there_is_room(
    bounds: tuple[int, ...], steps: list[tuple[str, int]]
) -> None:
    """Lanes of two providers, some with a throttle of their own, under one bound for all.

    Windows shrink and grow meanwhile; what was given before a window shrank is all that may be above it.
    """
    permits, now = Permits(), 0.0
    provider, other, own, whole = [throttle(bound, initial_connections=bound) for bound in bounds]
    every = (provider, other, own, whole)
    lanes = [
        lane(provider, whole),
        lane(provider, own, whole),
        lane(other, whole),
        lane(other, whole),
        lane(provider, whole),
        lane(whole),
    ]
    held = dict.fromkeys(lanes, 0)

    def ask(one: Lane[Any]) -> None:
        if permits.waits(one) is not None:
            return
        before = {each: each.held for each in every}
        at, why = permits.ask(one, now)
        if why is None:
            held[one] += 1
            assert all(each.held <= each.window.limit(now) for each in one.throttles)
        else:
            assert before == {each: each.held for each in every}
            assert at == NEVER or at > now
            assert permits.waits(one) is why

    for act, number in steps:
        one = lanes[number]
        match act:
            case "ask":
                ask(one)
            case "give" if held[one]:
                held[one] -= 1
                permits.give_back(one)
            case "forget":
                permits.forget(one)
            case "fail":
                one.throttles[0].window.failed(now)
            case "answer":
                one.throttles[0].window.answered(now)
            case "refuse" if one.throttles[0].held > 1:
                one.throttles[0].window.refused(now, one.throttles[0].held - 1)
            case "pass":
                now += 20.0 * number
        for chosen in permits.served(one, now):
            ask(chosen)
        for each in every:
            assert each.held == sum(count for other, count in held.items() if each in other.throttles)
        for waits in lanes:
            # At the throttles of whoever changed something nobody is left waiting who could have a permit.
            where = permits.waits(waits)
            assert where is None or where not in one.throttles or where.held >= where.window.limit(now)
