"""The disk fails, or is full, as a relay starts: nothing is sent or reported twice, and mail still leaves."""

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles
from tests.support.queues import local_queue, message, settled

from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import Flag, Load, Reason
from backstamp.queue.reader import sources
from backstamp.queue.record import covers
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Alarm, Event

REFUSED = Reply(550, "5.1.1 no such user")


class RemovesNothing(FaultyFiles):
    """No segment can be removed, as if the crash came before."""

    def unlink(self, path: str) -> None:
        if path.endswith(".mail"):
            raise OSError(errno.EIO, "the disk failed")
        super().unlink(path)


class FullFiles(FaultyFiles):
    """A disk that is full from the first moment: what is there can be written over, and nothing grows."""

    def create(self, path: str) -> int:
        raise OSError(errno.ENOSPC, "no space left", path)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        self._within(descriptor, buffers, offset)
        super().write(descriptor, buffers, offset)

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        self._within(descriptor, buffers, offset)
        super().write_durably(descriptor, buffers, offset)

    def _within(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        if offset + sum(map(len, buffers)) > self.size(descriptor):
            raise OSError(errno.ENOSPC, "no space left")


async def delivered(queue: LocalQueue) -> list[Load]:
    """Deliver all that waits; return what was sent."""
    sent = []
    while queue.ledger.scheduled():
        for delivery in await queue.claim(100):
            load = await queue.load([delivery])
            sent.append(load)
            await queue.stamp(delivery, dict.fromkeys(load.recipients, Stamp.DELIVERED))
            queue.give_back(delivery, 0.0)
    return sent


async def copied(root: Path) -> tuple[int, int]:
    """Leave a copy beside what it was made of; return its number, and of how many messages somebody waits."""
    queue = await local_queue(root, files=RemovesNothing(), segment_size=3000)
    for number in range(3):
        await queue.append(message(b"a%d@one.example" % number, b"b@two.example", content=b"x" * 1200))
    for delivery in await queue.claim(10):
        if delivery.domain == b"one.example":
            await queue.load([delivery])
            await queue.stamp(delivery, {0: Stamp.DELIVERED})
        queue.give_back(delivery, 0.0)
    await queue.append(message(b"last@one.example", content=b"x" * 2000))
    await settled()
    assert await queue.compactor.compact()
    await queue.close()
    numbers = [int(path.stem) for path in (root / "0").glob("*.mail")]
    [copy] = [number for number in numbers if sources(FaultyFiles(), f"{root}/0", number)]
    return copy, 4


@pytest.mark.parametrize("failures", [3, 9])
async def test_a_copy_that_cannot_be_read_for_a_moment_is_not_sent_beside_what_it_is_of(
    tmp_path: Path, failures: int
) -> None:
    copy, waiting = await copied(tmp_path / "q")
    files, events = FaultyFiles(), list[Event]()
    files.unreadable[f"{copy:020}.mail"] = failures
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    assert len(await delivered(queue)) == waiting
    told = [event.problem for event in events if isinstance(event, Alarm)]
    assert bool(told) is (failures == 9)
    await queue.close()


async def left(root: Path, *, reported: bool) -> None:
    """A life that failed somebody in the first segment; the reason, and a report, stand in later ones."""
    queue = await local_queue(root, segment_size=600)
    sent = message(b"a@one.example", b"b@two.example", content=b"x" * 500)
    await queue.append(sent)
    one, _ = await queue.claim(10)
    await queue.load([one])
    await queue.append(message(b"c@three.example", content=b"x" * 500))
    await queue.stamp(one, {0: Stamp.FAILED}, [Reason((0,), REFUSED, "mx.example", 1)])
    if reported:  # and the crash came before its `B`
        parameters = covers(ids.text(sent.queue_id), (0,))
        await queue.append(
            message(b"sender@example.org", sender=b"", parameters=parameters, flags=Flag.REPORT)
        )
    await queue.close()


@pytest.mark.parametrize("reported", [False, True])
async def test_what_a_report_is_made_of_waits_for_a_segment_that_cannot_be_read(
    tmp_path: Path, reported: bool
) -> None:
    await left(tmp_path / "q", reported=reported)
    files = FaultyFiles()
    files.unreadable[f"{1:020}.mail"] = 1000
    queue = await local_queue(tmp_path / "q", files=files, probe=0.01)
    sent = await delivered(queue)
    assert sum(not load.sender for load in sent) == reported
    await settled()
    await queue.close()
    queue = await local_queue(tmp_path / "q")
    assert {load.sender for load in await delivered(queue)} == {b"sender@example.org"}
    if reported:
        assert not queue.ledger.report_ready
    else:
        owed = await queue.claim_report()
        assert [reason.reply for reason in owed.reasons] == [REFUSED]
        await queue.report(owed, None)
    await settled()
    await queue.close()
    # All was read: nothing stays for the next.
    queue = await local_queue(tmp_path / "q")
    await settled()
    assert not queue.segments()
    await queue.close()


async def test_no_second_report_is_made_while_the_first_cannot_be_read(tmp_path: Path) -> None:
    await left(tmp_path / "q", reported=True)
    numbers = sorted(int(path.stem) for path in (tmp_path / "q/0").glob("*.mail"))
    [last] = [
        number for number in numbers if b"REPORTS=" in (tmp_path / f"q/0/{number:020}.mail").read_bytes()
    ]
    files, events = FaultyFiles(), list[Event]()
    files.unreadable[f"{last:020}.mail"] = 1000
    queue = await local_queue(tmp_path / "q", events, files=files, probe=0.01)
    await delivered(queue)
    assert not queue.ledger.report_ready
    assert queue.ledger.messages == 1
    [alarm] = [event for event in events if isinstance(event, Alarm)]
    assert "reports of earlier failures" in alarm.action
    await queue.close()
    queue = await local_queue(tmp_path / "q")
    assert [load.sender for load in await delivered(queue)] == [b""]
    assert not queue.ledger.report_ready
    assert not queue.ledger.messages
    await queue.close()


async def test_on_a_disk_that_is_full_already_mail_still_leaves(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    await queue.append(message(b"a@one.example"))
    # The disk is full: it cannot even be closed in order.
    queue._committer._sink.seal = lambda: None  # type: ignore[attr-defined]
    await queue.close()
    events: list[Event] = []
    queue = await local_queue(tmp_path / "q", events, files=FullFiles(), probe=0.01)
    assert len(await delivered(queue)) == 1
    assert not [event for event in events if isinstance(event, Alarm)]
    await queue.close()
    queue = await local_queue(tmp_path / "q")
    assert not queue.ledger.messages
    await queue.close()
