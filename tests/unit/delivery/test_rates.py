"""Turns at a rate of messages: who stood there before goes before."""

from typing import Any

from backstamp.delivery.lane import Lane, Way
from backstamp.delivery.rates import Rates
from backstamp.delivery.throttle import Throttle
from backstamp.policy.destination import DestinationPolicy, Rate

WAY = Way("d.example", DestinationPolicy(), lambda: None)  # type: ignore[arg-type,return-value]


def throttle(seconds: float) -> Throttle:
    return Throttle("some", DestinationPolicy(message_rate=Rate(1, seconds)))


def lane(*throttles: Throttle) -> Lane[Any]:
    return Lane(object(), WAY, throttles)


def test_whoever_stands_in_line_goes_in_its_order() -> None:
    rates, shared = Rates(), throttle(10.0)
    one, two, three = (lane(shared) for _ in range(3))
    assert rates.before(one) is None
    for each in (one, two, one):
        rates.stand(each, 0.0)
    # Whoever stands first has its turn; all others, who is new too, come after it.
    assert [rates.before(each) for each in (one, two, three)] == [None, one, one]
    rates.leave(one)
    assert [rates.before(each) for each in (one, two, three)] == [two, None, two]
    rates.leave(two)
    rates.leave(two)
    assert rates.before(one) is None


def test_a_lane_stands_at_the_rate_that_keeps_it_off_the_longest() -> None:
    rates, own, shared = Rates(), throttle(100.0), throttle(10.0)
    slow, other = lane(own, shared), lane(shared)
    slow.send(0.0)
    rates.stand(slow, 1.0)
    assert rates.lines.at(slow) is own
    assert rates.before(other) is None
    shared.pause(1.0, 1000.0, "")
    rates.stand(slow, 2.0)
    assert rates.lines.at(slow) is shared
    assert rates.before(other) is slow


def test_who_is_called_counts_at_the_rates_until_it_comes() -> None:
    shared = throttle(10.0)
    one, two = lane(shared), lane(shared)
    one.idle.append("idle")
    assert one.wake() == "idle"
    assert (one.woken, one.coming) == (1, 1)
    assert two.may_send(5.0) > 14.9
    one.come()
    assert two.may_send(5.0) == 5.0
