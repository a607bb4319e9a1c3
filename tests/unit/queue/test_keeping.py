"""Keys of segments that go: kept before, read at a start, over after a day, told where damaged (Q13)."""

import asyncio
import errno
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles
from tests.support.queues import TestClock, local_queue, message
from tests.support.recording import RecordingFiles

from backstamp.queue import fsck, ids, keys, local, recovery, repair
from backstamp.queue.files import DiskFiles
from backstamp.queue.keeping import Keeping
from backstamp.queue.local import LocalQueue
from backstamp.queue.once import Once
from backstamp.queue.port import Message, QueueRefusedError
from backstamp.queue.record import HEADER_SIZE, SALT_SIZE
from backstamp.queue.recovery import KeptKeys
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import Job, Keep, Store
from backstamp.telemetry.events import Alarm, Event

KEY = keys.digest(b"user u", b"order 4711")
TINY = 400
"""Octets of a segment: one message each."""


def keyed(text: bytes = b"", *, arrival: float = 1_800_000_000.0) -> Message:
    key = keys.digest(b"user u", text) if text else KEY
    return message(b"a@one.example", content=b"x" * 300, key=key, arrival=arrival)


class FailsOnce(FaultyFiles):
    """A durable write fails, the next one does not."""

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        try:
            super().write_durably(descriptor, buffers, offset)
        finally:
            self.failing.clear()


async def finish(queue: LocalQueue) -> None:
    """Deliver all that waits."""
    while queue.ledger.scheduled():
        for delivery in await queue.claim(100):
            await queue.load([delivery])
            await queue.stamp(delivery, {0: Stamp.DELIVERED})
            queue.give_back(delivery, 0.0)


async def names(root: Path, *, without: str = "", having: str = "") -> list[str]:
    """Return the names in the partition, once none has one suffix and some has another."""
    async with asyncio.timeout(20):
        while True:
            found = sorted(path.name.lstrip("0") for path in (root / "0").iterdir())
            if (not without or without not in found) and (not having or any(having in one for one in found)):
                return found
            await asyncio.sleep(0.01)


async def gone(root: Path, clock: TestClock, *texts: bytes) -> list[Message]:
    """Make a queue whose messages were delivered, and of which only the keys are left."""
    queue = await local_queue(root, clock=clock, segment_size=TINY)
    sent = [keyed(text) for text in texts]
    for number, one in enumerate(sent, 1):
        await queue.append(one)
        await finish(queue)
        await queue.append(message(b"z@one.example", content=b"x" * 300))
        await finish(queue)
        await names(root, without=f"{3 * number - 2}.mail", having=".keys")
    await queue.close()
    # What the last segment holds goes at the next start.
    queue = await local_queue(root, clock=clock)
    await names(root, without="1.mail")
    await queue.close()
    return sent


def alarms(events: list[Event]) -> list[str]:
    return [event.problem for event in events if isinstance(event, Alarm)]


async def test_a_segment_goes_after_its_keys_were_written(tmp_path: Path) -> None:
    """Q13: durable, with their name, before the records go."""
    files = RecordingFiles()
    queue = await local_queue(tmp_path, files=files, segment_size=TINY, clock=TestClock())
    await queue.append(keyed())
    await finish(queue)
    await queue.append(keyed(b"another"))
    await names(tmp_path, without="1.mail")
    await queue.close()  # what was done is noted behind it
    [at] = [number for number, done in enumerate(files.done) if done.endswith(".keys") and "create" in done]
    name = files.done[at].removeprefix("create ")
    written = files.done.index(f"write+sync {name}", at)
    synced = files.done.index("sync directory ", written)
    assert synced < files.done.index("unlink 1.mail")


async def test_a_key_is_known_after_its_segment_went_and_the_relay_started_again(tmp_path: Path) -> None:
    clock = TestClock()
    [first] = await gone(tmp_path, clock, b"one")
    queue = await local_queue(tmp_path, clock=clock)
    assert await queue.append(keyed(b"one")) == first.queue_id
    await queue.close()


async def test_a_file_of_keys_goes_when_its_last_key_is_over(tmp_path: Path) -> None:
    clock = TestClock()
    await gone(tmp_path, clock, b"one")
    clock.advance(24 * 3600)
    queue = await local_queue(tmp_path, clock=clock)
    async with asyncio.timeout(20):
        while any(".keys" in name for name in await names(tmp_path)):
            await asyncio.sleep(0.01)
    again = keyed(b"one", arrival=clock.wall())
    assert await queue.append(again) == again.queue_id
    await queue.close()


async def test_after_an_hour_of_arrivals_the_next_file_is_begun_and_the_first_goes_alone(
    tmp_path: Path,
) -> None:
    clock = TestClock()
    queue = await local_queue(tmp_path, clock=clock, segment_size=TINY)
    for hour in (0, 0, 1, 25, 25):
        clock.now = 1_800_000_000.0 + 3600 * hour
        await queue.append(keyed(os.urandom(8), arrival=clock.wall()))
        await finish(queue)
        await queue.append(message(b"z@one.example", content=b"x" * 300))
        await finish(queue)
        async with asyncio.timeout(20):
            while any(segment.keys for segment in queue.segments()):
                await asyncio.sleep(0.01)
    left = [name for name in await names(tmp_path) if ".keys" in name]
    assert len(left) == 1
    await queue.close()


