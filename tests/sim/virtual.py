"""An event loop on virtual time: when nothing is ready it jumps to the next timer, and never waits.

A week of retries passes in the time its work takes. There are no sockets and no threads; what
would wait for either is refused. Two ways to hang are errors instead: nothing is ready and no
timer is set (a deadlock), or time stands still for very many turns (a livelock). Everything
runs in an order that follows from the program alone, so one seed gives one trace.
"""

import asyncio
import random
from asyncio.base_events import BaseEventLoop
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop, heappush
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
    """asyncio's own loop with a turn of ours: it has no selector, and turns the clock. Seconds begin at 0."""

    def __init__(self, turns: int = TURNS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._now = 0.0
        self._turns = self._left = turns
        self._cancelled = 0
        """Timers that were cancelled and still stand in the heap."""
        # As asyncio's own loop has them; what is private there is needed here.
        self._ready: deque[Any]
        self._scheduled: list[Any]
        self._stopping: bool

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def _run_once(self) -> None:
        """Run what is ready; where nothing is, go to the next timer first.

        A timer is due exactly when it says: whoever is let go a moment early and asks again
        would find the same moment for ever.
        """
        ready, timers = self._ready, self._scheduled
        if self._cancelled > 1000 and 2 * self._cancelled > len(timers):
            timers[:] = [timer for timer in timers if not timer._cancelled]
            heapify(timers)
            self._cancelled = 0
        while timers and timers[0]._cancelled:
            heappop(timers)._scheduled = False
            self._cancelled -= 1
        if ready or self._stopping:
            self._left -= 1
            if not self._left:
                raise LivelockError(f"{self._turns} turns at second {self._now}")
        elif timers:
            self._now = timers[0]._when
            self._left = self._turns
        else:
            raise DeadlockError(f"nothing is ready and no timer is set; tasks: {self._waiting()}")
        now = self._now
        while timers and timers[0]._when <= now:
            timer = heappop(timers)
            timer._scheduled = False
            self._cancelled -= timer._cancelled
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Run a callback in the next turn (without asyncio's checks: it is called a million times)."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Run a callback at a time, at once if that is past."""
        timer: Any = asyncio.TimerHandle(max(when, self._now), callback, args, self, context)
        timer._scheduled = True
        heappush(self._scheduled, timer)
        return timer

    def _timer_handle_cancelled(self, handle: Any) -> None:
        self._cancelled += handle._scheduled

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
