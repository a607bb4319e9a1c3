"""fsck and repair on a real directory: what is said, what is kept, what is left alone."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles
from tests.support.queues import local_queue, message

from backstamp.mail.reply import Reply
from backstamp.queue import fsck, ids, reader
from backstamp.queue import repair as repairs
from backstamp.queue.files import DiskFiles, Files, QueueLockedError
from backstamp.queue.port import DAMAGED, Flag, Message, Reason
from backstamp.queue.record import HEADER_SIZE, SALT_SIZE, Header, Kind
from backstamp.queue.recovery import FormatError
from backstamp.queue.stamps import Stamp
from backstamp.queue.view import MessageView
from backstamp.queue.views import stopped

REPLY = Reply(550, "5.1.1 no")


async def made(root: Path) -> list[Message]:
    """Make a queue: four messages to two each; of the first one is delivered, of the second one failed."""
    sent = [message(b"a@x.example", b"b@y.example", content=b"%d" % number * 900) for number in range(4)]
    queue = await local_queue(root)
    for one in sent:
        await queue.append(one)
    claims = {(claim.queue_id, claim.domain): claim for claim in await queue.claim(100)}
    first, second = (claims[one.queue_id, b"x.example"] for one in sent[:2])
    await queue.stamp(first, {0: Stamp.DELIVERED})
    await queue.stamp(second, {0: Stamp.FAILED}, [Reason((0,), REPLY)])
    await queue.close()
    return sent


def header_of(root: Path, one: Message) -> Header:
    found = reader.scan(DiskFiles(), str(root / "0"), 1)
    return next(
        record.header
        for record in found.records
        if record.header.queue_id == one.queue_id and record.header.kind == Kind.MAIL
    )


def flip(path: Path, at: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[at] ^= 1
    path.write_bytes(octets)


def mend(root: Path, files: Files | None = None) -> fsck.Report:
    return repairs.repair(files or fsck.AroundFiles(), str(root), salt=lambda: os.urandom(16), now=1)


def examine(root: Path) -> fsck.Report:
    return fsck.examine(fsck.AroundFiles(), str(root))


def waiting(root: Path) -> dict[str, str]:
    """Return the letters of the stamps by queue id."""
    found: list[MessageView] = stopped(DiskFiles(), str(root))
    return {one.queue_id: "".join(recipient.stamp for recipient in one.recipients) for one in found}


def tree(root: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


MAIL = "0/00000000000000000001.mail"
STAMPS = "0/00000000000000000001.stamps"


async def test_a_sound_queue_is_left_alone(tmp_path: Path) -> None:
    await made(tmp_path)
    before = tree(tmp_path)
    report = examine(tmp_path)
    [segment] = report.segments
    assert (segment.alive, segment.done, segment.stamps) == (4, 0, {"D": 1, "F": 1, "T": 6})
    assert report.sound
    assert not segment.findings
    assert before == tree(tmp_path)
    assert mend(tmp_path).segments == report.segments
    assert before == tree(tmp_path)


async def test_a_header_that_does_not_verify(tmp_path: Path) -> None:
    sent = await made(tmp_path)
    header = header_of(tmp_path, sent[2])
    record = (tmp_path / MAIL).read_bytes()[header.offset : header.end]
    flip(tmp_path / MAIL, header.offset + 20)
    [segment] = examine(tmp_path).segments
    [finding] = segment.findings
    assert (finding.start, finding.end, finding.damage) == (header.offset, header.end, True)
    assert mend(tmp_path).sound
    [kept] = (tmp_path / "corrupt").iterdir()
    assert bytes(a ^ b for a, b in zip(kept.read_bytes(), record, strict=True)).strip(b"\0") == b"\1"
    names = [ids.text(one.queue_id) for one in sent]
    assert waiting(tmp_path) == {names[0]: "DT", names[1]: "FT", names[3]: "TT"}
    queue = await local_queue(tmp_path, report_after=0.0)
    assert {claim.queue_id for claim in await queue.claim(10)} == {sent[i].queue_id for i in (0, 1, 3)}
    owed = await queue.claim_report()
    assert owed.reasons[0].reply == REPLY
    await queue.close()


async def test_a_content_that_does_not_verify_is_reported_to_the_sender(tmp_path: Path) -> None:
    sent = await made(tmp_path)
    flip(tmp_path / MAIL, header_of(tmp_path, sent[2]).end - 1)
    [finding] = examine(tmp_path).segments[0].findings
    assert finding.queue_id == ids.text(sent[2].queue_id)
    assert "fail the 2 who wait" in finding.repair
    assert mend(tmp_path).sound
    assert examine(tmp_path).sound
    assert waiting(tmp_path)[ids.text(sent[2].queue_id)] == "FF"
    queue = await local_queue(tmp_path, report_after=0.0)
    owed = {}
    while len(owed) < 2:
        one = await queue.claim_report()
        owed[one.queue_id] = one
        await queue.report(one, None)
    assert owed[sent[2].queue_id].reasons[0].reply == DAMAGED
    assert owed[sent[2].queue_id].envelope.sender == sent[2].envelope.sender
    await queue.close()


async def test_a_content_nobody_waits_for(tmp_path: Path) -> None:
    sent = await made(tmp_path)
    header = header_of(tmp_path, sent[3])
    flip(tmp_path / MAIL, header.end - 1)
    stamps = bytearray((tmp_path / STAMPS).read_bytes())
    at = SALT_SIZE + header.first_stamp
    stamps[at : at + 2] = bytes([Stamp.DELIVERED, Stamp.REMOVED])
    (tmp_path / STAMPS).write_bytes(stamps)
    [finding] = examine(tmp_path).segments[0].findings
    assert "nobody waits" in finding.repair
    assert mend(tmp_path).sound
    assert len(waiting(tmp_path)) == 3


async def test_stamps_that_are_gone(tmp_path: Path) -> None:
    sent = await made(tmp_path)
    octets = (tmp_path / STAMPS).read_bytes()
    (tmp_path / STAMPS).write_bytes(octets[:100])
    [finding] = examine(tmp_path).segments[0].findings
    assert "second copies" in finding.repair
    assert mend(tmp_path).sound
    assert set(waiting(tmp_path).values()) == {"TT"}
    assert len(waiting(tmp_path)) == len(sent)
    [kept] = (tmp_path / "corrupt").iterdir()
    assert (kept.name, kept.read_bytes()) == (STAMPS[2:], octets[:100])


@pytest.mark.parametrize(("flags", "letter"), [(Flag.NONE, "T"), (Flag.AT_MOST_ONCE, "H")])
async def test_a_stamp_that_is_none(tmp_path: Path, flags: Flag, letter: str) -> None:
    queue = await local_queue(tmp_path)
    await queue.append(message(b"a@x.example", b"b@y.example", flags=flags))
    await queue.close()
    flip(tmp_path / STAMPS, SALT_SIZE)
    [finding] = examine(tmp_path).segments[0].findings
    assert ("held" in finding.repair) == (letter == "H")
    assert mend(tmp_path).sound
    assert [*waiting(tmp_path).values()] == [f"{letter}T"]
    assert examine(tmp_path).sound


@pytest.mark.parametrize("name", [MAIL, STAMPS])
async def test_a_salt_with_a_flipped_bit(tmp_path: Path, name: str) -> None:
    await made(tmp_path)
    flip(tmp_path / name, 5)
    [finding] = examine(tmp_path).segments[0].findings
    assert name[2:] in finding.what
    before = waiting(tmp_path)
    assert mend(tmp_path).sound
    assert waiting(tmp_path) == before
    assert examine(tmp_path).sound


async def test_a_bad_sector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = await made(tmp_path)
    header = header_of(tmp_path, sent[1])
    bad = header.offset // 512 * 512 + 512
    read = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith("1.mail") and offset < bad + 512 and offset + length > bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    report = examine(tmp_path)
    assert not report.sound
    assert mend(tmp_path).sound
    left = waiting(tmp_path)
    assert {ids.text(sent[i].queue_id) for i in (0, 3)} <= left.keys()


async def test_what_a_crash_leaves_is_no_damage(tmp_path: Path) -> None:
    await made(tmp_path)
    with (tmp_path / MAIL).open("ab") as mail:
        mail.write(b"half a record")
    (tmp_path / "0" / "00000000000000000007.stamps").write_bytes(b"x")
    (tmp_path / "0" / "00000000000000000008.mail.new").write_bytes(b"x")
    (tmp_path / "0" / "README").write_bytes(b"x")
    report = examine(tmp_path)
    assert report.sound
    assert [finding.damage for finding in report.segments[0].findings] == [False]
    assert len(report.findings) == 3
    assert mend(tmp_path).sound
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"README", MAIL[2:], STAMPS[2:]}


async def test_a_source_that_was_copied_counts_once(tmp_path: Path) -> None:
    """Between the name of a copy and the removal of its source, and after a crash there."""
    sent = await made(tmp_path)
    shutil.copytree(tmp_path / "0", tmp_path / "before")
    flip(tmp_path / MAIL, header_of(tmp_path, sent[2]).end - 1)
    mend(tmp_path)
    for path in (tmp_path / "before").iterdir():
        path.rename(tmp_path / "0" / path.name)
    assert len(waiting(tmp_path)) == len(sent)
    report = examine(tmp_path)
    assert [segment.number for segment in report.segments] == [2]
    assert ["copied" in finding.what for finding in report.findings] == [True]


async def test_a_repair_that_finds_no_room_changes_nothing_and_can_be_run_again(tmp_path: Path) -> None:
    sent = await made(tmp_path)
    flip(tmp_path / MAIL, header_of(tmp_path, sent[2]).offset + HEADER_SIZE - 1)
    files = FaultyFiles()
    files.creating = errno.ENOSPC
    report = mend(tmp_path, files)
    assert not report.sound
    assert "repaired: no space" in report.segments[0].findings[-1].what
    assert (tmp_path / MAIL).exists()
    assert mend(tmp_path).sound
    assert len(waiting(tmp_path)) == len(sent) - 1


async def test_nothing_left_of_a_segment(tmp_path: Path) -> None:
    await made(tmp_path)
    size = (tmp_path / MAIL).stat().st_size
    (tmp_path / MAIL).write_bytes(os.urandom(size))
    assert not examine(tmp_path).segments[0].alive
    mend(tmp_path)
    assert not list((tmp_path / "0").iterdir()) or examine(tmp_path).sound


async def test_a_queue_in_use_is_not_repaired(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path)
    with pytest.raises(QueueLockedError):
        mend(tmp_path)
    assert examine(tmp_path).sound
    await queue.close()


def test_what_is_no_queue(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="there is no"):
        examine(tmp_path)
    with pytest.raises(FormatError, match="there is no"):
        mend(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "FORMAT").write_text("backstamp queue 9\n")
    with pytest.raises(FormatError):
        examine(tmp_path)


async def test_a_running_queue_under_load_is_sound(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path, segment_size=4000)
    for number in range(60):
        await queue.append(message(b"a@x.example", content=b"x" * 500))
        for claim in await queue.claim(1) if number % 2 else ():
            await queue.load([claim])
            await queue.stamp(claim, {0: Stamp.DELIVERED})
            queue.give_back(claim, 0.0)
        assert examine(tmp_path).sound
    await queue.close()
