"""The disk fails while the relay runs: nothing false is said, nobody gets a second copy (Q8)."""

import asyncio
import errno
import shutil
import threading
from pathlib import Path

import pytest
from tests.support.client import send
from tests.support.door import door
from tests.support.faults import FaultyFiles
from tests.support.queues import local_queue, message
from tests.support.relay import relay

from backstamp import app
from backstamp.mail.reply import Reply
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import Flag, Message, QueueRefusedError, Reason, StampNotDurableError
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import Store
from backstamp.queue.views import LedgerView
from backstamp.telemetry.events import Alarm, Event, Resumed


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 452), (errno.EDQUOT, 452), (errno.EIO, 451)])
async def test_an_append_that_fails_is_refused_and_never_there(
    tmp_path: Path, number: int, code: int
) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    before = message(b"before@y.example")
    await queue.append(before)
    files.failing[".mail"] = number
    with pytest.raises(QueueRefusedError) as refused:
        await queue.append(message(b"lost@y.example"))
    assert refused.value.reply.code == code
    assert any(isinstance(event, Alarm) for event in events)
    files.failing.clear()
    after = message(b"after@y.example")
    await append_when_taken(queue, after)
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
    queue = await local_queue(tmp_path / "q", files=files, segment_size=2000, probe=0.01)
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
    await append_when_taken(queue, message(b"c@y.example"))
    await queue.close()


async def test_after_two_failures_mail_is_refused_until_a_probe_works(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    files.failing[".mail"] = files.syncing = errno.EIO
    codes = []
    for _ in range(4):
        with pytest.raises(QueueRefusedError) as refused:
            await queue.append(message(b"a@y.example"))
        codes.append(refused.value.reply.code)
    assert codes == [451, 451, 452, 452]
    assert queue.health.ask() is not None
    files.failing.clear()
    files.syncing = None
    await append_when_taken(queue, message(b"a@y.example"))
    assert queue.health.ask() is None
    [resumed] = [event for event in events if isinstance(event, Resumed)]
    assert resumed.problem
    await queue.close()


async def test_at_the_limit_of_open_files_it_is_not_ready_until_there_is_room_again(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    await queue.append(message(b"a@y.example"))
    files.creating = errno.EMFILE
    with pytest.raises(QueueRefusedError) as refused:
        await queue.deposit(message(b"a@y.example"))
    assert refused.value.reply.code == 452
    for _ in range(10):
        # Not even when probes had their time: there is a spare segment, and no file for another.
        assert queue.health.ask() == "too many open files"
        await asyncio.sleep(0.01)
    files.creating = None
    await append_when_taken(queue, message(b"a@y.example"))
    assert queue.health.ask() is None
    await queue.close()


async def test_failures_in_a_row_are_told_by_the_order_of_the_outcomes(tmp_path: Path) -> None:
    """One that worked before the first of two failures does not count as between them."""
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, segment_size=2000)
    await queue.append(message(b"a@y.example", content=b"x" * 600))
    files.creating = errno.EIO
    # Handed over in one turn, committed in one batch: the second needs a segment, and there is none.
    outcomes = await asyncio.gather(
        queue.append(message(b"a@y.example", content=b"x" * 900)),
        queue.append(message(b"a@y.example", content=b"x" * 900)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], bytes)
    codes = []
    for failed in (outcomes[1], *[await refusal_of(queue) for _ in range(2)]):
        assert isinstance(failed, QueueRefusedError)
        codes.append(failed.reply.code)
    assert codes == [451, 451, 452]
    await queue.close()


async def test_below_the_reserve_mail_is_refused_and_delivery_goes_on(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01, reserve=1000)
    await queue.append(message(b"a@y.example"))
    files.room = 999
    await asyncio.sleep(0.02)
    with pytest.raises(QueueRefusedError) as refused:
        await queue.append(message(b"b@y.example"))
    assert refused.value.reply.code == 452
    assert "reserve" in (queue.health.ask() or "")
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {0: Stamp.FAILED}, [Reason((0,), refused.value.reply)])
    queue.give_back(delivery, 0.0)
    owed = await queue.claim_report()
    await queue.report(owed, message(b"sender@example.org", sender=b"", flags=Flag.REPORT))
    files.room = 1000
    await append_when_taken(queue, message(b"b@y.example"))
    assert [type(event) for event in events if isinstance(event, Alarm | Resumed)] == [Alarm, Resumed]
    await queue.close()


async def test_a_client_hears_of_a_full_disk_before_it_sends_its_content(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, probe=0.01, reserve=1000)
    files.room = 999
    await asyncio.sleep(0.02)
    command = b"EHLO client.test\r\nMAIL FROM:<a@b.example>\r\nQUIT\r\n"
    async with door(behind=queue) as here:
        assert b"\r\n452 4.3.1 " in await here.talk(command)
        files.room = 1000
        async with asyncio.timeout(5):
            while b"\r\n250 2.1.0 " not in await here.talk(command):
                await asyncio.sleep(0.02)
    await queue.close()


