"""What the commit thread does with a batch, in which order (Q1, Q2, Q5, Q6)."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles
from tests.support.queues import message
from tests.support.recording import RecordingFiles

from backstamp.queue import reader
from backstamp.queue.port import Message
from backstamp.queue.record import SALT_SIZE, Kind
from backstamp.queue.segment import CAPACITY, Segment, jot
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import Append, Job, Marks, Probe, Removal, Sealed, Store

T, D, F, Q = Stamp.TODO, Stamp.DELIVERED, Stamp.FAILED, Stamp.DOUBT


class Bench:
    """A store in a directory, and what it announced."""

    def __init__(
        self, root: Path, files: RecordingFiles | FaultyFiles | None = None, size: int = 1 << 20
    ) -> None:
        (root / "0").mkdir()
        self.files = files or RecordingFiles()
        self.directory = str(root / "0")
        self.announced: list[list[Job]] = []
        self.store = Store(
            self.files,
            self.directory,
            numbers=itertools.count(1).__next__,
            salt=lambda: os.urandom(SALT_SIZE),
            sealed=lambda _: None,
            segment_size=size,
        )

    def commit(self, *jobs: Job) -> None:
        self.announced.clear()
        self.store.commit(jobs, lambda done: self.announced.append(list(done)))

    def done(self) -> list[str]:
        assert isinstance(self.files, RecordingFiles)
        done, self.files.done = self.files.done, []
        return done

    def stamps(self, number: int = 1) -> bytes:
        return Path(f"{self.directory}/{number:020}.stamps").read_bytes()[SALT_SIZE:]


def opened(bench: Bench) -> int:
    """Return how many descriptors there are of files in the directory."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.startswith(bench.directory) for link in links)


def append(sent: Message | None = None, kind: Kind = Kind.MAIL) -> Append:
    return Append(sent or message(b"a@y.example"), lambda _: None, kind)


def marks(job: Append, *stamps: Stamp, reason: Append | None = None, first: int = 0) -> Marks:
    assert job.segment is not None
    return Marks(job.segment, [(job.first + first, bytes(stamps))], lambda _: None, reason)


def test_a_segment_is_durable_before_its_first_record(tmp_path: Path) -> None:
    """Q1: stamps first, then the records' file, then both names; only then a record."""
    bench = Bench(tmp_path)
    bench.commit(append())
    assert bench.done() == [
        "create 1.stamps",
        "write 1.stamps",
        "sync 1.stamps",
        "create 1.mail",
        "write 1.mail",
        "sync directory ",
        "write+sync 1.mail",
    ]


def test_a_batch_is_one_write_and_its_stamps_are_one_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    jobs = [append() for _ in range(20)]
    bench.commit(*jobs)
    bench.done()
    more = append()
    bench.commit(more, *(marks(job, D) for job in jobs))
    assert bench.done() == ["write+sync 1.mail", "write+sync 1.stamps"]
    assert [type(group[0]) for group in bench.announced] == [Append, Marks]
    assert bench.stamps()[:21] == bytes([D] * 20 + [T])


def test_what_lies_between_two_stamps_is_written_as_it_stands(tmp_path: Path) -> None:
    """Q2."""
    bench = Bench(tmp_path)
    jobs = [append() for _ in range(5)]
    bench.commit(*jobs)
    bench.commit(marks(jobs[2], F))
    bench.commit(marks(jobs[0], D), marks(jobs[4], D))
    assert bench.stamps()[:6] == bytes([D, T, F, T, D, T])


def test_reasons_are_durable_before_their_stamps(tmp_path: Path) -> None:
    """Q5."""
    bench = Bench(tmp_path)
    job = append()
    bench.commit(job)
    bench.done()
    reason = append(message(), Kind.REASON)
    bench.commit(marks(job, F, reason=reason))
    assert bench.done() == ["write+sync 1.mail", "write+sync 1.stamps"]
    assert bench.announced[0][0] is reason


