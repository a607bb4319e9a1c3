"""A call at a time of the loop that can be asked when.

asyncio's `TimerHandle` can; what uvloop's `call_at` gives for less than half a millisecond is a plain
`Handle`, which cannot.
"""

import asyncio
from collections.abc import Callable


class Timer:
    """One call. `when` is its time, in the loop's seconds."""

    __slots__ = ("_handle", "when")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, when: float, call: Callable[..., object], *what: object
    ) -> None:
        self.when = when
        self._handle: asyncio.Handle = loop.call_at(when, call, *what)

    def cancel(self) -> None:
        """Do not call."""
        self._handle.cancel()