async def test_a_stamp_that_fails_is_carried_to_a_new_file(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files)
    await queue.append(message(b"a@y.example", b"b@y.example"))
    [delivery] = await queue.claim(1)
    files.failing[".stamps"] = errno.EIO
    await queue.stamp(delivery, {0: Stamp.DELIVERED})
    queue.give_back(delivery, 0.0)
    again = await local_queue(crashed(tmp_path))
    [delivery] = await again.claim(1)
    assert list((await again.load([delivery])).recipients) == [1]
    await again.close()
    await queue.close()


async def test_while_stamps_cannot_be_written_nothing_new_is_sent(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    await queue.append(message(b"a@y.example"))
    await queue.append(message(b"b@y.example"))
    first, second = await queue.claim(2)
    files.failing[".stamps"] = files.creating = errno.EIO
    stamped = queue.stamp(first, {0: Stamp.DELIVERED})
    while queue.health.ask() is None:
        await asyncio.sleep(0.01)
    [alarm] = [event for event in events if isinstance(event, Alarm)]
    assert "second copy" in alarm.action
    loading = asyncio.create_task(queue.load([second]))
    await asyncio.sleep(0.05)
    assert not loading.done()
    assert not stamped.done()
    assert queue.health.ask() == "stamps cannot be made durable"
    files.failing.clear()
    files.creating = None
    await stamped
    await loading
    queue.give_back(first, 0.0)
    async with asyncio.timeout(10):  # the probe that was under way may have met the disk as it was
        while queue.health.ask() is not None:
            await asyncio.sleep(0.01)
    assert isinstance(events[-1], Resumed)
    again = await local_queue(crashed(tmp_path))
    assert {delivery.queue_id for delivery in await again.claim(9)} == {second.queue_id}
    await again.close()
    await queue.close()


class OneIsStuck(FaultyFiles):
    """No new stamps file can be made for a segment."""

    stuck = ""

    def create(self, path: str) -> int:
        if self.stuck and path.endswith(self.stuck):
            raise OSError(errno.EIO, "the disk failed")
        return super().create(path)


async def test_until_the_last_stamp_is_written_nothing_new_is_sent(tmp_path: Path) -> None:
    files = OneIsStuck()
    queue = await local_queue(tmp_path / "q", files=files, segment_size=600, probe=0.01)
    for _ in range(2):
        await queue.append(message(b"a@y.example", content=b"x" * 500))
    both = await queue.claim(2)
    for delivery in both:
        await queue.load([delivery])
    files.failing[".stamps"] = files.creating = errno.EIO
    stamps = [asyncio.ensure_future(queue.stamp(delivery, {0: Stamp.DELIVERED})) for delivery in both]
    async with asyncio.timeout(20):
        while queue.gate.waiters is None:
            await asyncio.sleep(0.01)
    files.stuck = f"{1:020}.stamps.new"
    files.creating = None
    async with asyncio.timeout(20):
        await stamps[1]
    assert not stamps[0].done()
    assert queue.gate.waiters is not None
    files.stuck = ""
    async with asyncio.timeout(20):
        await stamps[0]
    assert queue.gate.waiters is None
    await queue.close()


async def test_on_a_full_disk_a_failure_waits_for_its_report_and_delivery_goes_on(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    for _ in range(2):
        await queue.append(message(b"a@y.example"))
    first, second = await queue.claim(2)
    files.failing[".mail"] = files.creating = errno.ENOSPC
    with pytest.raises(StampNotDurableError):
        await queue.stamp(first, {0: Stamp.FAILED}, [Reason((0,), Reply(550, "5.1.1 no"))])
    queue.give_back(first, 0.0)
    assert list((await queue.load([second])).recipients) == [0]
    await queue.stamp(second, {0: Stamp.DELIVERED})
    queue.give_back(second, 0.0)
    assert not queue.ledger.report_ready
    files.failing.clear()
    files.creating = None
    owed = await queue.claim_report()
    assert owed.reasons[0].reply.code == 550
    await queue.report(owed, None)
    assert queue.health.ask() is None
    await queue.close()
    assert not list(tmp_path.glob("q/corrupt/*"))


async def test_a_stamp_that_never_could_be_written_is_told_at_the_end(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    await queue.append(message(b"a@y.example"))
    [delivery] = await queue.claim(1)
    files.failing[".stamps"] = files.creating = errno.EIO
    stamped = queue.stamp(delivery, {0: Stamp.DELIVERED})
    await asyncio.sleep(0.05)
    await queue.close()
    with pytest.raises(StampNotDurableError):
        await stamped


async def test_a_doubt_that_cannot_be_noted_keeps_the_dot_back(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    await queue.append(message(b"a@y.example"))
    [delivery] = await queue.claim(1)
    files.writing = errno.EIO
    with pytest.raises(StampNotDurableError):
        queue.doubt(delivery, [0])
    files.writing = None
    queue.answered(delivery, [0])
    queue.give_back(delivery, 0.0)
    [delivery] = await queue.claim(1)
    assert queue.doubt(delivery, [0]) is None
    await queue.stamp(delivery, {0: Stamp.DELIVERED})
    queue.give_back(delivery, 0.0)
    await queue.close()


@pytest.mark.parametrize("failures", [1, 2, 4])
async def test_stamps_that_cannot_be_read_for_a_moment_are_not_lost(tmp_path: Path, failures: int) -> None:
    queue = await local_queue(tmp_path / "q")
    await queue.append(message(b"a@y.example", b"b@y.example"))
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {0: Stamp.DELIVERED})
    await queue.close()
    files, events = FaultyFiles(), list[Event]()
    files.unreadable[".stamps"] = failures
    again = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    [delivery] = await again.claim(1)
    assert list((await again.load([delivery])).recipients) == [1]
    assert not [event for event in events if isinstance(event, Alarm)]
    await again.close()


async def test_a_segment_that_cannot_be_read_costs_nothing_but_its_own_mail(tmp_path: Path) -> None:
    sent = []
    for _ in range(2):
        queue = await local_queue(tmp_path / "q")
        sent.append(message(b"a@y.example"))
        await queue.append(sent[-1])
        await queue.close()
    files, events = FaultyFiles(), list[Event]()
    files.unreadable["1.mail"] = 1000
    again = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    [delivery] = await again.claim(10)
    assert delivery.queue_id == sent[1].queue_id
    [alarm] = [event for event in events if isinstance(event, Alarm)]
    assert "fsck" in alarm.action
    await again.close()
    later = await local_queue(tmp_path / "q")
    assert {delivery.queue_id for delivery in await later.claim(10)} == {one.queue_id for one in sent}
    await later.close()


async def test_a_segment_that_is_read_twice_names_its_reasons_once(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    await queue.append(message(b"a@y.example"))
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {0: Stamp.FAILED}, [Reason((0,), Reply(550, "5.1.1 no"))])
    await queue.close()
    files = FaultyFiles()
    files.syncing_files = 1
    again = await local_queue(tmp_path / "q", files=files, probe=0.01)
    assert len((await again.claim_report()).reasons) == 1
    await again.close()


async def test_a_record_that_cannot_be_read_is_listed_and_can_be_read_later(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, hot_limit=0)
    await queue.append(message(b"a@y.example", b"b@z.example"))
    look = LedgerView(queue, events.append)
    files.unreadable[".mail"] = 1
    [shown] = await look.list(10, None)
    assert "cannot be read" in shown.problem
    assert [one.stamp for one in shown.recipients] == ["T", "T"]
    files.unreadable[".mail"] = 2
    with pytest.raises(OSError, match="Input/output"):
        await look.act("hold", shown.queue_id, None)
    [shown] = await look.list(10, None)
    assert (shown.problem, shown.recipients[1].address) == ("", "b@z.example")
    await queue.close()


async def test_the_queue_can_be_looked_at_while_the_disk_fails(tmp_path: Path) -> None:
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01, hot_limit=0)
    await queue.append(message(b"a@y.example", b"b@y.example"))
    await queue.append(message(b"c@y.example"))
    delivery = (await queue.claim(2))[0]
    files.failing[".stamps"] = files.creating = errno.EIO
    stamped = queue.stamp(delivery, {0: Stamp.DELIVERED})
    while queue.health.ask() is None:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        shown = await LedgerView(queue, events.append).list(10, None)
    assert [one.stamp for each in shown for one in each.recipients] == ["D", "T", "T"]
    files.failing.clear()
    files.creating = None
    await stamped
    await queue.close()


def crashed(tmp_path: Path) -> Path:
    """Return a copy of the queue as a kill would leave it now."""
    copy = tmp_path / "crashed"
    shutil.copytree(tmp_path / "q", copy)
    return copy


async def refusal_of(queue: LocalQueue) -> QueueRefusedError:
    with pytest.raises(QueueRefusedError) as refused:
        await queue.append(message(b"a@y.example", content=b"x" * 900))
    return refused.value


async def append_when_taken(queue: LocalQueue, sent: Message) -> None:
    """Append what may be refused for a while."""
    for _ in range(500):
        try:
            return await queue.append(sent)
        except QueueRefusedError:
            await asyncio.sleep(0.01)
    raise AssertionError("never taken again")


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
            assert running.relay.queue.health.problem is not None
            await asyncio.wait([sending])
    assert ended.group_contains(ZeroDivisionError)
    await asyncio.wait([sending])
    assert sending.exception() is not None
