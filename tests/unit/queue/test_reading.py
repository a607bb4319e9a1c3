"""Mail read back from a queue on disk: damage, files that go, and messages that move."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.queues import TestClock, gathered, local_queue, message

from backstamp.mail.content import PIECE
from backstamp.mail.envelope import Flow
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import DAMAGED, DamagedError
from backstamp.queue.record import SALT_SIZE
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Alarm, Event

D, F = Stamp.DELIVERED, Stamp.FAILED
CONTENT = b"Subject: large\r\n\r\n" + b"x" * 2 * PIECE


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def queue(tmp_path: Path, events: list[Event]) -> AsyncIterator[LocalQueue]:
    # Nothing is hot, and each message of two pieces fills a segment.
    queue = await local_queue(
        tmp_path / "q", events, clock=TestClock(), hot_limit=0, large=100, segment_size=2 * PIECE
    )
    yield queue
    await queue.close()


def mails(root: Path) -> list[Path]:
    """Return the files of records that hold any, the oldest first."""
    return [path for path in sorted(root.glob("q/0/*.mail")) if path.stat().st_size > SALT_SIZE]


def spoil(root: Path, octets: bytes) -> None:
    """Change one octet of what stands in a file."""
    path = mails(root)[0]
    found = path.read_bytes()
    at = found.index(octets) + len(octets) - 1
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([found[at] ^ 1]))


@pytest.mark.parametrize("content", [b"Subject: small\r\n\r\nx\r\n", CONTENT], ids=["small", "large"])
async def test_damage_ends_every_claim_it_was_loaded_for(
    queue: LocalQueue, tmp_path: Path, events: list[Event], content: bytes
) -> None:
    await queue.append(message(b"a@one.example", b"b@two.example", b"c@three.example", content=content))
    one, three, two = await queue.claim(10)
    kept = mails(tmp_path)[0].read_bytes()
    spoil(tmp_path, content)
    # Without the content nobody notices, and nobody needs to.
    assert list((await queue.load([one, two], content=False)).recipients) == [0, 2]
    with pytest.raises(DamagedError) as error:
        await queue.load([one, two])
    assert error.value.envelope is not None
    entry = three.message
    assert [entry.stamp(n) for n in range(3)] == [F, Stamp.TODO, F]  # type: ignore[attr-defined]
    assert queue.ledger.claimed == 1
    [alarm] = [event for event in events if isinstance(event, Alarm)]
    assert "content" in alarm.problem
    [aside] = (tmp_path / "q/corrupt").iterdir()
    assert len(aside.read_bytes()) == len(kept[16:])
    assert aside.read_bytes()[:-1] == kept[16:-1]
    with pytest.raises(DamagedError):
        await queue.load([three])
    owed = await queue.claim_report()
    assert (owed.ordinals, owed.content) == ((0, 1, 2), b"")
    assert {reason.reply for reason in owed.reasons} == {DAMAGED}
    assert sum(segment.busy for segment in queue.segments()) == 1  # the report


async def test_a_damaged_envelope_is_found_without_the_content(queue: LocalQueue, tmp_path: Path) -> None:
    await queue.append(message(b"a@one.example", b"b@two.example", content=CONTENT))
    claims = await queue.claim(10)
    spoil(tmp_path, b"b@two.example")
    with pytest.raises(DamagedError) as error:
        await queue.load(claims, content=False)
    assert error.value.envelope is None
    assert (queue.ledger.claimed, queue.ledger.waiting) == (0, 0)


async def test_what_changes_on_the_disk_while_it_is_sent_is_not_sent_to_its_end(
    queue: LocalQueue, tmp_path: Path
) -> None:
    await queue.append(message(b"a@one.example", content=CONTENT))
    [claim] = await queue.claim(1)
    load = await queue.load([claim])
    spoil(tmp_path, CONTENT)
    with pytest.raises(OSError, match="reads otherwise"):
        await gathered(load.content)
    queue.give_back(claim, 0.0)


async def test_the_file_stays_until_nobody_reads_it(queue: LocalQueue, tmp_path: Path) -> None:
    for _ in range(2):
        await queue.append(message(b"a@one.example", content=CONTENT))
    one, two = await queue.claim(2)
    before = mails(tmp_path)[0]
    load = await queue.load([one])
    await queue.stamp(one, {0: D})
    await queue.stamp(two, {0: D})
    assert await gathered(load.content) == CONTENT
    assert before.exists()
    queue.give_back(one, 0.0)
    async with asyncio.timeout(10):
        while before.exists():
            await asyncio.sleep(0.01)
    # Whoever reads on all the same gets an error or nothing more, never somebody else's mail.
    with pytest.raises(OSError):
        await gathered(load.content)


def home(claim: object) -> Segment:
    segment = claim.message.segment  # type: ignore[attr-defined]
    assert isinstance(segment, Segment)
    return segment


async def test_what_is_being_sent_is_not_moved_and_what_rests_may_be(tmp_path: Path) -> None:
    queue = await local_queue(
        tmp_path / "q", clock=TestClock(), hot_limit=0, large=100, segment_size=9 * PIECE
    )
    parameters = b"TENANT=acme"
    await queue.append(message(b"a@one.example", b"b@two.example", content=CONTENT, parameters=parameters))
    for _ in range(11):
        await queue.append(message(b"c@one.example", content=CONTENT))
    one, two, *others = await queue.claim(20)
    # Of three segments of four messages two have one left, and one of those is always busy.
    await queue.load([others.pop(3)])
    for other in others:
        await queue.stamp(other, {0: D})
        queue.give_back(other, 0.0)
    before = home(one)
    load = await queue.load([one, two])
    assert before.sealed
    assert not await queue.compactor.compact()
    queue.give_back(two, 0.0)
    assert not await queue.compactor.compact()
    assert await gathered(load.content) == CONTENT
    queue.rest(one)
    assert await queue.compactor.compact()
    assert home(one) is not before
    assert (one.waiting, one.flow) == (1, Flow(b"acme"))
    assert await gathered((await queue.load([one])).content) == CONTENT
    queue.give_back(one, 0.0)
    await queue.close()


async def test_flows_are_known_again_after_a_restart(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path / "q")
    for parameters in (b"TENANT=acme MT-PRIORITY=4", b"TENANT=acme MT-PRIORITY=4", b""):
        await queue.append(message(b"a@one.example", b"b@one.example", parameters=parameters))
    await queue.close()
    queue = await local_queue(tmp_path / "q")
    claims = await queue.claim(10)
    assert [claim.flow for claim in claims] == [Flow(b"acme", 4), Flow(b"acme", 4), Flow(b"example.org")]
    assert claims[0].flow is claims[1].flow
    assert [(claim.count, claim.waiting) for claim in claims] == [(2, 2)] * 3
    await queue.close()
