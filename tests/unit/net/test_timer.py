"""A timer tells when, on both loops, however near that is."""

import asyncio

import pytest

from backstamp.net.timer import Timer


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0001, 0.0004, 0.01])
async def test_it_calls_and_knows_when(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    when = loop.time() + seconds
    timer = Timer(loop, when, called.set)
    assert timer.when == when
    await asyncio.wait_for(called.wait(), 10)


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_one_that_is_cancelled_does_not_call(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    called: list[object] = []
    Timer(loop, loop.time() + seconds, called.append, "never").cancel()
    await asyncio.sleep(0.05)
    assert not called
