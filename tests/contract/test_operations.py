"""What an operator may do, over every engine: nobody else's work is touched, nothing is sent twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.queues import TestClock, local_queue, message

from backstamp.queue.engine import Engine
from backstamp.queue.entry import Entry
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.operations import RETURNED, BusyError, act
from backstamp.queue.port import Flag
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Event


@pytest.fixture(params=["memory", "local"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    events: list[Event] = []
    if request.param == "memory":
        yield MemoryQueue(clock=TestClock(), emit=events.append)
    else:
        local = await local_queue(tmp_path / "q", events, clock=TestClock())
        yield local
        await local.close()


async def queued(queue: Engine, *recipients: bytes, flags: Flag = Flag.NONE) -> Entry:
    sent = message(*(recipients or (b"a@one.example", b"b@two.example")), flags=flags)
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    return entry


async def claimed(queue: Engine) -> dict[bytes, list[int]]:
    """Claim everything that is due and load it; return who is to be sent to, by domain."""
    found = {}
    while queue.ledger.scheduled():
        try:
            async with asyncio.timeout(0.05):
                claims = await queue.claim(100)
        except TimeoutError:
            break
        for claim in claims:
            found[claim.domain] = list((await queue.load([claim])).recipients)
            queue.give_back(claim, queue._clock.wall() + 1000)
    return {domain: ordinals for domain, ordinals in found.items() if ordinals}


async def test_held_is_not_sent_to_and_released_is_once(queue: Engine) -> None:
    entry = await queued(queue)
    assert await act(queue, "hold", entry, [0]) == (0,)
    assert await act(queue, "hold", entry, [0]) == ()
    assert await claimed(queue) == {b"two.example": [1]}
    assert await act(queue, "release", entry, [0, 1]) == (0,)
    assert await claimed(queue) == {b"one.example": [0]}


async def test_released_before_its_turn_it_is_still_one_delivery(queue: Engine) -> None:
    entry = await queued(queue, b"a@one.example")
    await act(queue, "hold", entry, [0])
    await act(queue, "release", entry, [0])
    [claim] = await queue.claim(10)
    await act(queue, "hold", entry, [0])
    await act(queue, "release", entry, [0])
    assert not queue.ledger.scheduled()
    assert list((await queue.load([claim])).recipients) == [0]
    queue.give_back(claim, 0.0)


async def test_while_an_attempt_is_under_way_nobody_interferes(queue: Engine) -> None:
    entry = await queued(queue, b"a@one.example")
    [claim] = await queue.claim(10)
    await queue.load([claim])
    for verb in ("hold", "retry", "remove", "bounce"):
        with pytest.raises(BusyError):
            await act(queue, verb, entry, [0])
    queue.give_back(claim, queue._clock.wall() + 1000)
    assert await act(queue, "retry", entry, [0]) == (0,)
    assert await claimed(queue) == {b"one.example": [0]}


async def test_removed_is_gone_without_a_report(queue: Engine) -> None:
    entry = await queued(queue)
    [claim, other] = await queue.claim(10)
    assert await act(queue, "remove", entry, [0, 1]) == (0, 1)
    assert (queue.ledger.messages, queue.ledger.waiting) == (0, 0)
    assert not (await queue.load([claim])).recipients
    queue.give_back(claim, 0.0)
    queue.give_back(other, 0.0)
    assert not queue.ledger.report_ready
    assert not queue.ledger.scheduled()


async def test_returned_is_reported_with_the_operators_reason(queue: Engine) -> None:
    entry = await queued(queue, b"a@one.example")
    assert await act(queue, "bounce", entry, [0]) == (0,)
    assert await claimed(queue) == {}
    owed = await queue.claim_report()
    assert [reason.reply for reason in owed.reasons] == [RETURNED]
    with pytest.raises(BusyError):
        # While its report is made nothing may change; what failed is nobody's any more anyway.
        entry.segment.image[entry.facts.first] = Stamp.TODO
        await act(queue, "remove", entry, [0])
    entry.segment.image[entry.facts.first] = Stamp.FAILED
    await queue.report(owed, None)
    assert queue.ledger.messages == 0


async def test_at_most_once_in_doubt_is_held_when_the_attempt_ends(queue: Engine) -> None:
    entry = await queued(queue, b"a@one.example", flags=Flag.AT_MOST_ONCE)
    [claim] = await queue.claim(10)
    await queue.load([claim])
    permit = queue.doubt(claim, [0])
    assert permit is not None
    await permit
    queue.give_back(claim, 0.0)
    assert entry.stamp(0) is Stamp.HELD
    assert await claimed(queue) == {}
    await act(queue, "release", entry, [0])
    assert await claimed(queue) == {b"one.example": [0]}


async def test_who_is_in_doubt_is_named_but_not_while_the_reply_may_come(queue: Engine) -> None:
    entry = await queued(queue, b"a@one.example", b"b@one.example")
    [claim] = await queue.claim(10)
    assert (await queue.load([claim])).doubts == ()
    assert queue.doubt(claim, [0, 1]) is None
    assert await queue.doubtful() == []
    queue.answered(claim, [1])
    queue.give_back(claim, 0.0)
    assert await queue.doubtful() == [(entry, (0,))]
    [claim] = await queue.claim(10)
    assert (await queue.load([claim])).doubts == (0,)
    queue.give_back(claim, 0.0)


async def test_at_most_once_that_is_held_is_named_among_those_in_doubt(queue: Engine) -> None:
    """They wait for a decision; ordinary mail that somebody holds waits for none about a doubt."""
    entry = await queued(queue, b"a@one.example", b"b@one.example", flags=Flag.AT_MOST_ONCE)
    ordinary = await queued(queue, b"a@one.example")
    await act(queue, "hold", ordinary, [0])
    claims = await queue.claim(10)
    [claim] = [one for one in claims if one.queue_id == entry.queue_id]
    await queue.load([claim])
    permit = queue.doubt(claim, [1])
    assert permit is not None
    await permit
    assert await queue.doubtful() == []
    queue.rest(claim)
    assert await queue.doubtful() == [(entry, (1,))]
    await act(queue, "release", entry, [1])
    assert await queue.doubtful() == []
