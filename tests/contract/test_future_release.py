"""Mail that is to leave later (RFC 4865), over every engine, and over a restart."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.queues import TestClock, local_queue, message

from backstamp.mail.release import date_time
from backstamp.policy import retry
from backstamp.policy.retry import RetryPolicy
from backstamp.queue import ids
from backstamp.queue.engine import Engine
from backstamp.queue.files import DiskFiles
from backstamp.queue.local import LocalQueue
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.operations import act
from backstamp.queue.port import Message
from backstamp.queue.views import LedgerView, stopped

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def clock() -> TestClock:
    return TestClock(NOW)


@pytest.fixture(params=["memory", "local"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path, clock: TestClock) -> AsyncIterator[Engine]:
    if request.param == "memory":
        yield MemoryQueue(clock=clock, emit=[].append)
    else:
        local = await local_queue(tmp_path / "q", clock=clock)
        yield local
        await local.close()


def held(*recipients: bytes, until: float = NOW + DAY) -> Message:
    return message(*recipients, parameters=b"HOLDUNTIL=" + date_time(until).encode())


def due(queue: Engine, clock: TestClock) -> list[bytes]:
    """Take what is due; return of which domains."""
    return [claim.domain for claim in queue.ledger.take(100, clock.monotonic())]


async def test_rfc_4865_mail_leaves_when_its_sender_said(queue: Engine, clock: TestClock) -> None:
    """RFC 4865: it is on the disk, and not attempted before the time."""
    await queue.append(held(b"a@one.example", b"b@two.example"))
    await queue.append(message(b"c@three.example"))
    assert due(queue, clock) == [b"three.example"]
    clock.advance(DAY - 1)
    assert due(queue, clock) == []
    clock.advance(1)
    assert due(queue, clock) == [b"one.example", b"two.example"]


async def test_rfc_4865_large_mail_waits_too(queue: Engine, clock: TestClock) -> None:
    deposit = await queue.deposit(held(b"a@one.example"))
    await deposit.write(b"More.\r\n")
    await deposit.commit()
    assert due(queue, clock) == []
    clock.advance(DAY)
    assert due(queue, clock) == [b"one.example"]


async def test_rfc_4865_a_time_that_is_gone_means_now(queue: Engine, clock: TestClock) -> None:
    await queue.append(held(b"a@one.example", until=NOW - 5))
    assert due(queue, clock) == [b"one.example"]


async def test_rfc_4865_a_claim_that_waits_wakes_when_it_is_time(queue: Engine, clock: TestClock) -> None:
    await queue.append(held(b"a@one.example"))
    assert queue.ledger.next_due() == DAY
    waiting = asyncio.create_task(queue.claim(1))
    await asyncio.sleep(0)
    clock.advance(DAY)
    await queue.append(message(b"b@two.example"))
    assert {claim.domain for claim in [*await waiting, *queue.ledger.take(2, DAY)]} == {
        b"one.example",
        b"two.example",
    }


async def test_rfc_4865_what_waits_for_its_time_takes_no_room_from_what_is_sent_now(queue: Engine) -> None:
    sent = held(b"a@one.example")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    assert entry.hot is None


async def test_rfc_4865_an_operator_may_send_it_at_once(queue: Engine, clock: TestClock) -> None:
    """RFC 4865: the time is the sender's wish; `queue retry` is the operator's, and comes first."""
    sent = held(b"a@one.example", b"b@two.example")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    assert await act(queue, "retry", entry, [0]) == (0,)
    assert due(queue, clock) == [b"one.example"]
    clock.advance(DAY)
    assert due(queue, clock) == [b"two.example"]


async def test_rfc_4865_who_looks_at_it_sees_when_it_leaves(queue: Engine) -> None:
    sent = held(b"a@one.example")
    await queue.append(sent)
    view = await LedgerView(queue, [].append).show(ids.text(sent.queue_id))
    assert view is not None
    assert (view.release, view.recipients[0].retry_at) == (NOW + DAY, NOW + DAY)


# ---- a restart ----


async def restarted(root: Path, clock: TestClock) -> LocalQueue:
    policy = RetryPolicy()
    return await local_queue(
        root,
        clock=clock,
        first_due=lambda *when: retry.first_attempt(policy, *when),
    )


async def test_rfc_4865_a_restart_sends_nothing_before_its_time(tmp_path: Path, clock: TestClock) -> None:
    """RFC 4865: the time stands in the record, so that a stop, however long, changes nothing."""
    first = await local_queue(tmp_path / "q", clock=clock)
    await first.append(held(b"a@one.example"))
    await first.append(held(b"b@two.example", until=NOW + 2 * DAY))
    await first.close()
    [one, two] = stopped(DiskFiles(), str(tmp_path / "q"))
    assert (one.release, two.release) == (NOW + DAY, NOW + 2 * DAY)

    clock.advance(DAY - 60)
    again = await restarted(tmp_path / "q", clock)
    assert due(again, clock) == []
    clock.advance(60)
    assert due(again, clock) == [b"one.example"]
    await again.close()


@pytest.mark.parametrize(("late", "spread"), [(30.0, 0.0), (3600.0, 300.0)])
async def test_rfc_4865_what_became_due_while_the_relay_stood_is_as_old_as_its_release(
    tmp_path: Path, clock: TestClock, late: float, spread: float
) -> None:
    """RFC 4865: it goes as mail goes that came when this might leave: at once while it is young."""
    first = await local_queue(tmp_path / "q", clock=clock)
    await first.append(held(b"a@one.example"))
    await first.close()
    clock.advance(DAY + late)
    again = await restarted(tmp_path / "q", clock)
    [claim] = again.ledger.scheduled()
    wait = claim.due - clock.monotonic()
    assert 0 <= wait <= spread
    clock.advance(math.ceil(spread))
    assert due(again, clock) == [b"one.example"]
    await again.close()


async def test_mail_that_was_held_for_a_look_still_leaves_when_its_sender_said(
    queue: Engine, clock: TestClock
) -> None:
    sent = held(b"a@one.example", b"b@two.example")
    await queue.append(sent)
    entry = queue.find(sent.queue_id)
    assert entry is not None
    await act(queue, "hold", entry, [0, 1])
    await act(queue, "release", entry, [0, 1])
    assert due(queue, clock) == []
    clock.advance(DAY)
    assert due(queue, clock) == [b"one.example", b"two.example"]
