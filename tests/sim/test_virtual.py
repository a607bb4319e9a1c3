"""The virtual loop: asyncio as it is, on a clock that jumps; what would hang is an error."""

import asyncio
import random

import pytest
from tests.sim.virtual import EPOCH, DeadlockError, LivelockError, VirtualClock, VirtualLoop, run

WEEK = 7 * 86400.0


def test_a_week_passes_at_once() -> None:
    async def main(_: random.Random) -> float:
        await asyncio.sleep(WEEK)
        return asyncio.get_running_loop().time()

    assert run(main) == WEEK


def test_a_timer_is_due_when_it_says_however_late() -> None:
    async def main(_: random.Random) -> list[float]:
        loop = asyncio.get_running_loop()
        seen = []
        await asyncio.sleep(1e8)  # where a nanosecond is less than the clock can show
        while len(seen) < 3:
            due = loop.time() + 0.1
            while loop.time() < due:
                await asyncio.sleep(due - loop.time())
            seen.append(loop.time() - due)
        return seen

    assert run(main) == [0.0] * 3


def test_what_comes_earlier_runs_earlier() -> None:
    async def main(chance: random.Random) -> list[float]:
        loop = asyncio.get_running_loop()
        ran: list[float] = []
        for _ in range(500):
            loop.call_later(chance.random() * 1000, lambda: ran.append(loop.time()))
        await asyncio.sleep(1000)
        return ran

    ran = run(main)
    assert len(ran) == 500
    assert ran == sorted(ran)


def test_timeouts_groups_and_events_work() -> None:
    async def main(_: random.Random) -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        told: list[tuple[str, float]] = []
        event = asyncio.Event()

        async def waits() -> None:
            await event.wait()
            told.append(("woken", loop.time()))

        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600):
                    await asyncio.sleep(WEEK)
            told.append(("timeout", loop.time()))
            event.set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 10)
        told.append(("wait_for", loop.time()))
        return told

    assert run(main) == [("timeout", 3600.0), ("woken", 3600.0), ("wait_for", 3610.0)]


def test_a_deadlock_is_an_error_that_names_who_waits() -> None:
    async def main(_: random.Random) -> None:
        asyncio.current_task().set_name("forgotten")  # type: ignore[union-attr]
        await asyncio.sleep(5)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError, match=r"forgotten at .*test_virtual.py:\d+"):
        run(main)


def test_time_that_stands_still_is_an_error() -> None:
    async def main() -> None:
        await asyncio.sleep(5)
        while True:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(turns=1000)) as runner:
        with pytest.raises(LivelockError, match=r"second 5\.0"):
            runner.run(main())


def test_many_turns_with_time_between_them_are_none() -> None:
    async def main() -> None:
        for _ in range(3000):
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(turns=1000)) as runner:
        runner.run(main())


def test_the_clock_is_the_loops() -> None:
    async def main(_: random.Random) -> tuple[float, float]:
        clock = VirtualClock(asyncio.get_running_loop())
        await asyncio.sleep(12.5)
        return clock.wall(), clock.monotonic()

    assert run(main) == (EPOCH + 12.5, 12.5)


def test_threads_and_names_are_refused() -> None:
    async def main(_: random.Random) -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="no network"):
            await loop.getaddrinfo("localhost", 25)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 7)

    assert run(main) == 7


def test_one_seed_gives_one_trace() -> None:
    async def main(chance: random.Random) -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        trace = []

        async def worker(number: int) -> None:
            for _ in range(20):
                await asyncio.sleep(chance.choice((0.0, 0.5, chance.random())))
                trace.append((loop.time(), number))

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(worker(number))
        return trace

    assert run(main, 1) == run(main, 1)
    assert run(main, 1) != run(main, 2)