def test_a_stamp_whose_reason_failed_is_not_written(tmp_path: Path) -> None:
    files = FaultyFiles()
    bench = Bench(tmp_path, files)
    job = append()
    bench.commit(job)
    files.failing[".mail"] = 5
    failed = marks(job, F, reason=append(message(), Kind.REASON))
    bench.commit(failed)
    assert failed.error is not None
    assert bench.stamps()[0] == T


class Unsynced(RecordingFiles):
    """All of a durable write is there, and its sync fails: while `failing`, of every one."""

    failing = False

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        super().write_durably(descriptor, buffers, offset)
        if self.failing:
            raise OSError(5, "the disk failed")


def test_a_record_whose_sync_failed_is_cut_off_durably_and_ends_its_segment(tmp_path: Path) -> None:
    """Q8: its client is told that it was not taken, so it is not to be sent after the next start."""
    files = Unsynced()
    bench = Bench(tmp_path, files)
    first, second, third = append(), append(), append()
    bench.commit(first)
    bench.done()
    files.failing = True
    bench.commit(second)
    files.failing = False
    assert bench.done() == ["write+sync 1.mail", "truncate 1.mail", "sync 1.mail"]
    assert second.error is not None
    [[told, sealed]] = bench.announced
    assert told is second
    # Otherwise it would stay when all of it is done.
    assert isinstance(sealed, Sealed)
    assert sealed.segment is first.segment
    found = reader.scan(files, bench.directory, 1)
    assert [record.header.queue_id for record in found.records] == [first.message.queue_id]
    assert not found.damaged
    bench.commit(third)
    assert third.segment is not first.segment


def test_removal_is_in_the_order_that_resurrects_nobody(tmp_path: Path) -> None:
    """Q6."""
    bench = Bench(tmp_path)
    job = append()
    bench.commit(job)
    assert job.segment is not None
    bench.done()
    bench.commit(marks(job, D), Removal(job.segment, lambda _: None))
    assert bench.done() == ["write+sync 1.stamps", "unlink 1.mail", "sync directory ", "unlink 1.stamps"]


def test_stamps_that_cannot_be_written_go_to_a_new_file(tmp_path: Path) -> None:
    """Q8: the old file is believed no more, the segment takes no more records."""
    files = FaultyFiles()
    bench = Bench(tmp_path, files)
    jobs = [append(), append()]
    bench.commit(*jobs)
    files.failing[".stamps"] = 5
    stamped = marks(jobs[1], D)
    bench.commit(marks(jobs[0], D), stamped)
    assert stamped.error is None
    assert not stamped.segment.failed  # the new one is believed again
    assert bench.stamps()[:3] == bytes([D, D, T])
    assert any(isinstance(job, Sealed) for group in bench.announced for job in group)
    files.failing.clear()
    later = append()
    bench.commit(later, marks(jobs[0], D))
    assert later.segment is not None
    assert later.segment.number == 2
    assert sorted(os.listdir(bench.directory))[:2] == [f"{1:020}.mail", f"{1:020}.stamps"]


class Jotting(FaultyFiles):
    """The loop jots while a new stamps file takes the place of the old one."""

    segment: Segment | None = None

    def rename(self, path: str, new_path: str) -> None:
        super().rename(path, new_path)
        if self.segment is not None:
            jot(self, self.segment, [(1, bytes([Q]))])


def test_what_the_loop_jots_down_goes_to_the_new_stamps_file_too(tmp_path: Path) -> None:
    files = Jotting()
    bench = Bench(tmp_path, files)
    job = append(message(b"a@y.example", b"b@y.example"))
    bench.commit(job)
    files.segment = job.segment
    files.failing[".stamps"] = 5
    bench.commit(stamped := marks(job, D))
    assert stamped.error is None
    assert bench.stamps()[:2] == bytes([D, Q])


def test_stamps_that_could_not_be_written_are_written_when_they_can(tmp_path: Path) -> None:
    files = FaultyFiles()
    bench = Bench(tmp_path, files)
    job = append()
    bench.commit(job)
    files.failing[".stamps"] = files.creating = 5
    stamped = marks(job, D)
    bench.commit(stamped)
    assert stamped.error is not None
    files.failing.clear()
    files.creating = None
    again = marks(job, D)
    bench.commit(again)
    assert again.error is None
    assert bench.stamps()[:2] == bytes([D, T])


