"""A failure is reported once, with its reason, whatever happens meanwhile (Q5); nothing comes back (Q3)."""

import asyncio
import contextlib
import errno
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles
from tests.support.queues import TestClock, at_once, local_queue, message

from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.local import LocalQueue, LocalSettings, open_queue
from backstamp.queue.operations import BusyError, act
from backstamp.queue.port import Flag, Message, Owed, Reason, StampNotDurableError
from backstamp.queue.record import covers
from backstamp.queue.stamps import Stamp

SOME, OTHERS = b"a@one.example", b"b@two.example"


def reason(ordinal: int) -> Reason:
    return Reason((ordinal,), Reply(550, "5.1.1 no such user"), "mx.example", 1)


def report_of(of: Message, ordinals: tuple[int, ...]) -> Message:
    parameters = covers(ids.text(of.queue_id), ordinals)
    return message(b"sender@example.org", sender=b"", parameters=parameters, flags=Flag.REPORT)


async def within(queue: LocalQueue, seconds: float = 0.3) -> Owed | None:
    """Return a report that is due, None if there is none."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await queue.claim_report()
    return None


class HoldsUp(FaultyFiles):
    """Reading one segment takes until it is told to go on."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._suffix = f"{number:020}.mail"
        self.go = threading.Event()

    def open(self, path: str, *, write: bool) -> int:
        if path.endswith(self._suffix) and threading.current_thread().name.startswith("read"):
            assert self.go.wait(20)
        return super().open(path, write=write)


async def begun_again(root: Path, files: HoldsUp) -> LocalQueue:
    """Open a queue, and do not wait until all of it is read."""
    return await open_queue(
        files, str(root), clock=TestClock(), emit=[].append, salt=lambda: bytes(range(16)),
        first_due=at_once, settings=LocalSettings(compact=0),
    )  # fmt: skip


async def left(root: Path, *, reported: bool) -> tuple[Message, int]:
    """A life that failed one recipient of two, and ended; return the message and the last segment."""
    queue = await local_queue(root, clock=TestClock(), segment_size=600)
    sent = message(SOME, OTHERS)
    await queue.append(sent)
    one, _ = await queue.claim(10)
    await queue.load([one])
    await queue.stamp(one, {0: Stamp.FAILED}, [reason(0)])
    if reported:  # and the crash came before its `B`
        await queue.append(report_of(sent, (0,)))
    for _ in range(4):
        await queue.append(message(b"z@three.example", content=b"x" * 300))
    await queue.close()
    return sent, max(int(path.stem) for path in (root / "0").glob("*.mail"))


@pytest.mark.parametrize("reported", [False, True])
async def test_no_report_is_made_before_all_of_the_last_life_is_read(tmp_path: Path, reported: bool) -> None:
    sent, last = await left(tmp_path / "q", reported=reported)
    files = HoldsUp(last)
    queue = await begun_again(tmp_path / "q", files)
    try:
        claims: list[object] = []
        while not (mine := [claim for claim in claims if claim.queue_id == sent.queue_id]):  # type: ignore[attr-defined]
            claims += await queue.claim(10)
        [two] = mine
        await queue.load([two])  # type: ignore[list-item]
        await queue.stamp(two, {1: Stamp.FAILED}, [reason(1)])  # type: ignore[arg-type]
        queue.give_back(two, 0.0)  # type: ignore[arg-type]
        assert await within(queue) is None
        files.go.set()
        owed = await queue.claim_report()
        assert owed.ordinals == ((1,) if reported else (0, 1))
        assert {one for why in owed.reasons for one in why.ordinals} >= {*owed.ordinals}
    finally:
        files.go.set()
        await queue.close()


async def test_a_report_that_may_not_leave_yet_is_nobodys_to_release(tmp_path: Path) -> None:
    _, last = await left(tmp_path / "q", reported=True)
    files = HoldsUp(last)
    queue = await begun_again(tmp_path / "q", files)
    try:
        found = None
        while found is None:
            await asyncio.sleep(0.01)
            entries = [entry for segment in queue.segments() for entry in segment.entries]
            found = next((entry for entry in entries if entry and entry.facts.flags & Flag.REPORT), None)
        with pytest.raises(BusyError):
            await act(queue, "hold", found, [0])
        files.go.set()
        await queue.recovering
        assert await act(queue, "hold", found, [0]) == (0,)
        assert await act(queue, "release", found, [0]) == (0,)
        claims = [claim for claim in await queue.claim(100) if claim.message is found]
        assert [[*(await queue.load([claim])).recipients] for claim in claims] == [[0]]
    finally:
        files.go.set()
        await queue.close()


