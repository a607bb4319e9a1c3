"""A lane: who takes what, and when one more connection is wanted."""

from collections.abc import AsyncIterator

from backstamp.delivery.candidates import Candidate
from backstamp.delivery.lane import Lane
from backstamp.mail.outcome import Outcome
from backstamp.policy.destination import DestinationPolicy
from backstamp.queue.port import Delivery


async def nowhere() -> AsyncIterator[Candidate | Outcome]:
    return
    yield


def lane(connections: int = 2) -> Lane[str]:
    return Lane("key", DestinationPolicy(connections=connections), nowhere)


def claim() -> Delivery:
    return object()  # type: ignore[return-value]


def refuse(worker: str, taken: Delivery) -> None:
    raise AssertionError


def test_a_worker_is_wanted_up_to_the_limit() -> None:
    one = lane()
    assert one.offer(claim(), refuse)
    one.workers = 1
    assert one.offer(claim(), refuse)
    one.workers = 2
    assert not one.offer(claim(), refuse)
    assert len(one.ready) == 3
    assert not one.wants_worker()


def test_the_worker_idle_last_is_woken_first() -> None:
    one = lane()
    one.workers = 2
    one.idle += ["long idle", "just idle"]
    woken: list[str] = []
    first = claim()
    assert not one.offer(first, lambda worker, taken: woken.append(worker))
    assert woken == ["just idle"]
    assert not one.ready


def test_a_lane_is_empty_when_nothing_is_ready_and_nobody_works() -> None:
    one = lane()
    assert one.empty
    one.offer(claim(), refuse)
    assert not one.empty
    one.ready.clear()
    one.workers = 1
    assert not one.empty
