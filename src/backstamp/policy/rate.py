"""Rates: the generic cell rate algorithm (ITU-T I.371, annex A), with a burst of one.

What may go is spread evenly, so that no window of the rate's length, wherever it is laid,
holds more than its count: a hundred an hour is one every 36 seconds, not a hundred at once.
One number is all its state. Times are monotonic seconds given by the caller.
"""

from math import inf, nextafter

from backstamp.policy.destination import Rate


class Pacer:
    """When the next may go."""

    def __init__(self, rate: Rate) -> None:
        self._last = -inf
        self.set(rate)

    def set(self, rate: Rate) -> None:
        """Take another rate; what went last still counts, under the new one."""
        self.rate = rate
        # Rounded up, here and below: a hundred intervals must not come out shorter than their sum.
        self.interval = nextafter(rate.seconds / rate.count, inf)

    def earliest(self, now: float, booked: int = 0) -> float:
        """Return when one more may go, behind `booked` others that are about to; `now` if at once."""
        return max(now, nextafter(self._last + self.interval, inf)) + booked * self.interval

    def take(self, now: float) -> float:
        """Let one go; return when it may, `now` or later: the caller waits until then."""
        self._last = self.earliest(now)
        return self._last