class SlowSecond(FaultyFiles):
    """Stamps take a moment; the second reason is not written until told."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = False
        self.go = threading.Event()
        self._mails = 0

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        if self.watched and self._names[descriptor].endswith(".stamps"):
            time.sleep(0.1)
        elif self.watched:
            self._mails += 1
            if self._mails == 2:
                assert self.go.wait(20)
        super().write_durably(descriptor, buffers, offset)


async def two_under_way(queue: LocalQueue, clock: TestClock, sent: Message) -> list[object]:
    """Return both deliveries of a message, loaded, each tried once before."""
    for claim in await queue.claim(10):
        await queue.load([claim])
        queue.give_back(claim, clock.wall() + (0 if claim.queue_id == sent.queue_id else 9999))
    claims = await queue.claim(10)
    for claim in claims:
        await queue.load([claim])
    return [*claims]


async def test_who_fails_while_a_report_is_begun_has_one_to_come(tmp_path: Path) -> None:
    files, clock = SlowSecond(), TestClock()
    queue = await local_queue(tmp_path / "q", files=files, clock=clock)
    sent = message(SOME, OTHERS)
    await queue.append(sent)
    one, two = await two_under_way(queue, clock, sent)
    files.watched = True
    reporting = asyncio.ensure_future(queue.claim_report())
    first = queue.stamp(one, {0: Stamp.FAILED}, [reason(0)])  # type: ignore[arg-type]
    await asyncio.sleep(0.03)
    second = queue.stamp(two, {1: Stamp.FAILED}, [reason(1)])  # type: ignore[arg-type]
    await first
    owed = await asyncio.wait_for(reporting, 10)
    assert not second.done()
    assert owed.ordinals == (0,)
    files.go.set()
    await second
    await queue.report(owed, None)
    assert (await queue.claim_report()).ordinals == (1,)
    await queue.close()


async def test_a_failure_whose_reason_found_no_room_is_reported_once(tmp_path: Path) -> None:
    files, clock, root = FaultyFiles(), TestClock(), tmp_path / "q"
    queue = await local_queue(root, files=files, clock=clock, probe=0.05, segment_size=700)
    sent, keeps = message(SOME, OTHERS), message(b"k@keep.example")
    await asyncio.gather(queue.append(sent), queue.append(keeps))
    one, two = await two_under_way(queue, clock, sent)
    await queue.stamp(one, {0: Stamp.FAILED}, [reason(0)])  # type: ignore[arg-type]
    files.failing[".mail"] = files.creating = errno.ENOSPC
    with pytest.raises(StampNotDurableError):
        await queue.stamp(two, {1: Stamp.FAILED}, [reason(1)])  # type: ignore[arg-type]
    files.failing.clear()
    files.creating = None
    queue.give_back(one, 0)  # type: ignore[arg-type]
    queue.give_back(two, 0)  # type: ignore[arg-type]
    told: list[int] = []
    while told != [0, 1]:
        owed = await asyncio.wait_for(queue.claim_report(), 10)
        told += owed.ordinals
        await queue.report(owed, report_of(sent, owed.ordinals))
    entry = queue.find(keeps.queue_id)
    assert entry is not None
    await asyncio.sleep(0.3)  # probes: what failed was handed over again
    stamps = (root / f"0/{entry.segment.number:020}.stamps").read_bytes()[16:18]
    assert [Stamp(one).letter for one in stamps] == ["B", "B"]
    shutil.copytree(root, tmp_path / "killed")
    await queue.close()
    again = await local_queue(tmp_path / "killed", clock=clock)
    assert await within(again) is None
    await again.close()


async def test_a_stamp_that_is_tried_again_does_not_undo_a_later_one(tmp_path: Path) -> None:
    files, root = FaultyFiles(), tmp_path / "q"
    queue = await local_queue(root, files=files, probe=0.3)
    sent = message(SOME)
    await queue.append(sent)
    await queue.append(message(b"k@keep.example"))
    entry = queue.find(sent.queue_id)
    assert entry is not None
    files.failing[".stamps"] = files.creating = errno.EIO
    holding = asyncio.ensure_future(act(queue, "hold", entry, [0]))
    await asyncio.sleep(0.1)
    files.failing.clear()
    files.creating = None
    assert await act(queue, "remove", entry, [0]) == (0,)
    await holding  # the probe handed it over again
    shutil.copytree(root, tmp_path / "killed")
    await queue.close()
    again = await local_queue(tmp_path / "killed")
    assert again.find(sent.queue_id) is None
    await again.close()


async def test_an_attempt_that_waited_for_the_disk_finds_what_was_removed_meanwhile(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, probe=0.05, segment_size=300, hot_limit=0)
    gone, other = message(SOME), message(OTHERS, content=b"y" * 300)
    await queue.append(gone)
    await queue.append(other)
    claims = {claim.queue_id: claim for claim in await queue.claim(10)}
    await queue.load([claims[other.queue_id]])
    files.failing[".stamps"] = files.creating = errno.EIO
    delivered = queue.stamp(claims[other.queue_id], {0: Stamp.DELIVERED})
    while queue.gate.waiters is None:
        await asyncio.sleep(0.005)
    loading = asyncio.ensure_future(queue.load([claims[gone.queue_id]]))
    await asyncio.sleep(0)
    entry = queue.find(gone.queue_id)
    assert entry is not None
    removing = asyncio.ensure_future(act(queue, "remove", entry, [0]))
    await asyncio.sleep(0)
    files.failing.clear()
    files.creating = None
    await removing
    await delivered
    assert (await loading).recipients == {}
    await queue.close()


@pytest.mark.parametrize(("verb", "left_over"), [("release", True), ("remove", False), ("bounce", True)])
async def test_held_mail_whose_content_is_damaged_can_be_let_go(
    tmp_path: Path, verb: str, left_over: bool
) -> None:
    root, sent = tmp_path / "q", message(SOME)
    queue = await local_queue(root)
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    await act(queue, "hold", entry, [0])
    await queue.close()
    [path] = [one for one in (root / "0").glob("*.mail") if b"Hello" in one.read_bytes()]
    path.write_bytes(path.read_bytes().replace(b"Hello", b"Jello"))
    queue = await local_queue(root)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    assert await act(queue, verb, entry, [0]) == (0,)
    assert (queue.find(sent.queue_id) is not None) is left_over
    await queue.close()


async def test_a_report_does_not_leave_before_its_failures_are_closed(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, probe=0.01)
    sent = message(SOME)
    await queue.append(sent)
    [delivery] = await queue.claim(1)
    await queue.load([delivery])
    await queue.stamp(delivery, {0: Stamp.FAILED}, [reason(0)])
    queue.give_back(delivery, 0.0)
    owed = await queue.claim_report()
    files.failing[".stamps"] = files.creating = errno.EIO
    report = report_of(sent, (0,))
    reporting = asyncio.ensure_future(queue.report(owed, report))
    async with asyncio.timeout(20):
        while queue.find(report.queue_id) is None or queue.health.problem is None:
            await asyncio.sleep(0.01)
    # It is durable, and its `B` is not: a crash now finds it, and it must not have been sent.
    assert not queue.ledger.scheduled()
    files.failing.clear()
    files.creating = None
    async with asyncio.timeout(20):
        await reporting
    assert [claim.queue_id for claim in queue.ledger.scheduled()] == [report.queue_id]
    await queue.close()


async def test_after_a_start_a_report_does_not_leave_before_its_failures_are_closed(tmp_path: Path) -> None:
    sent, last = await left(tmp_path / "q", reported=True)
    files = HoldsUp(last)
    queue = await begun_again(tmp_path / "q", files)
    files.failing[".stamps"] = files.creating = errno.EIO
    files.go.set()
    async with asyncio.timeout(20):
        while queue.health.problem is None:
            await asyncio.sleep(0.01)
    known = {claim.queue_id for claim in queue.ledger.scheduled()}
    assert sent.queue_id in known
    files.failing.clear()
    files.creating = None
    async with asyncio.timeout(20):
        await queue.recovering
    assert len({claim.queue_id for claim in queue.ledger.scheduled()} - known) == 1
    await queue.close()
