"""What exists on disk → what recovery makes of it (docs/queue-format.md)."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.queues import local_queue, message
from tests.support.recording import RecordingFiles

from backstamp.clock import SystemClock
from backstamp.mail.reply import Reply
from backstamp.queue import ids, recovery
from backstamp.queue.files import DiskFiles, QueueLockedError
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import DamagedError, Flag, Message, Reason
from backstamp.queue.record import HEADER_SIZE, SALT_SIZE, covers, encode_envelope
from backstamp.queue.recovery import FormatError
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import Marks
from backstamp.queue.view import qmail_form
from backstamp.queue.views import stopped
from backstamp.telemetry.events import Alarm, Event

REPLY = Reply(550, "5.1.1 no such user")


async def put(root: Path, *messages: Message) -> None:
    """Queue messages and stop in order."""
    queue = await local_queue(root)
    for sent in messages:
        await queue.append(sent)
    await queue.close()


async def crash(queue: LocalQueue, root: Path) -> Path:
    """Return a copy of the queue as a kill would leave it, and end the original."""
    for _ in range(3):
        # Each comes behind what is under way: removals of segments, and what follows from them.
        idle = asyncio.get_running_loop().create_future()
        queue._submit(Marks(queue.segments()[-1], (), idle.set_result))
        await idle
    copy = root.with_name(root.name + "-crashed")
    shutil.copytree(root, copy)
    await queue.close()
    return copy


async def waiting(queue: LocalQueue) -> dict[bytes, bytes]:
    """Return content by queue id of all that waits, claiming it."""
    found = {}
    while queue.ledger.scheduled():
        for delivery in await queue.claim(1000):
            found[delivery.queue_id] = (await queue.load([delivery])).content
    return found


def alarms(events: list[Event]) -> list[Alarm]:
    return [event for event in events if isinstance(event, Alarm)]


def segment(root: Path, suffix: str) -> Path:
    [path] = sorted(root.glob(f"0/*{suffix}"))[:1]
    return path


async def test_mail_survives_an_orderly_stop_and_a_kill(tmp_path: Path) -> None:
    sent = [message(b"a@one.example", content=b"%d\r\n" % number) for number in range(50)]
    queue = await local_queue(tmp_path / "q")
    for one in sent:
        await queue.append(one)
    crashed = await crash(queue, tmp_path / "q")
    for root in (tmp_path / "q", crashed):
        events: list[Event] = []
        again = await local_queue(root, events)
        assert await waiting(again) == {one.queue_id: one.content for one in sent}
        assert not alarms(events)
        await again.close()


async def test_recovery_twice_is_recovery_once(tmp_path: Path) -> None:
    await put(tmp_path / "q", message(b"a@one.example"))
    before = sorted(
        (path.name, path.stat().st_size) for path in tmp_path.glob("q/0/*") if path.stat().st_size > 16
    )
    for _ in range(2):
        queue = await local_queue(tmp_path / "q")
        assert queue.ledger.waiting == 1
        await queue.close()
    after = {(path.name, path.stat().st_size) for path in tmp_path.glob("q/0/*")}
    assert set(before) - {entry for entry in before if entry[0] not in dict(after)} <= after


async def test_a_durable_stamp_survives_a_kill(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    await queue.append(message(b"a@one.example", b"b@one.example", b"c@two.example"))
    for delivery in await queue.claim(10):
        if delivery.domain == b"one.example":
            await queue.stamp(delivery, {1: Stamp.DELIVERED})
    again = await local_queue(await crash(queue, tmp_path / "q"))
    left = [list((await again.load([delivery])).recipients) for delivery in await again.claim(10)]
    assert left == [[0], [2]]
    await again.close()


async def test_finished_segments_are_removed(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q", segment_size=4096)
    for _ in range(40):
        await queue.append(message(b"a@one.example", content=b"x" * 500))
    while queue.ledger.scheduled():
        for delivery in await queue.claim(10):
            await queue.stamp(delivery, {0: Stamp.DELIVERED})
            queue.give_back(delivery, 0.0)
    await queue.append(message(b"last@one.example"))
    assert len(list(tmp_path.glob("q/0/*.mail"))) <= 3
    await queue.close()
    again = await local_queue(tmp_path / "q")
    assert again.ledger.waiting == 1
    await again.close()


async def test_one_relay_per_queue(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    with pytest.raises(QueueLockedError):
        await local_queue(tmp_path / "q")
    await queue.close()


async def test_another_format_is_refused(tmp_path: Path) -> None:
    await put(tmp_path / "q")
    (tmp_path / "q/FORMAT").write_text("backstamp queue 2\n")
    with pytest.raises(FormatError, match="backstamp queue 2"):
        await local_queue(tmp_path / "q")


async def test_a_crash_before_the_format_was_written(tmp_path: Path) -> None:
    (tmp_path / "q").mkdir()
    (tmp_path / "q/FORMAT.new").write_bytes(b"backst")
    await put(tmp_path / "q", message(b"a@one.example"))


async def test_directories_above_the_queue_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for root in (Path("var/queue"), tmp_path / "a/b/c", Path("plain")):
        await put(root, message(b"a@one.example"))
        assert (tmp_path / root / "FORMAT").exists()


class Directories(RecordingFiles):
    """Notes the directories that are made, too."""

    def make_directory(self, path: str) -> None:
        super().make_directory(path)
        self._note("make directory", path)


def test_the_directories_of_a_queue_are_durable_before_it_takes_mail(tmp_path: Path) -> None:
    files = Directories()
    files.close(recovery.prepare(files, str(tmp_path / "q")))
    done = [step for step in files.done if "directory" in step]
    assert done[:2] == ["make directory q", f"sync directory {tmp_path.name.lstrip('0')}"]
    assert done[-3:] == ["make directory ", "make directory corrupt", "sync directory q"]


async def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    await put(tmp_path / "q", message(b"a@one.example"))
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "q").rglob("*") if path.is_file()} == {
        "0o600"
    }
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700


# ---- damage ----


async def test_a_torn_tail_is_no_message_and_no_loss(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    sent = [message(b"a@one.example", content=b"first\r\n"), message(b"a@one.example", content=b"second\r\n")]
    for one in sent:
        await queue.append(one)
    root = await crash(queue, tmp_path / "q")
    path = segment(root, ".mail")
    os.truncate(path, path.stat().st_size - 3)
    again = await local_queue(root)
    # The second was acknowledged, but nothing on disk can tell: its copy is kept for a person to see.
    assert await waiting(again) == {sent[0].queue_id: b"first\r\n"}
    assert [kept.suffix for kept in (root / "corrupt").iterdir()] == [".tail"]
    await again.close()


async def test_damage_below_the_durable_mark_costs_one_record_and_is_named(tmp_path: Path) -> None:
    sent = [message(b"a@one.example", content=b"%d" % number * 300) for number in range(5)]
    await put(tmp_path / "q", *sent)
    path = segment(tmp_path / "q", ".mail")
    data = bytearray(path.read_bytes())
    at = data.index(sent[2].queue_id)
    data[at] ^= 1
    path.write_bytes(data)
    events: list[Event] = []
    queue = await local_queue(tmp_path / "q", events)
    assert set(await waiting(queue)) == {one.queue_id for one in sent} - {sent[2].queue_id}
    [alarm] = alarms(events)
    assert "damaged" in alarm.problem
    [kept] = (tmp_path / "q/corrupt").iterdir()
    assert kept.suffix == ".corrupt"
    assert b"2" * 300 in kept.read_bytes()
    await queue.close()


async def test_damaged_content_is_found_when_it_is_claimed(tmp_path: Path) -> None:
    sent = message(b"a@one.example", content=b"precious\r\n" * 50)
    await put(tmp_path / "q", sent)
    path = segment(tmp_path / "q", ".mail")
    path.write_bytes(path.read_bytes().replace(b"precious", b"preciouS", 1))
    events: list[Event] = []
    queue = await local_queue(tmp_path / "q", events)
    [delivery] = await queue.claim(1)
    with pytest.raises(DamagedError):
        await queue.load([delivery])
    owed = await queue.claim_report()
    assert (owed.ordinals, owed.content) == ((0,), b"")
    assert owed.reasons[0].reply.code == 554
    assert alarms(events)
    assert len(list((tmp_path / "q/corrupt").iterdir())) == 1
    await queue.close()


@pytest.mark.parametrize("where", ["header", "content"])
async def test_mail_that_is_damaged_when_its_report_is_made_is_told(tmp_path: Path, where: str) -> None:
    events: list[Event] = []
    queue = await local_queue(tmp_path / "q", events, hot_limit=0)
    await queue.append(message(b"a@one.example", content=b"precious\r\n" * 50))
    [delivery] = await queue.claim(1)
    await queue.load([delivery])
    await queue.stamp(delivery, {0: Stamp.FAILED}, [Reason((0,), REPLY, "mx", 1)])
    queue.give_back(delivery, 0.0)
    path = segment(tmp_path / "q", ".mail")
    octets = path.read_bytes()
    at = SALT_SIZE + 20 if where == "header" else octets.index(b"precious")
    path.write_bytes(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :])
    report = asyncio.ensure_future(queue.claim_report())
    async with asyncio.timeout(20):
        while not report.done() and queue.ledger.messages:
            await asyncio.sleep(0.01)
    assert report.done() is (where == "content")
    [alarm] = alarms(events)
    assert "corrupt/" in alarm.action
    report.cancel()
    await queue.close()


async def test_an_unreadable_stamp_reads_as_to_do(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    await queue.append(message(b"a@one.example", b"b@one.example"))
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {0: Stamp.DELIVERED})
    root = await crash(queue, tmp_path / "q")
    path = segment(root, ".stamps")
    data = bytearray(path.read_bytes())
    data[SALT_SIZE] ^= 0x81
    path.write_bytes(data)
    events: list[Event] = []
    again = await local_queue(root, events)
    assert again.ledger.waiting == 2
    assert alarms(events)[0].problem == "1 of a message's stamps cannot be read"
    await again.close()


async def test_an_unreadable_stamp_of_at_most_once_mail_is_held(tmp_path: Path) -> None:
    await put(tmp_path / "q", message(b"a@one.example", flags=Flag.AT_MOST_ONCE))
    path = segment(tmp_path / "q", ".stamps")
    data = bytearray(path.read_bytes())
    data[SALT_SIZE] = 0
    path.write_bytes(data)
    queue = await local_queue(tmp_path / "q")
    assert queue.ledger.waiting == 0
    assert queue.ledger.messages == 1
    await queue.close()


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, lambda path: path.write_bytes(os.urandom(70000)), lambda path: os.truncate(path, 20)],
)
async def test_without_its_stamps_file_everybody_is_tried_again(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    queue = await local_queue(tmp_path / "q")
    await queue.append(message(b"a@one.example", b"b@one.example"))
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {0: Stamp.DELIVERED})
    root = await crash(queue, tmp_path / "q")
    spoil(segment(root, ".stamps"))
    events: list[Event] = []
    again = await local_queue(root, events)
    assert again.ledger.waiting == 2
    assert "cannot be read" in alarms(events)[0].problem
    await again.close()
    again = await local_queue(root)
    assert again.ledger.waiting == 2
    await again.close()


@pytest.mark.parametrize("suffix", [".mail", ".stamps"])
async def test_a_flipped_bit_in_a_salt_costs_nothing(tmp_path: Path, suffix: str) -> None:
    await put(tmp_path / "q", message(b"a@one.example"))
    path = segment(tmp_path / "q", suffix)
    data = bytearray(path.read_bytes())
    data[3] ^= 4
    path.write_bytes(data)
    for _ in range(2):
        queue = await local_queue(tmp_path / "q")
        assert queue.ledger.waiting == 1
        await queue.close()


async def test_a_record_inside_an_attachment_is_not_mail(tmp_path: Path) -> None:
    await put(tmp_path / "q", message(b"victim@one.example"))
    stolen = segment(tmp_path / "q", ".mail").read_bytes()
    carrier = message(b"a@one.example", content=b"x" * 40 + stolen)
    await put(tmp_path / "r", carrier)
    path = segment(tmp_path / "r", ".mail")
    data = bytearray(path.read_bytes())
    data[SALT_SIZE] ^= 0xFF  # damage in front: the reader must look for the next record
    path.write_bytes(data)
    queue = await local_queue(tmp_path / "r")
    assert queue.ledger.waiting == 0
    await queue.close()


async def test_left_overs_of_creation_and_removal(tmp_path: Path) -> None:
    await put(tmp_path / "q", message(b"a@one.example"))
    directory = tmp_path / "q/0"
    (directory / f"{900:020}.stamps").write_bytes(b"half")
    (directory / f"{901:020}.mail").write_bytes(b"")
    (directory / "notes.txt").write_text("not ours")
    queue = await local_queue(tmp_path / "q")
    assert queue.ledger.waiting == 1
    await queue.append(message(b"b@one.example"))
    await queue.close()
    names = {path.name for path in directory.iterdir()}
    assert "notes.txt" in names
    assert f"{900:020}.stamps" not in names
    assert f"{902:020}.mail" in names


# ---- reports (Q5) ----


async def failed(root: Path) -> tuple[LocalQueue, Message]:
    queue = await local_queue(root)
    sent = message(b"a@one.example", b"b@one.example")
    await queue.append(sent)
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, {1: Stamp.FAILED}, [Reason((1,), REPLY, "mx.example", 5)])
    return queue, sent


async def test_a_failure_is_still_owed_after_a_crash(tmp_path: Path) -> None:
    queue, sent = await failed(tmp_path / "q")
    again = await local_queue(await crash(queue, tmp_path / "q"))
    [delivery] = await again.claim(1)
    await again.stamp(delivery, {0: Stamp.DELIVERED})
    again.give_back(delivery, 0.0)
    owed = await again.claim_report()
    assert (owed.queue_id, owed.ordinals) == (sent.queue_id, (1,))
    assert owed.reasons == (Reason((1,), REPLY, "mx.example", 5),)
    await again.close()


async def test_a_report_on_disk_is_the_proof_that_it_was_made(tmp_path: Path) -> None:
    queue, sent = await failed(tmp_path / "q")
    parameters = covers(ids.text(sent.queue_id), (1,))
    await queue.append(message(b"sender@example.org", sender=b"", parameters=parameters, flags=Flag.REPORT))
    root = await crash(queue, tmp_path / "q")
    again = await local_queue(root)
    entry = again.find(sent.queue_id)
    assert entry is not None
    assert [entry.stamp(ordinal) for ordinal in range(2)] == [Stamp.TODO, Stamp.BOUNCED]
    assert again.ledger.waiting == 2
    await again.close()
    assert bytes([Stamp.TODO, Stamp.BOUNCED]) in segment(root, ".stamps").read_bytes()


async def test_reasons_keep_their_segment(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q", segment_size=1024)
    await queue.append(message(b"a@one.example", content=b"x" * 900))
    [delivery] = await queue.claim(1)
    await queue.append(message(b"b@two.example", content=b"x" * 900))
    await queue.stamp(delivery, {0: Stamp.FAILED}, [Reason((0,), REPLY)])
    await queue.append(message(b"c@two.example", content=b"x" * 900))
    await queue.append(message(b"d@two.example", content=b"x" * 900))
    for other in await queue.claim(10):
        await queue.stamp(other, {0: Stamp.DELIVERED})
        queue.give_back(other, 0.0)
    again = await local_queue(await crash(queue, tmp_path / "q"))
    owed = await again.claim_report()
    assert owed.reasons[0].reply == REPLY
    await again.report(owed, None)
    assert not again.ledger.messages
    await again.close()
    assert len(list(tmp_path.glob("q-crashed/0/*.mail"))) <= 1


async def test_reading_a_stopped_queue_changes_nothing(tmp_path: Path) -> None:
    queue, sent = await failed(tmp_path / "q")
    root = await crash(queue, tmp_path / "q")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    [found] = stopped(DiskFiles(), str(root))
    assert found.queue_id == ids.text(sent.queue_id)
    assert qmail_form(found) == "Ta@one.example\nFb@one.example"
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_after_a_restart_what_can_have_been_tried_is_spread(tmp_path: Path) -> None:
    await put(tmp_path / "q", message(b"a@one.example"))
    now = SystemClock().wall()
    queue = await local_queue(tmp_path / "q", first_due=lambda now, arrival, chance: now + 60)
    [claim] = queue.ledger.scheduled()
    assert queue.ledger.next_due() is not None
    assert claim.attempts == 0
    assert SystemClock().wall() - now < 60
    await queue.close()


def test_the_envelope_is_readable_in_the_file() -> None:
    sent = message(b"a@one.example")
    assert b"a@one.example\0" in encode_envelope(sent.envelope)
    assert HEADER_SIZE % 8 == 0
