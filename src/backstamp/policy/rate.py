"""Rates: the generic cell rate algorithm (ITU-T I.371, annex A). One number is all its state.

What goes out is paced, with a burst of one: spread evenly, so that no window of the rate's
length, wherever it is laid, holds more than its count: a hundred an hour is one every 36
seconds, not a hundred at once. What comes in is policed (`conforming`), with a burst of the
whole count: who was quiet may send all of it at once. Times are monotonic seconds given by
the caller.
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

    def earliest(self, now: float, booked: int = 0, after: float = -inf) -> float:
        """Return when one more may go, behind `booked` others that are about to; `now` if at once.

        `after` is a moment that counts as if one had gone then.
        """
        last = max(self._last, after)
        return max(now, nextafter(last + self.interval, inf)) + booked * self.interval

    def take(self, now: float) -> float:
        """Let one go; return when it may, `now` or later: the caller waits until then."""
        self._last = self.earliest(now)
        return self._last


def conforming(rate: Rate, due: float, now: float) -> float | None:
    """Let one in; return the new `due` (before the first, `-inf`), or None if it is too many.

    A hundred a minute: a hundred at once, then one every 0.6 seconds, so at most twice the count in any
    window of the rate's length. What is refused does not count. Once `due` is in the past it says nothing
    any more and may be forgotten.
    """
    interval = rate.seconds / rate.count
    start = max(due, now)
    # A thousandth is more than the sum of the intervals is off by rounding.
    if start - now > rate.seconds - interval * 0.999:
        return None
    return start + interval
