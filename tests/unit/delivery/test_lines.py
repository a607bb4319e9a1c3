"""Lines: whoever came first stands first."""

from typing import Any

from backstamp.delivery.lane import Lane, Way
from backstamp.delivery.lines import Lines
from backstamp.delivery.throttle import Throttle
from backstamp.policy.destination import DestinationPolicy

WAY = Way("d.example", DestinationPolicy(), lambda: None)  # type: ignore[arg-type,return-value]


def test_a_lane_stands_where_it_came_in_one_line() -> None:
    lines = Lines()
    here, there = (Throttle(name, DestinationPolicy()) for name in ("here", "there"))
    one, two, three = lanes = [Lane[Any](object(), WAY, ()) for _ in range(3)]
    assert not lines
    for lane in lanes:
        lines.stand(lane, here)
    lines.stand(one, here)
    assert [lines.before(lane) for lane in lanes] == [0, 1, 2]
    assert (lines.first(here), lines.first(here, but=one), lines.first(there)) == (one, two, None)
    lines.stand(one, there)
    assert (lines.at(one), lines.before(one)) == (there, 0)
    lines.stand(one, here, first=True)
    assert dict(lines) == {here: (one, two, three)}
    for lane in (*lanes, one):
        lines.leave(lane)
    assert not lines
    assert (lines.at(one), lines.before(one)) == (None, 0)
