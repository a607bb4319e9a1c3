"""The disk fails while the relay runs: nothing false is said, nobody gets a second copy (Q8)."""

import asyncio
import errno
import threading
from pathlib import Path

import pytest
from tests.support.client import send
from tests.support.faults import FaultyFiles
from tests.support.queues import local_queue, message
from tests.support.relay import relay

from backstamp import app
from backstamp.queue.port import QueueRefusedError, StampNotDurableError
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import Store
from backstamp.telemetry.events import Alarm, Event


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 452), (errno.EDQUOT, 452), (errno.EIO, 451)])
async def test_an_append_that_fails_is_refused_and_never_there(
    tmp_path: Path, number: int, code: int
) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files)
    before = message(b"before@y.example")
    await queue.append(before)
    files.failing[".mail"] = number
    with pytest.raises(QueueRefusedError) as refused:
        await queue.append(message(b"lost@y.example"))
    assert refused.value.reply.code == code
    assert any(isinstance(event, Alarm) for event in events)
    files.failing.clear()
    after = message(b"after@y.example")
    await queue.append(after)
    await queue.close()

    again = await local_queue(tmp_path / "q")
    assert {delivery.queue_id for delivery in await again.claim(10)} == {before.queue_id, after.queue_id}
    await again.close()


async def test_one_failing_append_does_not_fail_what_was_acknowledged(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files)
    sent = [message(b"u%d@y.example" % number) for number in range(5)]
    for one in sent[:3]:
        await queue.append(one)
    files.failing[".mail"] = errno.EIO
    outcomes = [asyncio.create_task(queue.append(one)) for one in sent[3:]]
    done, _ = await asyncio.wait(outcomes)
    assert all(isinstance(task.exception(), QueueRefusedError) for task in done)
    assert len(await queue.claim(10)) == 3
    await queue.close()


async def test_no_new_segment_can_be_made(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, segment_size=2000)
    await queue.append(message(b"a@y.example", content=b"x" * 1500))
    files.creating = errno.ENOSPC
    refused = 0
    for _ in range(3):
        try:
            await queue.append(message(b"b@y.example", content=b"x" * 1500))
        except QueueRefusedError as error:
            refused += 1
            assert error.reply.code == 452
    assert refused >= 2
    files.creating = None
    await queue.append(message(b"c@y.example"))
    await queue.close()


async def test_a_stamp_that_fails_is_told_and_nobody_is_sent_to_again(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files)
    await queue.append(message(b"a@y.example", b"b@y.example"))
    [delivery] = await queue.claim(1)
    files.failing[".stamps"] = errno.EIO
    with pytest.raises(StampNotDurableError):
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
    [alarm] = [event for event in events if isinstance(event, Alarm)]
    assert "second copy" in alarm.action
    assert list((await queue.load(delivery)).recipients) == [1]
    queue.give_back(delivery, 0.0)
    files.failing.clear()

    # Its segment is kept, whatever happens to the rest of it: the disk does not know yet.
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {1: Stamp.DELIVERED})
    await queue.append(message(b"c@y.example"))
    assert len(list(tmp_path.glob("q/0/*1.mail"))) == 1
    await queue.close()


async def test_a_dead_commit_thread_ends_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug there means that nothing can be acknowledged: no 250, no silence, the process goes."""
    monkeypatch.setattr(app, "GRACE", 0.1)
    monkeypatch.setattr(app, "SESSION_GRACE", 0.1)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup) as ended:
        async with asyncio.timeout(20), relay(tmp_path) as running:
            monkeypatch.setattr(Store, "commit", broken)
            sending = asyncio.create_task(send(running.address, ["a@y.test"]))
            await running.until(Alarm)
            assert running.relay.queue.problem is not None
            await asyncio.wait([sending])
    assert ended.group_contains(ZeroDivisionError)
    await asyncio.wait([sending])
    assert sending.exception() is not None
