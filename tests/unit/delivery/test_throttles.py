"""All throttles: what was learned is not lost with a throttle nobody needs, and not kept when it is over."""

from typing import Any

import pytest

from backstamp.delivery import throttles
from backstamp.delivery.lane import Way
from backstamp.delivery.router import Bound
from backstamp.delivery.throttle import KEPT, TRIED, Capacity, Learned
from backstamp.delivery.throttles import Throttles
from backstamp.policy.destination import DestinationPolicy

POLICY = DestinationPolicy(connections=20)
WALL = 1_800_000_000.0


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


def way(name: str) -> tuple[Bound, Way]:
    made: Any = lambda: None  # noqa: E731
    return Bound(0.0), Way(name, POLICY, made)


def test_a_ceiling_outlives_the_throttle_that_learned_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many destinations come in between."""
    monkeypatch.setattr(throttles, "BOUND", 5)
    every = Throttles(1000, (), Clock())
    taught, _ = every.of(*way("first.example"))
    taught.window.refused(100.0, 2)
    for number in range(20):
        every.of(*way(f"d{number}.example"))
    assert "first.example" not in every.known
    assert [one.ceiling for one in every.learned()] == [2]
    again, _ = every.of(*way("first.example"))
    assert again.window.ceiling == 2
    assert [one.ceiling for one in every.learned()] == [2]


@pytest.mark.parametrize(
    ("learned", "until"),
    [
        (Learned("d.example", paused_until=WALL + 60), 60.0),
        (Learned("d.example", slow_until=WALL + 60), 60.0),
        (Learned("d.example", 7, WALL + 60), 60.0 + TRIED),
        (Learned("d.example", recipients=Capacity(2, "452 too many", WALL)), KEPT),
        (Learned("d.example", paused_until=WALL + 60, messages=Capacity(2, "421 enough", WALL)), KEPT),
    ],
)
def test_what_is_over_is_not_kept_for_ever(learned: Learned, until: float) -> None:
    """Of a destination that never has mail again: else the file grows with every one there ever was."""
    clock = Clock(until - 1)
    every = Throttles(1000, [learned], clock)
    assert every.learned() == [learned]
    clock.now = until + 1
    assert every.learned() == []
    assert every.remembered == {}
