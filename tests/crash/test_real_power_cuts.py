"""A real relay on a real file system whose power is cut under load: nothing acknowledged is lost.

The file system stands in a file and is shut down where it is, its journal unflushed; then the
relay is killed, the file system mounted again, and a new relay delivers what is there.
Without syncs the same cut must lose mail, or the test proves nothing.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import unsynced
from tests.support.disk import Disk
from tests.support.load import Load
from tests.support.process import Process

from backstamp.queue.files import DiskFiles
from backstamp.queue.recovery import FormatError
from backstamp.queue.views import stopped
from backstamp.sink.server import OK, Received, Sink

CUTS = 20
CLIENTS = 20
CONNECTIONS = 20
"""At most so many are in flight: the relay's connections to one next hop."""

AT_A_TIME = 100_000


class Books:
    """What clients were told, what the sink took, and what the relay said it delivered."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.arrived: Counter[int] = Counter()

    def take(self, message: Received) -> None:
        [recipient] = message.recipients
        self.arrived[_number(recipient.decode())] += 1

    @property
    def twice(self) -> set[int]:
        return {number for number, count in self.arrived.items() if count > 1}


def _number(address: str) -> int:
    return int(address[1:].partition("@")[0])


def _waiting(relay: Process) -> set[int]:
    return {
        _number(recipient.address)
        for message in stopped(DiskFiles(), str(relay.queue))
        for recipient in message.recipients
        if recipient.stamp != "D"
    }


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    disk = Disk(tmp_path, request.param)
    if (reason := disk.missing()) is not None:
        pytest.skip(reason)
    return disk


async def cut(disk: Disk, relay: Process, books: Books, first: int, seconds: float) -> set[int]:
    """Run a relay under load and cut the power; return whom it had said to be delivered."""
    before = len(relay.events()) if relay.log.exists() else 0
    with disk.mounted():
        await relay.start()
        load = Load(relay.address, range(first, first + AT_A_TIME))
        clients = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
        async with asyncio.timeout(60):
            while len(load.acknowledged) < CLIENTS:
                await asyncio.sleep(0.005)
        await asyncio.sleep(seconds)
        # What a client reads from now on may be about a write that failed: it says so, or it was synced.
        disk.cut()
        load.ended = True
        await relay.kill()
        await asyncio.wait(clients)
        books.acknowledged |= load.acknowledged
    told = relay.events()[before:]
    return {_number(event["recipient"]) for event in told if event["event"] == "delivered"}


async def deliver(disk: Disk, relay: Process, books: Books) -> None:
    """Start again, and wait until everything is there that was acknowledged."""
    with disk.mounted():
        await relay.start()
        async with asyncio.timeout(60):
            while books.acknowledged - set(books.arrived) and relay.code is None:
                await asyncio.sleep(0.05)
        while _waiting(relay):
            await asyncio.sleep(0.1)
        assert await relay.stop() == 0


@pytest.mark.crash
@pytest.mark.timeout(900)
async def test_real_power_cuts(disk: Disk, tmp_path: Path, say: Callable[[str], None]) -> None:
    chance = random.Random(0)
    books = Books()
    async with Sink(received=books.take) as sink:
        sink.script.do("DOT", octets=OK, delay=0.002)
        async with Process(tmp_path, sink.address, queue=disk.root / "queue") as relay:
            for number in range(CUTS):
                before = len(books.twice)
                said = await cut(disk, relay, books, number * AT_A_TIME, chance.uniform(0.0, 0.5))
                await deliver(disk, relay, books)
                assert not said & books.twice, "sent again though said to be delivered"
                assert len(books.twice) - before <= CONNECTIONS
    assert not books.acknowledged - set(books.arrived)
    assert set(books.arrived.values()) <= {1, 2}
    assert len(books.acknowledged) >= CUTS * CLIENTS
    say(f"{CUTS} cuts, {len(books.acknowledged)} acknowledged, 0 lost, {len(books.twice)} came twice")


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_without_syncs_a_power_cut_loses_mail(
    disk: Disk, tmp_path: Path, say: Callable[[str], None]
) -> None:
    assert unsynced.__file__ is not None
    books = Books()
    async with Sink(received=books.take) as sink:
        # Nobody is taken yet: what was acknowledged stands in the queue, or nowhere.
        sink.script.do("MAIL", octets=b"451 4.3.0 later\r\n")
        program = ["-P", unsynced.__file__]
        async with Process(tmp_path, sink.address, queue=disk.root / "queue", program=program) as relay:
            await cut(disk, relay, books, 0, 1.0)
            with disk.mounted():
                try:
                    left = _waiting(relay)
                except (OSError, FormatError):
                    left = set()
    lost = books.acknowledged - left
    say(f"without syncs: {len(books.acknowledged)} acknowledged, {len(lost)} lost")
    assert lost
