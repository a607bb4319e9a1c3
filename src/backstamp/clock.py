"""The clock room: the only place that reads time.

Shells take a `Clock`; pure code takes plain numbers. Wall time is for what people and
mail see (arrival, Date), monotonic time for how long something took or may take.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What a shell may ask about time."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; never goes back, stands still while the machine sleeps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        return time.monotonic()
