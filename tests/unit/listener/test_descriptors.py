"""File descriptors that run out: who is refused, and what an operator is told."""

import errno
import os
from math import inf

import pytest
from tests.support.queues import TestClock

from backstamp.listener import descriptors
from backstamp.listener.descriptors import MINUTE, RESERVE, Descriptors
from backstamp.telemetry.events import Alarm, Event


class Many:
    """Descriptors of a process that has `open` of `limit`."""

    def __init__(self, limit: float) -> None:
        self.limit, self.open = limit, 0.0
        self.events: list[Event] = []
        self.clock = TestClock()
        self.here = Descriptors(
            clock=self.clock, emit=self.events.append, limit=lambda: self.limit, lowest=lambda: self.open
        )

    def said(self) -> list[str]:
        return [event.problem for event in self.events if isinstance(event, Alarm)]


@pytest.mark.parametrize(
    ("limit", "first"), [(1024, 1024 - RESERVE), (1_000_000, 1_000_000 - RESERVE), (64, 56), (inf, inf)]
)
def test_the_last_ones_are_kept_back(limit: float, first: float) -> None:
    many = Many(limit)
    many.open = first - 1 if first < inf else 10**9
    assert not many.here.scarce()
    assert many.said() == []
    many.open = first
    assert many.here.scarce()


def test_an_operator_is_told_once_a_minute_and_when_it_is_over() -> None:
    many = Many(1000)
    many.open = 990
    for _ in range(50):
        assert many.here.scarce()
    assert many.said() == ["file descriptors run out: at least 990 of 1000 are open"]
    many.clock.advance(MINUTE)
    many.open = inf
    assert many.here.scarce()
    assert many.said()[1:] == ["file descriptors run out: all of 1000 are open"]
    many.open = 10
    assert not many.here.scarce()
    many.clock.advance(MINUTE - 1)
    assert not many.here.scarce()
    assert len(many.said()) == 2
    many.clock.advance(1)
    assert not many.here.scarce()
    assert many.said()[2:] == ["file descriptors ran out: there are enough again"]


def test_a_limit_that_is_raised_holds_at_once() -> None:
    many = Many(100)
    many.open = 99
    assert many.here.scarce()
    many.limit = 1000
    assert not many.here.scarce()


@pytest.mark.parametrize(
    ("number", "next_one"), [(errno.EMFILE, inf), (errno.ENFILE, inf), (errno.EACCES, 0)]
)
def test_none_at_all_is_more_than_any(number: int, next_one: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(descriptors.os, "open", refuse)
    assert descriptors._lowest() == next_one
