"""Looking at the queue: the running one and the files of a stopped one say the same."""

from pathlib import Path

from tests.support.queues import TestClock, local_queue, message

from backstamp.queue.files import DiskFiles
from backstamp.queue.operations import act
from backstamp.queue.port import Flag
from backstamp.queue.stamps import Stamp
from backstamp.queue.views import LedgerView, stopped_doubts


async def test_who_is_in_doubt_is_the_same_list_of_a_running_and_a_stopped_queue(tmp_path: Path) -> None:
    """Ordinary mail in doubt, at-most-once mail held for it, and mail that is held and in no doubt."""
    queue = await local_queue(tmp_path, clock=TestClock())
    view = LedgerView(queue, lambda _: None)
    once = message(b"a@one.example", b"b@one.example", flags=Flag.AT_MOST_ONCE)
    for sent in (once, message(b"c@two.example"), message(b"d@three.example")):
        await queue.append(sent)
    for claim in await queue.claim(10):
        await queue.load([claim])
        if claim.domain != b"three.example" and (permit := queue.doubt(claim, [0])) is not None:
            await permit
        queue.give_back(claim, queue._clock.wall() + 1000)
        if claim.domain == b"three.example":
            held = queue.find(claim.queue_id)
            assert held is not None
            await act(queue, "hold", held, [0])
    running = await view.doubts()
    assert [(one.recipient, one.stamp) for one in running] == [("a@one.example", "H"), ("c@two.example", "?")]
    await queue.close()
    assert stopped_doubts(DiskFiles(), str(tmp_path)) == running
    again = await local_queue(tmp_path, clock=TestClock())
    assert await LedgerView(again, lambda _: None).doubts() == running
    await again.close()


async def test_who_was_answered_since_the_start_is_in_doubt_no_more(tmp_path: Path) -> None:
    queue = await local_queue(tmp_path, clock=TestClock())
    await queue.append(message(b"a@one.example", b"b@one.example"))
    [claim] = await queue.claim(10)
    await queue.load([claim])
    queue.doubt(claim, [0, 1])
    queue.give_back(claim, queue._clock.wall() + 1000)
    await queue.close()
    again = await local_queue(tmp_path, clock=TestClock())
    view = LedgerView(again, lambda _: None)
    assert [one.recipient for one in await view.doubts()] == ["a@one.example", "b@one.example"]
    [entry] = await again.oldest(10, b"")
    await act(again, "retry", entry, [0, 1])
    [claim] = await again.claim(10)
    await again.load([claim])
    await again.stamp(claim, {0: Stamp.DELIVERED})
    assert [one.recipient for one in await view.doubts()] == ["b@one.example"]
    await again.close()
