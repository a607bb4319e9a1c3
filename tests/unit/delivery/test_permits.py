"""Permits: never more than allowed, nobody waits while there is room, whoever waits longest is next."""

from typing import Any

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
    assert permits.wanted(one)
    assert not permits.wanted(two)


def test_what_is_given_back_goes_to_the_one_that_waited_longest() -> None:
    permits, shared = Permits(), throttle(1)
    lanes = [lane(throttle(9), shared) for _ in range(4)]
    for one in lanes:
        permits.ask(one, 0.0)
    assert list(permits.served(lanes[0], 0.0)) == []
    permits.give_back(lanes[0])
    permits.ask(lanes[0], 0.0)
    assert permits.waits(lanes[0]) is None
    permits.give_back(lanes[0])
    found = []
    for chosen in permits.served(lanes[0], 0.0):
        found.append(chosen)
        permits.ask(chosen, 0.0)
    assert found == [lanes[1]]
    assert permits.waits(lanes[2]) is shared
    permits.give_back(lanes[1])
    # One that has nothing to do any more takes none, and the next is served.
    assert list(permits.served(lanes[1], 0.0)) == [lanes[2], lanes[3]]
    assert not permits.waiting


def test_a_lane_wants_for_others_not_for_itself() -> None:
    permits, shared = Permits(), throttle(1)
    one, two = lane(shared), lane(shared)
    permits.ask(one, 0.0)
    permits.ask(one, 0.0)
    assert not permits.wanted(one)
    permits.ask(two, 0.0)
    assert permits.wanted(one)
    permits.forget(one)
    assert permits.wanted(one)
    assert permits.waits(one) is None
    permits.forget(two)
    permits.forget(two)
    assert not permits.waiting
    assert not permits.wanted(one)


def test_what_comes_with_time_is_not_waited_for_here() -> None:
    permits, own = Permits(), throttle(5, connection_rate=Rate(1, 10.0))
    one = lane(own)
    permits.ask(one, 0.0)
    one.connect(0.0)
    at, why = permits.ask(one, 1.0)
    assert (10.0 <= at < 10.1, why) == (True, own)
    assert not permits.waiting
    assert own.held == 1


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
            assert (permits.waits(one) is why) == (at == NEVER)

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
