"""Large content: through the queue in pieces, octet for octet, and gone without a trace if it is refused."""

import asyncio
import errno
import tracemalloc
from pathlib import Path

import pytest
from tests.support.door import Door, door
from tests.support.faults import FaultyFiles
from tests.support.queues import gathered, local_queue, message

from backstamp.mail.reply import Reply
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import Deposit, Flag, QueueRefusedError
from backstamp.queue.segment import STAMPS_SIZE
from backstamp.queue.stamps import Stamp

MIB = 1024 * 1024
ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"


def wire(content: bytes) -> bytes:
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return ENVELOPE + stuffed + b".\r\nQUIT\r\n"


def large(size: int) -> bytes:
    """Return a content with dots where they are awkward."""
    line = b"..line\r\n.\r\n..\r\n.x\r\n" + b"y" * 47 + b"\r\n"
    return b"Subject: large\r\n\r\n" + line * (size // len(line))


@pytest.mark.parametrize("piece", [None, 65_537, 8_191])
async def test_it_arrives_octet_for_octet_however_it_is_cut(piece: int | None) -> None:
    content = large(3 * MIB)
    async with door() as here:
        answer = await here.talk(wire(content), piece=piece)
        assert b"\r\n250 2.0.0 Ok: queued as " in answer
        [queued] = here.queue.messages
        assert queued.content.endswith(content)
        assert queued.content.startswith(b"Received: ")
        [deposit] = here.queue.deposits
        assert max(map(len, deposit.pieces)) <= 3 * MIB // 2


async def refused(here: Door, octets: bytes) -> bytes:
    answer = await here.talk(octets)
    assert not here.queue.messages
    assert {deposit.ended for deposit in here.queue.deposits} <= {"abandoned"}
    return answer.splitlines()[-2]


async def test_a_bare_line_end_far_inside_is_refused_at_the_end() -> None:
    async with door() as here:
        content = large(2 * MIB) + b"smuggled\n" + large(MIB)
        assert b"550 5.6.0 The message has a bare LF" in await refused(here, wire(content))


async def test_a_queue_that_fails_in_the_middle_is_told_at_the_end() -> None:
    async with door() as here:
        here.queue.write_error = QueueRefusedError(Reply(452, "4.3.1 full"))
        assert await refused(here, wire(large(3 * MIB))) == b"452 4.3.1 full"


async def test_a_bug_in_the_middle_is_the_relays_own_trouble() -> None:
    async with door() as here:
        here.queue.write_error = ZeroDivisionError()
        assert (await refused(here, wire(large(3 * MIB)))).startswith(b"451 4.3.0")


async def test_a_client_that_goes_away_leaves_nothing() -> None:
    async with door() as here:
        await here.talk(wire(large(3 * MIB))[:-20])
        while not here.queue.deposits or not here.queue.deposits[0].ended:
            await asyncio.sleep(0.01)
        assert here.queue.deposits[0].ended == "abandoned"
        assert not here.queue.messages


async def test_it_is_durable_and_comes_back_after_a_restart(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    content = large(2 * MIB)
    sent = message(b"a@y.example", b"b@z.example", content=content[:MIB], flags=Flag.AT_MOST_ONCE)
    deposit = await queue.deposit(sent)
    await deposit.write(content[MIB:])
    await deposit.commit()
    await deposit.abandon()
    for _ in range(2):
        claims = await queue.claim(9)
        assert len(claims) == 2
        load = await queue.load([claims[0]])
        assert await gathered(load.content) == content
        assert load.flags is Flag.AT_MOST_ONCE
        await queue.close()
        queue = await local_queue(tmp_path / "q")
    await queue.close()


async def test_one_that_is_abandoned_leaves_no_file(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    deposit = await queue.deposit(message(b"a@y.example", content=b"x" * MIB))
    assert len(list(tmp_path.glob("q/0/*.new"))) == 1
    await deposit.abandon()
    assert not list(tmp_path.glob("q/0/*.new"))
    await queue.close()
    assert all(path.stat().st_size < MIB for path in tmp_path.glob("q/0/*"))


async def test_a_full_disk_refuses_it_and_takes_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, probe=0.01)
    deposit = await queue.deposit(message(b"a@y.example", content=b"x" * MIB))
    files.writing = errno.ENOSPC
    with pytest.raises(QueueRefusedError) as error:
        await deposit.write(b"x" * MIB)
    assert error.value.reply.code == 452
    files.writing = None
    assert not list(tmp_path.glob("q/0/*.new"))
    deposit = await begun_when_taken(queue)
    files.syncing = errno.EIO
    with pytest.raises(QueueRefusedError):
        await deposit.commit()
    files.syncing = None
    assert not list(tmp_path.glob("q/0/*.new"))
    await queue.close()
    again = await local_queue(tmp_path / "q")
    assert again.ledger.messages == 0
    await again.close()


async def begun_when_taken(queue: LocalQueue) -> Deposit:
    """Begin a message that may be refused for a while."""
    for _ in range(500):
        try:
            return await queue.deposit(message(b"a@y.example", content=b"x" * MIB))
        except QueueRefusedError:
            await asyncio.sleep(0.01)
    raise AssertionError("never taken again")


async def test_memory_does_not_grow_with_it(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    piece = b"x" * 254 + b"\r\n"
    async with door(behind=queue) as here:
        reader, writer = await here.connect()
        writer.write(ENVELOPE)
        tracemalloc.start()
        for _ in range(40 * MIB // (256 * 1024)):
            writer.write(piece * 1024)
            await writer.drain()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.write(b".\r\nQUIT\r\n")
        assert b"250 2.0.0 Ok: queued" in await reader.read()
        writer.close()
    assert peak < 12 * MIB
    await queue.close()


async def test_one_that_waits_holds_the_stamps_of_its_recipients_and_no_more(tmp_path: Path) -> None:
    """Its segment is its own: with room for all a segment could hold, ten thousand would take a gigabyte."""
    files = FaultyFiles()
    queue = await local_queue(tmp_path / "q", files=files, probe=0.01)
    deposit = await queue.deposit(message(b"a@y.example", b"b@z.example", content=b"x" * MIB))
    await deposit.commit()
    for _ in range(2):
        [segment] = [one for one in queue.segments() if one.live]
        assert (len(segment.image), len(segment.disk)) == (2, 2)
        await queue.close()
        queue = await local_queue(tmp_path / "q", files=files, probe=0.01)
    one, _ = await queue.claim(9)
    await queue.load([one])
    files.failing[".stamps"] = errno.EIO
    delivered = queue.stamp(one, {0: Stamp.DELIVERED})
    files.failing.clear()
    await delivered
    await queue.close()
    # Another stamps file may have taken the place of the one that failed: it is a whole one.
    assert {path.stat().st_size for path in tmp_path.glob("q/0/*.stamps")} == {STAMPS_SIZE}
    queue = await local_queue(tmp_path / "q")
    assert [claim.domain for claim in await queue.claim(9)] == [b"z.example"]
    await queue.close()


async def test_one_with_a_key_that_comes_too_early_leaves_no_file(tmp_path: Path) -> None:
    """While the last life is read nobody knows what the key stands for: 451, and nothing stays."""
    queue = await local_queue(tmp_path / "q", patience=0.0)
    queue.recovering = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
    deposit = await queue.deposit(message(b"a@y.example", content=b"x" * MIB, key=bytes(15)))
    with pytest.raises(QueueRefusedError):
        await deposit.commit()
    assert not list(tmp_path.glob("q/0/*.new"))
    await queue.close()
