"""Group commit: one thread that takes whatever jobs have gathered and commits them together.

Whoever is first commits at once, the rest gather while the disk works; after a batch of many
the thread rests a moment, so that many gather again.
Outcomes come back to the loop in one call per phase of a batch, because a hand-over
between threads costs more than the system call it waits for. Jobs are committed in the
order they were given. It knows no files, only a sink that commits batches.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from backstamp.queue.store import Announce, Append, Job

J = TypeVar("J", bound=Job)

BATCH = 256
"""Jobs after which a batch is closed: bounds the wait of its first."""

SHARED = 8
"""Jobs of a batch from which on the thread rests before the next."""

REST = 0.001
"""Seconds it rests then. Where many write at once the loop is what they wait for, and every commit takes
the interpreter's lock from it a dozen times: fewer and larger ones are a tenth of the CPU of a message."""


class Sink(Protocol):
    """Where batches go."""

    def commit(self, jobs: Sequence[Job], announce: Announce) -> None:
        """Carry out a batch, announcing outcomes; must not raise for what the disk does."""
        ...

    def prepare(self) -> None:
        """Use an idle moment."""
        ...

    def seal(self) -> None:
        """End in order."""
        ...


class Committer:
    """The commit thread and its inbox. Made and used on the loop; if the thread dies, `failed` tells.

    `rest` lets the thread wait so many seconds; `give_way` lets another process run (`Outcomes`).
    """

    def __init__(
        self,
        sink: Sink,
        failed: Callable[[BaseException], None],
        *,
        rest: Callable[[float], None] = time.sleep,
        give_way: Callable[[], object] = lambda: None,
    ) -> None:
        self._sink = sink
        self._failed = failed
        self._rest = rest
        self._loop = asyncio.get_running_loop()
        self._outcomes = Outcomes(give_way)
        self._inbox: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
        self._gathered: list[Job] = []
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; never blocks. Jobs of one turn of the loop go together: waking a thread costs."""
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(job)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._inbox.put(gathered)

    async def close(self) -> None:
        """Commit what was handed over, seal, and end the thread."""
        if self._thread.is_alive():
            if self._gathered:
                self._hand_over()
            self._inbox.put(None)
            await asyncio.shield(self._ended)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            # A bug, not a disk error: nothing may be acknowledged any more, so the process must go.
            self._loop.call_soon_threadsafe(self._failed, error)
            raise
        finally:
            self._loop.call_soon_threadsafe(_end, self._ended)

    def _work(self) -> None:
        inbox, sink = self._inbox, self._sink
        while True:
            if inbox.empty():
                sink.prepare()
            jobs = inbox.get()
            batch: list[Job] = []
            with contextlib.suppress(queue.Empty):
                while jobs is not None:
                    batch += jobs
                    if len(batch) >= BATCH:
                        break
                    jobs = inbox.get_nowait()
            if batch:
                sink.commit(batch, self._announce)
                if len(batch) >= SHARED:
                    self._rest(REST)
            if jobs is None:
                sink.seal()
                return

    def _announce(self, jobs: Sequence[Job]) -> None:
        self._loop.call_soon_threadsafe(self._outcomes.settle, jobs)


class Outcomes:
    """Takes outcomes to those who wait for them. Used on the loop.

    Who waits for a 250 is told at once (`Append.tell`). What else has to be done, the books among it,
    is done in the loop's next turn, when the replies are on their way: it is as long again. A client that
    is alone and on this machine was woken on the processor the loop runs on: `give_way` lets it read first.
    """

    def __init__(self, give_way: Callable[[], object] = lambda: None) -> None:
        self._give_way = give_way
        self._told: list[Job] = []

    def settle(self, jobs: Sequence[Job]) -> None:
        """Take jobs whose outcome is known, in order."""
        waiting = [job for job in jobs if isinstance(job, Append) and job.tell is not None]
        if waiting:
            _each(waiting, _tell)
        elif not self._told:
            _each(jobs, _done)
            return
        if not self._told:
            asyncio.get_running_loop().call_soon(self._finish)
        self._told += jobs
        if len(waiting) == 1:
            self._give_way()

    def _finish(self) -> None:
        told, self._told = self._told, []
        _each(told, _done)


def _each(jobs: Sequence[J], act: Callable[[J], None]) -> None:
    """Do something for each job. A bug in one costs no other its outcome: the loop hears of it."""
    for job in jobs:
        try:
            act(job)
        except Exception as error:
            told = {"message": "the outcome of a write was not taken", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)


def _tell(job: Append) -> None:
    assert job.tell is not None
    job.tell(job)


def _done(job: Job) -> None:
    job.done(job)  # type: ignore[arg-type]  # each job's callback takes its own kind


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