async def test_keys_that_find_no_room_hold_their_segment_until_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_KEEP_AGAIN", 0.01)
    files, events = FaultyFiles(), list[Event]()
    queue = await local_queue(tmp_path, events, files=files, segment_size=TINY, clock=TestClock())
    files.failing[".keys"] = errno.ENOSPC
    first = keyed()
    await queue.append(first)
    await finish(queue)
    await queue.append(message(b"z@one.example", content=b"x" * 300))
    async with asyncio.timeout(20):
        while not alarms(events):
            await asyncio.sleep(0.01)
    assert "1.mail" in await names(tmp_path)
    files.failing.clear()
    await names(tmp_path, without="1.mail")
    [problem] = alarms(events)
    assert problem.startswith("the keys of segment 1 could not be kept")
    await queue.close()
    queue = await local_queue(tmp_path, clock=TestClock())
    assert await queue.append(keyed()) == first.queue_id
    await queue.close()


async def test_where_the_first_is_refused_the_second_is_written_itself(tmp_path: Path) -> None:
    """Q13: a key stands for nothing that was not durable."""
    files = FailsOnce()
    queue = await local_queue(tmp_path, files=files, clock=TestClock())
    files.failing[".mail"] = errno.EIO
    results = await asyncio.gather(*(queue.append(keyed()) for _ in range(3)), return_exceptions=True)
    assert isinstance(results[0], QueueRefusedError)
    assert isinstance(results[1], bytes)
    assert results[1] == results[2]
    assert [one.queue_id for one in await queue.claim(10)] == [results[1]]
    await queue.close()


async def test_where_no_mail_is_taken_a_key_is_given_back_and_one_that_stands_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await local_queue(tmp_path, clock=TestClock())
    first = keyed()
    await queue.append(first)
    with monkeypatch.context() as patch:
        patch.setattr(local, "CAPACITY", 0)
        assert await queue.append(keyed()) == first.queue_id
        with pytest.raises(QueueRefusedError):
            await queue.append(keyed(b"another"))
    assert await queue.append(keyed(b"another")) != first.queue_id
    await queue.close()


async def test_a_large_message_that_could_not_be_written_gives_its_key_back(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path, files=files, clock=TestClock(), probe=0.01)
    deposit = await queue.deposit(keyed())
    # All of them: the commit thread may sync the segment it prepares before this one's turn.
    files.syncing_files = 1000
    with pytest.raises(QueueRefusedError):
        await deposit.commit()
    files.syncing_files = 0
    while queue.health.refusal(report=False) is not None:
        await asyncio.sleep(0.01)
    own = keyed()
    again = await queue.deposit(own)
    assert await again.commit() == own.queue_id
    await queue.close()


async def test_until_all_was_read_a_submission_with_a_key_waits_and_then_is_told_to_try_again(
    tmp_path: Path,
) -> None:
    """Q13: never a second message because the first is not known yet."""
    clock = TestClock()
    queue = await local_queue(tmp_path, clock=clock, patience=0.01)
    first = keyed()
    await queue.append(first)
    read = queue.recovering
    queue.recovering = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
    with pytest.raises(QueueRefusedError, match=r"4\.3\.2"):
        await queue.append(keyed())
    unkeyed = message(b"b@one.example")
    assert await queue.append(unkeyed) == unkeyed.queue_id
    queue._settings = local.LocalSettings(compact=0)
    waits = asyncio.create_task(queue.append(keyed()))
    await asyncio.sleep(0)
    queue.recovering.cancel()
    with pytest.raises(QueueRefusedError, match=r"4\.3\.2"):
        await waits
    queue.recovering = read
    assert await queue.append(keyed()) == first.queue_id
    await queue.close()


@pytest.mark.parametrize("mended", [False, True], ids=["as it is", "repaired"])
async def test_keys_that_do_not_verify_are_named_and_kept_and_the_others_count(
    tmp_path: Path, mended: bool
) -> None:
    clock = TestClock()
    sent = await gone(tmp_path, clock, b"one", b"two")
    [path] = [path for path in sorted((tmp_path / "0").iterdir()) if path.suffix == ".keys"][:1]
    octets = bytearray(path.read_bytes())
    octets[SALT_SIZE + HEADER_SIZE + 3] ^= 1
    path.write_bytes(octets)
    report = fsck.examine(fsck.AroundFiles(), str(tmp_path))
    assert not report.sound
    assert any("do not verify" in finding.what for finding in report.findings)
    if mended:
        done = repair.repair(fsck.AroundFiles(), str(tmp_path), salt=lambda: os.urandom(16), now=1)
        assert done.sound
        assert fsck.examine(fsck.AroundFiles(), str(tmp_path)).sound
    events: list[Event] = []
    queue = await local_queue(tmp_path, events, clock=clock)
    assert mended or any("damaged" in problem for problem in alarms(events))
    assert len(list((tmp_path / "corrupt").iterdir())) == 1
    assert await queue.append(keyed(b"two")) == sent[1].queue_id
    own = keyed(b"one")
    assert await queue.append(own) == own.queue_id
    await queue.close()


