"""How many connections a destination gets: slow start, feedback, and a ceiling it was taught. Pure.

The window begins with one connection, opens to its initial size when the first transaction
was answered, and then grows by one for every window's worth of answers (as Postfix's
positive feedback of 1/concurrency). Failures of the host halve it, once for those that come
together. A host that counts connections teaches a ceiling: what it let have. Only one
connection at a time ever tries for more, after a pause that doubles with every refusal, so
that hardly any attempt meets the refusal again. Times are monotonic seconds.
"""

from typing import Final

import msgspec

PROBE: Final = 60.0
"""Seconds until a taught ceiling is tried for the first time; doubled with every refusal."""

PROBE_MOST: Final = 3600.0
"""The longest such pause."""

TOGETHER: Final = 1.0
"""Seconds within which failures count as one."""


class Window(msgspec.Struct):
    """Connections allowed at a time; `most` and `initial` are the policy's."""

    most: int
    initial: int
    size: float = 1.0
    ceiling: int | None = None
    """What the host let have when it refused more."""
    probe_at: float = 0.0
    """When one more than the ceiling may be tried."""
    pause: float = PROBE
    """Seconds until the next probe after a refusal."""
    halved: float = float("-inf")

    def limit(self, now: float) -> int:
        """Return how many connections may be held now."""
        size, most = int(self.size), self.most
        most = min(most, size)
        if self.ceiling is not None:
            most = min(most, self.ceiling + (now >= self.probe_at))
        return max(1, most)

    @property
    def bound(self) -> int:
        """Connections the host and the operator let have, however carefully this relay begins."""
        return self.most if self.ceiling is None else min(self.most, self.ceiling)

    def probes(self, held: int) -> bool:
        """Tell whether a connection is a probe: with it `held` connections are above the ceiling."""
        return self.ceiling is not None and held > self.ceiling

    def adopt(self, most: int, initial: int) -> None:
        """Take other bounds; what was learned stays."""
        self.most, self.initial = most, initial
        self.size = min(self.size, float(max(1, most)))

    def answered(self, now: float, *, probe: bool = False, held: int = 0) -> bool:
        """A transaction was answered, on a probe or not, while `held` connections stood.

        Tell whether the ceiling was raised.
        """
        if self.size < self.most:
            first = min(self.initial, self.most)
            self.size = float(first) if self.size < first else self.size + 1 / self.size
        if not probe or self.ceiling is None or held <= self.ceiling:
            return False
        self.ceiling = held
        self.pause = PROBE
        self.probe_at = now + PROBE
        if self.ceiling >= self.most:
            self.ceiling = None
        return True

    def failed(self, now: float) -> bool:
        """The host failed; tell whether the window shrank. Failures that come together count once."""
        if now < self.halved + TOGETHER or self.size <= 1:
            return False
        self.halved = now
        self.size = max(1.0, self.size / 2)
        return True

    def refused(self, now: float, others: int) -> bool:
        """The host refused a connection for their number; `others` are held or on the way beside it.

        Tell whether the ceiling changed.
        """
        before = self.ceiling
        if before is not None and others >= before:
            # The probe did not get through: the ceiling was right.
            self.pause = min(PROBE_MOST, self.pause * 2)
        else:
            self.ceiling = max(1, others)
            self.size = min(self.size, float(self.ceiling))
        self.probe_at = now + self.pause
        return self.ceiling != before

    def lower(self, now: float, factor: float, seconds: float) -> None:
        """Allow fewer, a `factor` of what is allowed now, for so many seconds."""
        self.ceiling = max(1, int(self.limit(now) * factor))
        self.size = min(self.size, float(self.ceiling))
        self.pause = max(PROBE, seconds)
        self.probe_at = now + seconds
