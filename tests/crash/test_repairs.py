"""The power is cut at every write of a repair: nobody is lost but who was hit, and nobody done gets more."""

from collections.abc import Callable

import pytest
from tests.crash.model import MODELS, ModelFiles, states
from tests.crash.test_bit_flips import stopped_queue
from tests.crash.world import ROOT, Aftermath, finish

from backstamp.queue import fsck, ids, reader, recovery, segment
from backstamp.queue.port import Message
from backstamp.queue.record import HEADER_SIZE, SALT_SIZE
from backstamp.queue.repair import repair

HITS = ["header", "content", "stamp", "stamps", "salt"]


pytestmark = pytest.mark.usefixtures("small_stamps")


def hit(contents: dict[str, bytes], what: str) -> bytes:
    """Damage the first segment; return the queue id of the message that suffers, if one does."""
    directory = f"{ROOT}/{recovery.PARTITION}"
    [number, *_] = recovery.readable(ModelFiles(contents), ROOT)
    found = reader.scan(ModelFiles(contents), directory, number)
    header = found.records[1].header
    mail, stamps = segment.mail_path(directory, number), segment.stamps_path(directory, number)
    path, at = {
        "header": (mail, header.offset + HEADER_SIZE - 1),
        "content": (mail, header.end - 1),
        "stamp": (stamps, SALT_SIZE + header.first_stamp),
        "stamps": (stamps, -1),
        "salt": (mail, 3),
    }[what]
    if at < 0:
        del contents[path]
        return b""
    octets = bytearray(contents[path])
    octets[at] ^= 1
    contents[path] = bytes(octets)
    return header.queue_id if what in {"header", "content"} else b""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("what", HITS)
async def test_power_cuts_in_a_repair(what: str, model: str, say: Callable[[str], None]) -> None:
    contents, known, waiting = await stopped_queue(6)
    victim = hit(contents, what)
    before = b"".join(contents.values())
    files = ModelFiles(contents)
    done = repair(files, ROOT, salt=lambda: bytes(16), now=0)
    assert [one.repaired for one in done.segments if one.damaged] == [True]
    assert fsck.examine(files, ROOT).sound
    kept = [octets for path, octets in files.contents().items() if "/corrupt/" in path]
    assert bool(kept) == (what in {"header", "content"})
    assert all(octets in before for octets in kept)
    count = 0
    for state in states(files.ops, model, contents):
        count += 1
        await judge(state.files, known, waiting, victim, what)
    await judge(files.contents(), known, waiting, victim, what)
    say(f"{count} states")


async def judge(
    contents: dict[str, bytes],
    known: dict[bytes, Message],
    waiting: set[tuple[bytes, int]],
    victim: bytes,
    what: str,
) -> None:
    after = Aftermath()
    await finish(ModelFiles(contents), after)
    for who in waiting:
        told = after.reported[ids.text(who[0]), who[1]]
        if who[0] != victim:
            assert after.taken[who] == 1, who
        elif what == "content":
            assert told == 1, who
    mine = {who: count for who, count in after.taken.items() if who[0] in known}
    assert set(mine.values()) <= {1}
    again = mine.keys() - waiting
    # A stamp that is none reads as to do: a second copy at worst, of those whose stamps were hit.
    assert not again or what == "stamps" or (what == "stamp" and len(again) == 1)
    for queue_id, content in after.contents.items():
        if queue_id in known:
            assert content == known[queue_id].content