async def test_keys_that_cannot_be_read_cost_only_themselves_and_are_told(tmp_path: Path) -> None:
    clock = TestClock()
    await gone(tmp_path, clock, b"one")
    files, events = FaultyFiles(), list[Event]()
    files.unreadable[".keys"] = 100
    queue = await local_queue(tmp_path, events, files=files, clock=clock, probe=0.001)
    assert any("cannot be read" in problem for problem in alarms(events))
    own = keyed(b"one")
    assert await queue.append(own) == own.queue_id
    await queue.close()


async def test_the_key_of_a_record_whose_content_is_lost_outlives_its_repair(tmp_path: Path) -> None:
    clock = TestClock()
    queue = await local_queue(tmp_path, clock=clock)
    first = keyed()
    await queue.append(first)
    await finish(queue)
    await queue.close()
    [path] = (tmp_path / "0").glob("*1.mail")
    octets = bytearray(path.read_bytes())
    octets[octets.index(b"x" * 50)] ^= 1
    path.write_bytes(octets)
    assert repair.repair(fsck.AroundFiles(), str(tmp_path), salt=lambda: os.urandom(16), now=1).sound
    queue = await local_queue(tmp_path, clock=clock)
    assert await queue.append(keyed()) == first.queue_id
    await queue.close()


async def test_whatever_flips_in_a_file_of_keys_gives_what_is_true_and_names_the_rest(tmp_path: Path) -> None:
    """Q9: any octets give keys that were written, or a named range; a cut file the same."""
    await gone(tmp_path, TestClock(), b"one", b"two")
    [path] = [path for path in sorted((tmp_path / "0").iterdir()) if path.suffix == ".keys"][:1]
    octets = path.read_bytes()
    number = int(path.stem)
    written = set(keys.rows(recovery.load_keys(DiskFiles(), str(tmp_path), number).rows))
    flipped = [
        octets[:at] + bytes([octets[at] ^ 1 << at % 8]) + octets[at + 1 :] for at in range(len(octets))
    ]
    cut = [octets[:at] for at in range(0, len(octets), 7)]
    for changed in flipped + cut:
        path.write_bytes(changed)
        found = recovery.load_keys(DiskFiles(), str(tmp_path), number)
        rows = set(keys.rows(found.rows))
        assert rows <= written
        assert rows == written or found.problems or len(changed) < len(octets)


async def test_no_file_is_swept_while_keys_are_on_their_way_to_it() -> None:
    """Which file a write goes to is known when it was done: until then none counts as over (Q13)."""
    jobs: list[Job] = []
    now = 1_800_000_000_000
    keeping = Keeping(
        Once(lambda: now, lambda _: None),
        now=lambda: now,
        load=lambda _: asyncio.sleep(0, KeptKeys(b"", [])),
        submit=jobs.append,
        tell=lambda _: None,
        pause=0.0,
    )
    segment = Segment("", 1, bytes(16), 0, 0, bytearray())

    def kept(key: bytes) -> Keep:
        segment.keys += keys.digest(b"user u", key) + ids.make(now, bytes(10))
        keeping.keep([segment])
        job = jobs.pop()
        assert isinstance(job, Keep)
        return job

    first = kept(b"1")
    first.number = 7
    first.done(first)
    now += keys.KEY_LIFETIME - 1
    second = kept(b"2")
    now += 1
    keeping.sweep()
    assert not jobs
    second.number = 7
    second.done(second)
    keeping.sweep()
    assert not jobs
    now += keys.KEY_LIFETIME
    keeping.sweep()
    [over] = jobs
    assert isinstance(over, Keep)
    assert [*over.over] == [7]


def test_what_is_over_goes_before_keys_are_written(tmp_path: Path) -> None:
    """In one batch the keys that count must not go to the file that is removed."""
    store = Store(
        DiskFiles(), str(tmp_path), numbers=itertools.count(1).__next__, salt=lambda: bytes(range(16)),
        sealed=lambda _: None,
    )  # fmt: skip
    row = keys.digest(b"user u", b"1") + ids.make(1_800_000_000_000, bytes(10))
    first = Keep(row, (), lambda _: None)
    store.commit([first], lambda _: None)
    over, second = Keep(b"", (first.number,), lambda _: None), Keep(row, (), lambda _: None)
    store.commit([second, over], lambda _: None)
    assert [path.name for path in tmp_path.glob("*.keys")] == [f"{second.number:020}.keys"]
    store.seal()
