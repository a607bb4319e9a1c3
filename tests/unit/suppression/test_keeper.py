"""The suppression list of a running relay."""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from backstamp.clock import SystemClock
from backstamp.policy.suppression import At, Entry, Match, Source, SuppressionPolicy
from backstamp.policy.suppression_file import CSV, NDJSON, Mistake, export
from backstamp.queue import fsck
from backstamp.queue.files import DiskFiles
from backstamp.queue.recovery import prepare
from backstamp.suppression import keeper
from backstamp.suppression.database import NAME, Asked
from backstamp.suppression.keeper import MistakenFileError, SuppressionList
from backstamp.telemetry.events import Alarm, Event, Suppressed, Unsuppressed

NOW = 1_764_000_000.0
ON = SuppressionPolicy(enabled=True, after=1)
OWN = Entry("joe@example.org", since=int(NOW), source=Source.OPERATOR)


class Clock(SystemClock):
    def __init__(self) -> None:
        self.now = NOW

    def wall(self) -> float:
        return self.now


class Kept:
    def __init__(self, directory: Path, policy: SuppressionPolicy) -> None:
        self.events: list[Event] = []
        self.clock = Clock()
        self.list = SuppressionList(
            DiskFiles(), str(directory), policy, clock=self.clock, emit=self.events.append
        )

    def bounced(self, address: bytes = b"ann@example.org", name: str = "invalid-recipient") -> None:
        self.list.bounced(address, b"t", name, "550 5.1.1\nno")


@asynccontextmanager
async def kept(directory: Path, policy: SuppressionPolicy = ON) -> AsyncIterator[Kept]:
    made = Kept(directory, policy)
    await made.list.open()
    try:
        yield made
    finally:
        await made.list.close()


async def test_what_an_operator_adds_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    off = SuppressionPolicy()
    async with kept(tmp_path, off) as here:
        await here.list.add(OWN)
        assert here.list.match(b"Joe@example.org", b"t") == Match("", Source.OPERATOR, None)
        assert here.events == [
            Suppressed(time=int(NOW * 1e6), source="operator", recipient="joe@example.org")
        ]
        assert b"until" not in msgspec.json.encode(here.events[0])
    async with kept(tmp_path, off) as here:
        assert here.list.match(b"Joe@example.org", b"t") is not None
        assert len(here.list) == 1
        assert await here.list.remove("joe@example.org", None) == [OWN]
        assert here.list.match(b"Joe@example.org", b"t") is None
        assert [type(event) for event in here.events] == [Unsuppressed]
    async with kept(tmp_path, off) as here:
        assert len(here.list) == 0


async def test_a_bounce_suppresses_when_it_is_written(tmp_path: Path) -> None:
    async with kept(tmp_path) as here:
        here.bounced()
        here.bounced(name="spam-block")
        here.bounced(b"mailer@example.org", "suppressed")
        assert here.list.match(b"ann@example.org", b"t") is None
        await here.list.flush()
        found = here.list.match(b"ann@example.org", b"t")
        assert found is not None
        assert (found.bounce_class, found.source) == ("invalid-recipient", Source.BOUNCE)
        assert here.list.match(b"ann@example.org", b"other") is None
        [told] = here.events
        assert isinstance(told, Suppressed)
        assert (told.recipient, told.tenant, told.reply) == ("ann@example.org", "t", "550 5.1.1 no")
        assert told.until == int(NOW) + 30 * 86400

        here.clock.now = told.until
        assert here.list.match(b"ann@example.org", b"t") is None
        assert len(here.list) == 1
        await here.list.sweep()
        assert len(here.list) == 0
        assert await here.list.page(Asked()) == []


async def test_what_was_learned_is_not_honoured_when_the_list_is_off(tmp_path: Path) -> None:
    async with kept(tmp_path) as here:
        here.bounced()
        await here.list.flush()
        here.list.policy = SuppressionPolicy()
        assert here.list.match(b"ann@example.org", b"t") is None
        here.bounced(b"bob@example.org")
        await here.list.flush()
        assert len(here.list) == 1


async def test_what_gathered_is_written_at_the_end(tmp_path: Path) -> None:
    async with kept(tmp_path) as here:
        here.bounced()
    async with kept(tmp_path) as here:
        assert here.list.match(b"ann@example.org", b"t") is not None


async def test_it_writes_and_sweeps_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(keeper, "GATHER", 0.001)
    monkeypatch.setattr(keeper, "SWEEP", 0.0)
    async with kept(tmp_path) as here:
        running = asyncio.create_task(here.list.run())
        here.bounced()
        while here.list.match(b"ann@example.org", b"t") is None:
            await asyncio.sleep(0.001)
        here.clock.now += 31 * 86400
        while len(here.list):
            await asyncio.sleep(0.001)
        running.cancel()


async def test_bounces_beyond_the_bound_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BOUND", 2)
    async with kept(tmp_path) as here:
        for number in range(5):
            here.bounced(b"u%d@example.org" % number)
        await here.list.flush()
        assert len(here.list) == 2