def test_what_the_loop_jots_down_is_not_undone_by_a_commit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    jobs = [append() for _ in range(3)]
    bench.commit(*jobs)
    [segment] = {job.segment for job in jobs if job.segment is not None}
    jot(bench.files, segment, [(1, bytes([Q]))])
    bench.commit(marks(jobs[0], D), marks(jobs[2], D))
    assert bench.stamps()[:3] == bytes([D, Q, D])


def test_a_probe_tells_whether_a_segment_can_be_made(tmp_path: Path) -> None:
    files = FaultyFiles()
    bench = Bench(tmp_path, files)
    files.creating = 28
    probe = Probe(lambda _: None)
    bench.commit(probe)
    assert probe.error is not None
    files.creating = None
    for _ in range(2):
        probe = Probe(lambda _: None)
        bench.commit(probe)
        assert probe.error is None
    assert len(os.listdir(bench.directory)) == 2


def test_a_probe_that_fails_leaves_nothing_and_a_spare_segment_speaks_for_no_other(tmp_path: Path) -> None:
    files = FaultyFiles()
    bench = Bench(tmp_path, files)
    bench.store.prepare()
    spare = os.listdir(bench.directory)
    descriptors = opened(bench)
    for _ in range(3):
        files.failing[".mail"] = 5
        bench.commit(failed := Probe(lambda _: None))
        files.failing.clear()
        files.creating = 24
        bench.commit(refused := Probe(lambda _: None))
        files.creating = None
        bench.commit(worked := Probe(lambda _: None))
        assert (failed.error is None, refused.error is None, worked.error) == (False, False, None)
    assert os.listdir(bench.directory) == spare
    assert opened(bench) == descriptors == 2


def test_a_segment_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    bench = Bench(tmp_path, files)
    files.syncing = 28
    job = append()
    bench.commit(job)
    assert job.error is not None
    assert os.listdir(bench.directory) == []


@pytest.mark.parametrize("by", ["size", "stamps"])
def test_a_full_segment_is_sealed_after_its_outcomes_are_known(tmp_path: Path, by: str) -> None:
    bench = Bench(tmp_path, size=5000)
    many = [b"u%d@y.example" % number for number in range(CAPACITY - 1)]
    first = message(*many) if by == "stamps" else message(b"a@y.example", content=b"x" * 4000)
    second = message(b"a@y.example", b"b@y.example", content=b"x" * 1500)
    jobs = [append(first), append(second)]
    bench.commit(*jobs)
    one, two = (job.segment for job in jobs)
    assert one is not None
    assert two is not None
    assert (one.number, two.number) == (1, 2)
    [announced] = bench.announced
    assert announced[:2] == jobs
    assert isinstance(announced[2], Sealed)
    found = reader.scan(bench.files, bench.directory, 1)
    assert found.sealed
    assert found.durable == found.end - 88


def test_a_message_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=5000)
    jobs = [append(), append(message(b"a@y.example", content=b"x" * 20_000)), append()]
    bench.commit(*jobs)
    assert [job.segment and job.segment.number for job in jobs] == [1, 2, 3]


def test_a_spare_segment_is_made_ahead_of_need(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.store.prepare()
    bench.store.prepare()
    assert bench.done().count("create 1.mail") == 1
    bench.commit(append())
    assert bench.done() == ["write+sync 1.mail"]


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    jobs = [append(message(b"a@y.example", content=b"%d" % number)) for number in range(800)]
    bench.commit(*jobs)
    found = reader.scan(bench.files, bench.directory, 1)
    assert [record.header.queue_id for record in found.records] == [job.message.queue_id for job in jobs]


def test_an_orderly_end_seals(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.commit(append())
    bench.store.seal()
    assert reader.scan(bench.files, bench.directory, 1).sealed
