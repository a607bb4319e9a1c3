"""An event loop on virtual time: when nothing is ready it jumps to the next timer, and never waits.

A week of retries passes in the time its work takes. There are no sockets and no threads; what
would wait for either is refused. Two ways to hang are errors instead: nothing is ready and no
timer is set (a deadlock), or time stands still for very many turns (a livelock). Everything
runs in an order that follows from the program alone, so one seed gives one trace.
"""

import asyncio
import math
import random
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

EPOCH = 1_800_000_000.0
"""What the wall clock shows when a simulation begins: seconds since 1970."""

TURNS = 1_000_000
"""Turns of the loop within one moment after which nobody believes that it ends."""

T = TypeVar("T")


class DeadlockError(Exception):
    """Every task waits for another, and no timer will wake any."""


class LivelockError(Exception):
    """The loop is busy and time stands still."""


class VirtualLoop(BaseEventLoop):
    """asyncio's own loop over a selector that turns the clock. Seconds begin at 0."""

    def __init__(self, turns: int = TURNS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._selector = _Jump(self, turns)
        self._now = 0.0
        # A timer is due exactly when it says: one that is let go a moment early and asks again
        # would find the same moment for ever.
        self._clock_resolution = math.ulp(0.0)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def jump(self) -> None:
        """Go to the next timer. Raises DeadlockError: there is none."""
        if not self._scheduled:
            raise DeadlockError(f"nothing is ready and no timer is set; tasks: {self._waiting()}")
        self._now = max(self._now, self._scheduled[0].when())
        self._clock_resolution = math.ulp(self._now)

    def run_in_executor(self, executor: Any, function: Callable[..., T], *args: Any) -> Any:
        """Run it at once, here: a thread would come back at a time of its own."""
        future = self.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        """Refuse: names are the world's."""
        raise RuntimeError("the virtual loop has no network")

    def _process_events(self, _: object) -> None:
        """There are none: nothing is ever ready but by a timer or another callback."""

    def _write_to_self(self) -> None:
        """Nobody else could have to wake it."""

    def _waiting(self) -> str:
        """Say where tasks stand."""
        lines = []
        for task in sorted(asyncio.all_tasks(self), key=lambda one: one.get_name()):
            stack = task.get_stack(limit=1)
            place = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else "?"
            lines.append(f"{task.get_name()} at {place}")
        return "; ".join(lines[:20]) or "none"


class _Jump:
    """What the loop takes for a selector."""

    def __init__(self, loop: VirtualLoop, turns: int) -> None:
        self._loop = loop
        self._turns = turns
        self._left = turns

    def select(self, timeout: float | None) -> tuple[()]:
        """Return that nothing happened, `timeout` seconds later (None: whenever something would)."""
        if timeout == 0:
            self._left -= 1
            if not self._left:
                raise LivelockError(f"{self._turns} turns at second {self._loop.time()}")
        else:
            self._loop.jump()
            self._left = self._turns
        return ()


class VirtualClock:
    """The clock room's clock on a virtual loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch: float = EPOCH) -> None:
        self._loop = loop
        self.epoch = epoch

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        return self.epoch + self._loop.time()

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return self._loop.time()


def run(main: Callable[[random.Random], Coroutine[Any, Any, T]], seed: int = 0) -> T:
    """Run a coroutine on a virtual loop of its own to its end; all its chance comes from the seed."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(random.Random(seed)))
