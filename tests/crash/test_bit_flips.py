"""One, two or three bits of any byte of a stopped queue flip: nobody is lost silently.

At most the record that was hit is set aside and named; every other message arrives octet for octet. A
stamp that flipped reads as to do: a second copy at worst.
"""

import itertools
import random
from collections.abc import Callable

import msgspec
import pytest
from tests.crash.model import ModelFiles
from tests.crash.world import ROOT, Aftermath, Workload, finish, start
from tests.support.queues import message

from backstamp.queue import fsck, ids
from backstamp.queue.port import Message
from backstamp.queue.repair import repair
from backstamp.telemetry.events import Alarm, Event

pytestmark = pytest.mark.usefixtures("small_stamps")


async def stopped_queue(
    messages: int,
) -> tuple[dict[str, bytes], dict[bytes, Message], set[tuple[bytes, int]]]:
    """Return the files of a stopped queue, the mail by id, and who still waits."""
    files = ModelFiles()
    queue = await start(files, segment_size=20_000)
    work = Workload(files, queue)
    known: dict[bytes, Message] = {}
    for number in range(messages):
        one = message(b"a%d@x.example" % number, b"b%d@x.example" % number, content=b"%d " % number * 50)
        await queue.append(one)
        known[one.queue_id] = one
    waiting = {(queue_id, ordinal) for queue_id in known for ordinal in range(2)}
    for number, delivery in enumerate(await queue.claim(messages)):
        if number % 3 == 0:
            await work.deliver(delivery, 0)
            waiting.discard((delivery.queue_id, 0))
        if number % 6 == 0:
            await work.deliver(delivery, 1)
            waiting.discard((delivery.queue_id, 1))
    await queue.close()
    return files.contents(), known, waiting


async def check(
    contents: dict[str, bytes],
    known: dict[bytes, Message],
    waiting: set[tuple[bytes, int]],
    chance: random.Random,
    *,
    mended: bool,
) -> str:
    """Flip some bits, repair what they damaged or not, recover, deliver; return what kind of file was hit."""
    path = chance.choice([name for name in contents if not name.endswith("FORMAT")])
    octets = bytearray(contents[path])
    at = chance.randrange(len(octets))
    for bit in chance.sample(range(8), chance.randrange(1, 4)):
        octets[at] ^= 1 << bit
    files = ModelFiles({**contents, path: bytes(octets)})
    if mended:
        mend(files)
    after = Aftermath()
    events: list[Event] = []
    await finish(files, after, events)
    hit = f"{path} at {at}"
    for queue_id, content in after.contents.items():
        if queue_id in known:
            assert content == known[queue_id].content, hit
    silent = {who for who in waiting if not after.taken[who] and not after.reported[ids.text(who[0]), who[1]]}
    lost = {queue_id for queue_id, _ in silent}
    assert len(lost) <= 1, hit
    if lost:
        assert any("/corrupt/" in name for name in files.names), hit
        assert mended or any(isinstance(event, Alarm) for event in events), hit
    again = {who for who, count in after.taken.items() if count and who[0] in known and who not in waiting}
    assert not again or path.endswith(".stamps"), hit
    assert len(again) <= 1 or at < 16, hit
    return path.rpartition(".")[2]


def mend(files: ModelFiles) -> None:
    """Repair a queue as `fsck --repair` does; after that it is sound, and a second time changes nothing."""
    salts = itertools.count(1)

    def salt() -> bytes:
        return bytes([next(salts)]) * 16

    examined = fsck.examine(files, ROOT)
    done = repair(files, ROOT, salt=salt, now=0)
    assert done.segments == tuple(
        msgspec.structs.replace(one, repaired=one.damaged) for one in examined.segments
    )
    assert fsck.examine(files, ROOT).sound
    before = files.contents()
    assert not any(one.repaired for one in repair(files, ROOT, salt=salt, now=0).segments)
    assert files.contents() == before


@pytest.mark.parametrize("mended", [False, True], ids=["as it is", "repaired"])
@pytest.mark.parametrize("seed", range(4))
async def test_bit_flips(seed: int, mended: bool, say: Callable[[str], None]) -> None:
    contents, known, waiting = await stopped_queue(30)
    chance = random.Random(seed)
    hits = [await check(contents, known, waiting, chance, mended=mended) for _ in range(150)]
    say(f"{len(hits)} flips, {hits.count('mail')} of them in records")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mended", [False, True], ids=["as it is", "repaired"])
@pytest.mark.parametrize("seed", range(100, 104))
async def test_many_bit_flips(seed: int, mended: bool, say: Callable[[str], None]) -> None:
    contents, known, waiting = await stopped_queue(200)
    chance = random.Random(seed)
    hits = [await check(contents, known, waiting, chance, mended=mended) for _ in range(600)]
    say(f"{len(hits)} flips, {hits.count('mail')} of them in records")
