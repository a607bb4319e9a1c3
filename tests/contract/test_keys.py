"""Q13 over every engine: of submissions with one key one is queued, and all are told its id."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.support.queues import TestClock, local_queue, message

from backstamp.queue import keys
from backstamp.queue.engine import Engine
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Alarm, Event

KEY = keys.digest(b"user u", b"order 4711")
OTHER = keys.digest(b"user v", b"order 4711")
Open = Callable[..., contextlib.AbstractAsyncContextManager[Engine]]


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture(params=["memory", "local"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: TestClock, events: list[Event]) -> Open:
    @contextlib.asynccontextmanager
    async def open_(limit: int = keys.KEYS_LIMIT) -> AsyncIterator[Engine]:
        if request.param == "memory":
            queue = MemoryQueue(clock=clock, emit=events.append)
            queue.once.index._limit = limit
            yield queue
            return
        local = await local_queue(tmp_path / "queue", events, clock=clock, keys=limit)
        try:
            yield local
        finally:
            await local.close()

    return open_


async def test_the_second_of_a_key_is_told_the_first_and_not_queued(opened: Open) -> None:
    """Q13."""
    async with opened() as queue:
        first = message(b"a@one.example", key=KEY)
        assert await queue.append(first) == first.queue_id
        assert (
            await queue.append(message(b"b@two.example", content=b"something else", key=KEY))
            == first.queue_id
        )
        assert [one.queue_id for one in await queue.claim(10)] == [first.queue_id]


async def test_without_a_key_and_with_another_one_mail_is_its_own(opened: Open) -> None:
    async with opened() as queue:
        sent = [message(b"a@one.example", key=key) for key in (b"", b"", KEY, OTHER)]
        assert [await queue.append(one) for one in sent] == [one.queue_id for one in sent]
        assert len(await queue.claim(10)) == 4


async def test_a_key_stands_for_its_message_for_a_day(opened: Open, clock: TestClock) -> None:
    async with opened() as queue:
        first = message(b"a@one.example", key=KEY)
        await queue.append(first)
        clock.advance(24 * 3600 - 1)
        assert await queue.append(message(b"a@one.example", key=KEY)) == first.queue_id
        clock.advance(1)
        later = message(b"a@one.example", key=KEY, arrival=clock.wall())
        assert await queue.append(later) == later.queue_id
        assert await queue.append(message(b"a@one.example", key=KEY)) == later.queue_id


async def test_a_key_stands_for_a_message_that_is_finished(opened: Open) -> None:
    async with opened() as queue:
        first = message(b"a@one.example", key=KEY)
        await queue.append(first)
        [delivery] = await queue.claim(1)
        await queue.load([delivery])
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
        queue.give_back(delivery, 0.0)
        assert queue.find(first.queue_id) is None
        assert await queue.append(message(b"a@one.example", key=KEY)) == first.queue_id


async def test_of_two_at_once_the_second_waits_for_the_first(opened: Open) -> None:
    """Q13: nobody is told 250 before the one that stands for it is durable."""
    async with opened() as queue:
        sent = [message(b"a@one.example", key=KEY) for _ in range(3)]
        tasks = [asyncio.create_task(queue.append(one)) for one in sent]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert tasks[0] in done
        assert await asyncio.gather(*tasks) == [sent[0].queue_id] * 3
        assert len(await queue.claim(10)) == 1


async def test_where_nobody_waits_for_the_first_any_more_the_second_is_told_its_outcome(opened: Open) -> None:
    async with opened() as queue:
        first, second = (message(b"a@one.example", key=KEY) for _ in range(2))
        gone = asyncio.create_task(queue.append(first))
        waits = asyncio.create_task(queue.append(second))
        await asyncio.sleep(0)
        gone.cancel()
        stands = await waits
        assert stands in (first.queue_id, second.queue_id)
        assert [one.queue_id for one in await queue.claim(10)] == [stands]


async def test_a_large_message_is_told_the_first_too(opened: Open) -> None:
    async with opened() as queue:
        sent = [message(b"a@one.example", key=KEY) for _ in range(2)]
        deposits = [await queue.deposit(one) for one in sent]
        for deposit in deposits:
            await deposit.write(b"more\r\n")
        assert [await deposit.commit() for deposit in reversed(deposits)] == [sent[1].queue_id] * 2
        assert await queue.append(sent[0]) == sent[1].queue_id
        [delivery] = await queue.claim(10)
        assert delivery.queue_id == sent[1].queue_id


async def test_the_record_tells_the_key_and_what_came_stays(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", key=KEY, parameters=b"BODY=8BITMIME"))
        load = await queue.load(await queue.claim(1))
        assert load.parameters == b"BODY=8BITMIME KEY=%b" % keys.named_text(KEY)


async def test_beyond_the_limit_the_oldest_keys_are_forgotten_with_an_alarm(
    opened: Open, events: list[Event]
) -> None:
    async with opened(limit=32) as queue:
        sent = [message(b"a@one.example", key=keys.digest(b"u", b"%d" % number)) for number in range(33)]
        for one in sent:
            await queue.append(one)
        assert any(isinstance(event, Alarm) and "oldest 2" in event.problem for event in events)
        fresh = message(b"a@one.example", key=sent[0].key)
        assert await queue.append(fresh) == fresh.queue_id
        assert await queue.append(message(b"a@one.example", key=sent[32].key)) == sent[32].queue_id