async def test_the_refusal_at_accept(tmp_path: Path) -> None:
    async with kept(tmp_path, SuppressionPolicy()) as here:
        await here.list.add(OWN)
        assert here.list.refuse(b"joe@example.org", b"t") == (
            b"550 5.7.1 Recipient is on the suppression list\r\n"
        )
        assert here.list.refuse(b"ann@example.org", b"t") is None
        here.list.policy = SuppressionPolicy(at=At.SEND)
        assert here.list.refuse(b"joe@example.org", b"t") is None


async def test_a_file_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PORTION", 3)
    entries = [Entry(f"u{number}@example.org", since=7) for number in range(10)]
    async with kept(tmp_path) as here:
        assert await here.list.take(NDJSON, io.BytesIO(b"".join(map(export, entries)))) == 10
        assert len(here.list) == 10
        assert here.events == [Suppressed(time=int(NOW * 1e6), source="import", entries=10)]
        assert [one async for page in here.list.pages() for one in page] == entries


async def test_a_file_with_mistakes_changes_nothing(tmp_path: Path) -> None:
    async with kept(tmp_path) as here:
        with pytest.raises(MistakenFileError) as caught:
            await here.list.take(CSV, io.BytesIO(b"ann@example.org\nbob\njoe@example.org\n\ncid\n"))
        assert [one.line for one in caught.value.mistakes] == [2, 5]
        assert caught.value.mistakes[0] == Mistake(
            2, "address 'bob': is not an address; write user@example.org"
        )
        with pytest.raises(MistakenFileError) as caught:
            await here.list.take(CSV, io.BytesIO(b"ann@example.org\n" + b"bob\n" * 1000))
        assert len(caught.value.mistakes) == keeper.MISTAKES
        assert len(here.list) == 0
        assert await here.list.page(Asked()) == []
        assert here.events == []


async def test_an_endless_line_is_a_mistake(tmp_path: Path) -> None:
    async with kept(tmp_path) as here:
        with pytest.raises(MistakenFileError):
            await here.list.take(NDJSON, io.BytesIO(b"[" * 10_000_000))


@pytest.mark.parametrize("octets", [b"no database at all" * 300, b"SQLite format 3\0" + b"\xff" * 9000])
async def test_a_damaged_file_is_kept_and_the_relay_starts(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / NAME).write_bytes(octets)
    (tmp_path / f"{NAME}-wal").write_bytes(b"its log")
    async with kept(tmp_path) as here:
        [alarm] = here.events
        assert isinstance(alarm, Alarm)
        assert "cannot be read" in alarm.problem
        name = f"corrupt/{int(NOW * 1e6)}-{NAME}"
        assert name in alarm.action
        assert (tmp_path / name).read_bytes() == octets
        await here.list.add(OWN)
    async with kept(tmp_path) as here:
        assert here.events == []
        assert len(here.list) == 1


async def test_a_row_that_is_none_is_damage(tmp_path: Path) -> None:
    import sqlite3

    async with kept(tmp_path) as here:
        await here.list.add(OWN)
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute("UPDATE entry SET source = 'who knows'")
    connection.commit()
    connection.close()
    async with kept(tmp_path) as here:
        assert isinstance(here.events[0], Alarm)
        assert len(here.list) == 0


async def test_a_disk_that_does_not_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are told; what bounces tells it once, and the list in memory holds."""
    async with kept(tmp_path) as here:
        await here.list.add(OWN)
        here.events.clear()
        connection = here.list._database._connection
        assert connection is not None
        await here.list._do(lambda: connection.execute("PRAGMA query_only = ON"))
        with pytest.raises(OSError, match="readonly"):
            await here.list.add(Entry("bob@example.org"))
        assert here.list.match(b"bob@example.org", b"") is None
        with pytest.raises(OSError, match="readonly"):
            await here.list.remove(OWN.address, None)
        assert here.list.match(b"joe@example.org", b"") is not None
        for _ in range(2):
            here.bounced()
            await here.list.flush()
        here.clock.now += 1
        await here.list.sweep()
        [alarm] = here.events
        assert isinstance(alarm, Alarm)
        assert "bounces were not written" in alarm.problem
        await here.list._do(lambda: connection.execute("PRAGMA query_only = OFF"))
        here.bounced()
        await here.list.flush()
        assert here.list.match(b"ann@example.org", b"t") is not None


async def test_the_queue_does_not_mind_its_files(tmp_path: Path) -> None:
    files, root = DiskFiles(), str(tmp_path / "queue")
    files.close(prepare(files, root))
    async with kept(tmp_path / "queue") as here:
        await here.list.add(OWN)
        assert {NAME, f"{NAME}-wal"} <= {*os.listdir(root)}
        report = fsck.examine(files, root)
        assert report.sound
        assert report.findings == ()
        files.close(prepare(files, root))
        assert {NAME, f"{NAME}-wal"} <= {*os.listdir(root)}
