"""How long a client may take, for a command and for a content. Pure.

A command must be whole so many seconds after the last reply went out: octets that trickle in
earn nothing. A content has a deadline that its octets move (Postfix 3.7: smtpd_min_data_rate):
it begins as the longest time a content may stand still (RFC 5321 §4.5.3.2.5: three minutes for
a block), every octet adds the time it may take at the least rate, and it is never further off
than at the begin. So a client that is fast may stall for a while, one that is slow for good is
cut off, and each whole content has an end, also one that comes in chunks with commands between.
Times the relay takes itself are given back.
Times are monotonic seconds given by the caller; the timer of the session need only look at
`deadline` when it fires.
"""

from math import inf
from typing import Final

from backstamp.listener.settings import Limits

IDLE: Final = b"421 4.4.2 Idle for too long\r\n"
SLOW: Final = b"421 4.4.2 The message took too long\r\n"


class Pace:
    """The time of one session: waiting for a command, in a content, or the relay's own."""

    __slots__ = ("_deadline", "_end", "_limits", "_paused", "_reading")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._reading = False
        self._deadline = now + limits.idle
        self._end = inf
        """When the whole content must be there; never where none was begun."""
        self._paused: float | None = None
        """Since when the time is the relay's own."""

    def replied(self, now: float) -> None:
        """Begin to wait for a command: all replies were written."""
        self.resume(now)
        self._reading = False
        self._deadline = now + self._limits.idle

    def begin(self, now: float) -> None:
        """Begin to wait for a content (354 was written), or for one more chunk of it."""
        self.resume(now)
        self._reading = True
        self._deadline = now + self._limits.block
        if self._end == inf:
            self._end = now + self._limits.message

    def ended(self) -> None:
        """Know that the content is whole, or given up."""
        self._end = inf

    def took(self, octets: int, now: float) -> bytes | None:
        """Count octets that came; return the reply that ends the session if they came too late."""
        if (late := self.late(now)) is not None:
            return late
        if self._reading:
            full = now + self._limits.block
            rate = self._limits.min_data_rate
            self._deadline = min(full, self._deadline + octets / rate) if rate else full
        return None

    def pause(self, now: float) -> None:
        """Begin a time that is the relay's own (a slow disk, memory others hold): nothing is late in it."""
        if self._paused is None:
            self._paused = now

    def resume(self, now: float) -> None:
        """End it; the client has as much time left as it had."""
        if self._paused is not None:
            taken = now - self._paused
            self._paused = None
            self._deadline += taken
            self._end += taken

    def deadline(self, now: float) -> float:
        """Return when the session is to end unless octets come; never too early, so a timer may be late."""
        deadline = min(self._deadline, self._end)
        return deadline if self._paused is None else deadline + (now - self._paused)

    def late(self, now: float) -> bytes | None:
        """Return the reply that ends the session if its time is over."""
        if now < self.deadline(now):
            return None
        return SLOW if self._reading or self._end < self._deadline else IDLE
