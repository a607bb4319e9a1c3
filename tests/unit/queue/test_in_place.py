"""While a segment is copied nobody works on its messages: their stamps would stay behind (compaction)."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

from tests.support.queues import local_queue, message

from backstamp.mail.reply import Reply
from backstamp.queue.local import LocalQueue
from backstamp.queue.operations import act
from backstamp.queue.port import Reason
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp


async def waits_for(segment: Segment, work: Awaitable[object]) -> None:
    """Begin some work while a segment is copied: it must not end before the copy stands."""
    segment.copied = asyncio.get_running_loop().create_future()
    begun = asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    assert not begun.done()
    copied, segment.copied = segment.copied, None
    copied.set_result(None)
    async with asyncio.timeout(20):
        await begun


async def one(root: Path) -> tuple[LocalQueue, Segment]:
    queue = await local_queue(root)
    sent = message(b"a@one.example", b"b@two.example")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    return queue, entry.segment


async def test_an_operator_waits(tmp_path: Path) -> None:
    queue, segment = await one(tmp_path / "q")
    [entry] = [entry for entry in segment.entries if entry is not None]
    await waits_for(segment, act(queue, "hold", entry, [0, 1]))
    assert entry.ordinals(Stamp.HELD) == (0, 1)
    await queue.close()


async def test_an_attempt_waits(tmp_path: Path) -> None:
    queue, segment = await one(tmp_path / "q")
    await waits_for(segment, queue.load(await queue.claim(1)))
    await queue.close()


async def test_a_report_waits(tmp_path: Path) -> None:
    queue, segment = await one(tmp_path / "q")
    for delivery in await queue.claim(2):
        load = await queue.load([delivery])
        marks = dict.fromkeys(load.recipients, Stamp.FAILED)
        await queue.stamp(delivery, marks, [Reason(tuple(marks), Reply(550, "5.1.1 no"))])
        queue.give_back(delivery, 0.0)
    await waits_for(segment, queue.claim_report())
    await queue.close()
