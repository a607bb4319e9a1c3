"""Rates: the generic cell rate algorithm (ITU-T I.371, annex A), with a burst of one.

What may go is spread evenly, so that no window of the rate's length, wherever it is laid,
holds more than its count: a hundred an hour is one every 36 seconds, not a hundred at once.
One number is all its state. Times are monotonic seconds given by the caller.
"""

from typing import Final

from backstamp.policy.destination import Rate

_ROUNDING: Final = 1 + 1e-9
"""A hundred intervals must not come out shorter than their sum by the rounding of each."""


class Pacer:
    """When the next may go."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.interval = rate.seconds / rate.count * _ROUNDING
        self._next = float("-inf")

    def set(self, rate: Rate) -> None:
        """Take another rate; what went last still counts, under the new one."""
        interval = rate.seconds / rate.count * _ROUNDING
        self._next += interval - self.interval
        self.rate, self.interval = rate, interval

    def earliest(self, now: float, booked: int = 0) -> float:
        """Return when one more may go, behind `booked` others that are about to; `now` if at once."""
        return max(now, self._next) + booked * self.interval

    def take(self, now: float) -> float:
        """Let one go; return when it may, `now` or later: the caller waits until then."""
        at = max(now, self._next)
        self._next = at + self.interval
        return at
