"""The queue port's contract, over every engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.support.queues import local_queue, message

from backstamp.clock import SystemClock
from backstamp.mail.envelope import Recipient
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.engine import Engine
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.port import Flag, Message, Reason
from backstamp.queue.record import covers
from backstamp.queue.stamps import IllegalStampError, Stamp

Open = Callable[..., contextlib.AbstractAsyncContextManager[Engine]]
REPLY = Reply(550, "5.1.1 no such user")


@pytest.fixture(params=["memory", "local"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    @contextlib.asynccontextmanager
    async def open_(report_after: float = 300.0) -> AsyncIterator[Engine]:
        if request.param == "memory":
            yield MemoryQueue(clock=SystemClock(), emit=[].append, report_after=report_after)
            return
        queue = await local_queue(tmp_path / "queue", report_after=report_after)
        try:
            yield queue
        finally:
            await queue.close()

    return open_


async def nothing_due(queue: Engine) -> bool:
    try:
        async with asyncio.timeout(0.05):
            await queue.claim(1)
    except TimeoutError:
        return True
    return False


async def no_report(queue: Engine) -> bool:
    try:
        async with asyncio.timeout(0.05):
            await queue.claim_report()
    except TimeoutError:
        return True
    return False


async def test_what_is_appended_can_be_claimed_and_loaded(opened: Open) -> None:
    async with opened() as queue:
        sent = message(b"a@one.example", b"b@one.example", parameters=b"BODY=8BITMIME")
        await queue.append(sent)
        [delivery] = await queue.claim(10)
        assert (delivery.queue_id, delivery.domain) == (sent.queue_id, b"one.example")
        assert (delivery.arrival, delivery.size, delivery.attempts) == (sent.arrival, len(sent.content), 0)
        load = await queue.load([delivery])
        assert (load.sender, load.parameters, load.content) == (
            b"sender@example.org",
            b"BODY=8BITMIME",
            sent.content,
        )
        assert load.recipients == {0: Recipient(b"a@one.example"), 1: Recipient(b"b@one.example")}


async def test_one_delivery_for_each_domain(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@two.example", b"b@one.example", b"c@two.example"))
        deliveries = await queue.claim(10)
        assert [delivery.domain for delivery in deliveries] == [b"one.example", b"two.example"]
        loads = [await queue.load([delivery]) for delivery in deliveries]
        assert [list(load.recipients) for load in loads] == [[0], [1, 2]]


async def test_a_claim_is_exclusive_and_bounded(opened: Open) -> None:
    async with opened() as queue:
        for _ in range(3):
            await queue.append(message(b"a@one.example"))
        assert len(await queue.claim(2)) == 2
        assert len(await queue.claim(2)) == 1
        assert await nothing_due(queue)


async def test_claim_waits_for_an_append(opened: Open) -> None:
    async with opened() as queue:
        waiting = asyncio.create_task(queue.claim(1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await queue.append(message(b"a@one.example"))
        assert len(await waiting) == 1


async def test_what_still_waits_comes_back_in_time_and_counts_attempts(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", b"b@one.example"))
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
        queue.give_back(delivery, SystemClock().wall() + 0.1)
        assert await nothing_due(queue)
        [again] = await queue.claim(1)
        assert again.attempts == 1
        assert list((await queue.load([again])).recipients) == [1]


async def test_a_delivered_message_never_comes_back(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example"))
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
        queue.give_back(delivery, 0.0)
        assert await nothing_due(queue)
        assert (queue.ledger.waiting, queue.ledger.claimed, queue.ledger.messages) == (0, 0, 0)


async def test_stamping_twice_changes_nothing(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", b"b@one.example"))
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
        assert queue.ledger.waiting == 1


async def test_stamps_move_only_along_the_table(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", b"b@one.example"))
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {0: Stamp.DELIVERED})
        with pytest.raises(IllegalStampError):
            queue.stamp(delivery, {1: Stamp.DELIVERED, 0: Stamp.FAILED})
        assert list((await queue.load([delivery])).recipients) == [1]


async def test_the_stamp_is_enqueued_though_its_waiter_is_cancelled(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example"))
        [delivery] = await queue.claim(1)
        queue.stamp(delivery, {0: Stamp.DELIVERED}).cancel()
        queue.give_back(delivery, 0.0)
        assert await nothing_due(queue)
        assert queue.ledger.waiting == 0


async def test_an_append_whose_caller_went_away_is_delivered_or_nothing(opened: Open) -> None:
    async with opened() as queue:
        append = asyncio.create_task(queue.append(message(b"a@one.example")))
        await asyncio.sleep(0)
        append.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await append
        await queue.append(message(b"b@one.example"))
        assert 1 <= len(await queue.claim(10)) <= 2


async def test_what_is_handed_in_is_told_once_and_settled_in_the_books(opened: Open) -> None:
    """With a key too, and where the engine ends at once."""
    happened: list[tuple[object, ...]] = []
    everything = asyncio.Event()

    def hand_in(sent: Message) -> None:
        def settled() -> None:
            happened.append(("settled", sent.queue_id, queue.find(sent.queue_id) is not None))
            if len(happened) == 6:
                everything.set()

        queue.hand_in(sent, lambda outcome: happened.append(("told", outcome)), settled)

    async with opened() as queue:
        sent = [
            message(b"a@one.example"),
            message(b"b@one.example"),
            message(b"c@one.example", key=b"k" * 32),
        ]
        for one in sent:
            hand_in(one)
        assert not happened
        async with asyncio.timeout(20):
            await everything.wait()
        again = message(b"d@one.example", key=b"k" * 32)
        repeated = asyncio.Event()
        queue.hand_in(again, lambda outcome: happened.append(("told", outcome)), repeated.set)
        async with asyncio.timeout(20):
            await repeated.wait()
        assert len(await queue.claim(10)) == len(sent)
        last = message(b"e@one.example")
        hand_in(last)
    await asyncio.sleep(0)
    for one in [*sent, last]:
        told, settled = ("told", one.queue_id), ("settled", one.queue_id, True)
        assert happened.index(told) < happened.index(settled)
    # Each once, and the second of the key by the name of the first.
    assert happened[6:7] == [("told", sent[-1].queue_id)]
    assert len(set(happened[:6] + happened[7:])) == len(happened) - 1 == 8


async def fail(queue: Engine, *ordinals: int) -> None:
    """Claim one delivery and fail these recipients of it."""
    [delivery] = await queue.claim(1)
    await queue.stamp(delivery, dict.fromkeys(ordinals, Stamp.FAILED), [Reason(ordinals, REPLY, "mx", 1)])
    queue.give_back(delivery, SystemClock().wall() + 1000)


async def test_a_report_is_due_once_everybody_was_tried(opened: Open) -> None:
    async with opened() as queue:
        sent = message(b"a@one.example", b"b@two.example")
        await queue.append(sent)
        await fail(queue, 0)
        assert await no_report(queue)
        await fail(queue, 1)
        owed = await queue.claim_report()
        assert (owed.queue_id, owed.ordinals, owed.envelope) == (sent.queue_id, (0, 1), sent.envelope)
        assert [reason.ordinals for reason in owed.reasons] == [(0,), (1,)]
        assert owed.reasons[0].reply == REPLY
        assert owed.content == sent.content
        assert await no_report(queue)


async def test_a_report_does_not_wait_for_ever(opened: Open) -> None:
    async with opened(report_after=0.05) as queue:
        await queue.append(message(b"a@one.example", b"b@two.example"))
        await fail(queue, 0)
        async with asyncio.timeout(5):
            assert (await queue.claim_report()).ordinals == (0,)


async def test_the_report_becomes_mail_and_closes_its_failures(opened: Open) -> None:
    async with opened() as queue:
        sent = message(b"a@one.example")
        await queue.append(sent)
        await fail(queue, 0)
        owed = await queue.claim_report()
        parameters = covers(ids.text(sent.queue_id), owed.ordinals)
        dsn = message(b"sender@example.org", sender=b"", parameters=parameters, flags=Flag.REPORT)
        await queue.report(owed, dsn)
        assert queue.find(sent.queue_id) is None
        [delivery] = await queue.claim(1)
        assert delivery.queue_id == dsn.queue_id
        assert (await queue.load([delivery])).sender == b""
        assert await no_report(queue)


async def test_failures_without_a_report_are_closed_too(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", sender=b""))
        await fail(queue, 0)
        await queue.report(await queue.claim_report(), None)
        assert not queue.ledger.messages
        assert await nothing_due(queue)


async def test_who_fails_later_gets_a_report_of_their_own(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", b"b@one.example"))
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {0: Stamp.FAILED}, [Reason((0,), REPLY)])
        queue.give_back(delivery, 0.0)
        await queue.report(await queue.claim_report(), None)
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {1: Stamp.FAILED}, [Reason((1,), REPLY)])
        queue.give_back(delivery, 0.0)
        assert (await queue.claim_report()).ordinals == (1,)


async def test_who_fails_while_a_report_is_made_is_not_forgotten(opened: Open) -> None:
    async with opened() as queue:
        await queue.append(message(b"a@one.example", b"b@one.example"))
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {0: Stamp.FAILED}, [Reason((0,), REPLY)])
        queue.give_back(delivery, 0.0)
        first = await queue.claim_report()
        [delivery] = await queue.claim(1)
        await queue.stamp(delivery, {1: Stamp.FAILED}, [Reason((1,), REPLY)])
        queue.give_back(delivery, 0.0)
        assert await no_report(queue)
        await queue.report(first, None)
        assert (await queue.claim_report()).ordinals == (1,)
