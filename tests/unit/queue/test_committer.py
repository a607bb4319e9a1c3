"""Group commit: in order, together what gathered, and a death is told."""

import asyncio
import threading
from collections.abc import Sequence

from tests.support.queues import message

from backstamp.queue.committer import BATCH, REST, SHARED, Committer, Outcomes
from backstamp.queue.segment import Segment
from backstamp.queue.store import Announce, Append, Job, Sealed


class Recorder:
    """A sink that remembers its batches and may be held up or die."""

    def __init__(self) -> None:
        self.batches: list[list[Job]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.sealed = False
        self.dies = False

    def commit(self, jobs: Sequence[Job], announce: Announce) -> None:
        self.gate.wait(10)
        if self.dies:
            raise RuntimeError("a bug")
        self.batches.append(list(jobs))
        announce(jobs)

    def prepare(self) -> None:
        """Nothing."""

    def seal(self) -> None:
        self.sealed = True


def jobs(count: int, done: list[Append]) -> list[Append]:
    return [Append(message(b"a@b.example"), done.append) for _ in range(count)]


async def test_jobs_are_committed_in_order_and_together_if_they_gathered() -> None:
    sink, done = Recorder(), list[Append]()
    committer = Committer(sink, lambda _: None)
    sink.gate.clear()
    given = jobs(BATCH * 2 + 5, done)
    committer.submit(given[0])
    await asyncio.sleep(0.05)
    for job in given[1:]:
        committer.submit(job)
        await asyncio.sleep(0)
    sink.gate.set()
    await committer.close()
    assert done == given
    assert [job for batch in sink.batches for job in batch] == given
    assert 3 <= len(sink.batches) <= 4
    assert sink.sealed


async def test_after_a_batch_of_many_the_thread_rests_and_else_never() -> None:
    sink, done, rests = Recorder(), list[Append](), list[float]()
    committer = Committer(sink, lambda _: None, rest=rests.append)
    for count in (1, SHARED - 1, SHARED, SHARED + 1):
        given = jobs(count, done)
        for job in given:
            committer.submit(job)
        async with asyncio.timeout(5):
            while done[-count:] != given:
                await asyncio.sleep(0.001)
    await committer.close()
    assert [len(batch) for batch in sink.batches] == [1, SHARED - 1, SHARED, SHARED + 1]
    assert rests == [REST, REST]


async def test_what_is_handed_over_before_the_end_is_committed() -> None:
    sink, done = Recorder(), list[Append]()
    committer = Committer(sink, lambda _: None)
    for job in jobs(3, done):
        committer.submit(job)
    await committer.close()
    assert len(done) == 3
    await committer.close()


async def test_a_bug_in_the_thread_is_told() -> None:
    sink, done, told = Recorder(), list[Append](), list[BaseException]()
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        sink.dies = True
        committer = Committer(sink, told.append)
        committer.submit(jobs(1, done)[0])
        async with asyncio.timeout(5):
            while not told:
                await asyncio.sleep(0.01)
        await committer.close()
    finally:
        threading.excepthook = hook
    assert isinstance(told[0], RuntimeError)
    assert not done


async def test_clients_are_told_before_anything_else_is_done_and_that_in_order() -> None:
    happened: list[str] = []

    def append(name: str, *, client: bool = True) -> Append:
        return Append(
            message(b"a@b.example"),
            lambda _: happened.append(f"{name} done"),
            tell=(lambda _: happened.append(f"{name} told")) if client else None,
        )

    def sealed(name: str) -> Sealed:
        segment = Segment("", 1, bytes(16), -1, -1, bytearray())
        return Sealed(segment, lambda _: happened.append(f"{name} done"))

    outcomes = Outcomes(lambda: happened.append("way given"))
    outcomes.settle([append("report", client=False), sealed("first")])
    assert happened == ["report done", "first done"]
    happened.clear()
    outcomes.settle([append("a"), append("b"), sealed("second")])
    outcomes.settle([append("c")])
    outcomes.settle([append("reason", client=False)])
    # What came later is done later, also where nobody is told: stamps follow their reasons (Q5).
    assert happened == ["a told", "b told", "c told", "way given"]
    await asyncio.sleep(0)
    assert happened[4:] == ["a done", "b done", "second done", "c done", "reason done"]
    outcomes.settle([sealed("third")])
    assert happened[-1] == "third done"


async def test_a_bug_in_one_outcome_costs_no_other_its_own() -> None:
    happened: list[str] = []
    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    def broken(_: Append) -> None:
        raise RuntimeError("a bug")

    def append(name: str) -> Append:
        return Append(
            message(b"a@b.example"),
            lambda _: happened.append(f"{name} done"),
            tell=lambda _: happened.append(f"{name} told"),
        )

    Outcomes().settle(
        [
            Append(message(b"a@b.example"), lambda _: happened.append("first done"), tell=broken),
            append("second"),
            Append(message(b"a@b.example"), broken),
            append("third"),
        ]
    )
    await asyncio.sleep(0)
    assert happened == ["second told", "third told", "first done", "second done", "third done"]
    assert [str(one["exception"]) for one in heard] == ["a bug", "a bug"]
