"""The world around a queue that crashes: who was told what, what a peer took, and what must hold then.

A workload runs the real engine on `ModelFiles` and marks what the world may rely on. After each
crash the real recovery and the real claims run on what was left, everything waiting is delivered
to a peer that remembers, and `check` compares.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from tests.crash.model import Mark, ModelFiles
from tests.support.queues import TestClock, at_once, message, settled

from backstamp.mail.envelope import Recipient
from backstamp.mail.reply import Reply
from backstamp.queue import ids, recovery
from backstamp.queue.aside import CORRUPT
from backstamp.queue.committer import Outcomes, Sink
from backstamp.queue.files import DiskFiles
from backstamp.queue.local import LocalQueue, LocalSettings, open_queue
from backstamp.queue.port import DamagedError, Delivery, Flag, Message, Owed, Reason
from backstamp.queue.record import covered, covers
from backstamp.queue.stamps import Stamp
from backstamp.queue.store import Job
from backstamp.telemetry.events import Alarm, Event

ROOT = "queue"
NOW = 1_800_000_000.0
REFUSED = Reply(550, "5.1.1 no such user")


class TurnCommitter:
    """Commits what gathered in one turn of the loop, in the loop: the commit thread without a thread."""

    def __init__(self, sink: Sink, failed: Callable[[BaseException], None]) -> None:
        self._sink = sink
        self._failed = failed
        self._jobs: list[Job] = []
        self._outcomes = Outcomes()
        asyncio.get_running_loop().set_exception_handler(self._heard)

    def _heard(self, _: object, context: dict[str, Any]) -> None:
        self._failed(context.get("exception") or RuntimeError(context["message"]))

    def submit(self, job: Job) -> None:
        if not self._jobs:
            asyncio.get_running_loop().call_soon(self._commit)
        self._jobs.append(job)

    def _commit(self) -> None:
        jobs, self._jobs = self._jobs, []
        try:
            if jobs:
                self._sink.commit(jobs, self._outcomes.settle)
        except Exception as error:
            # The commit thread would have died: nothing of that kind may happen.
            self._failed(error)

    async def close(self) -> None:
        while self._jobs:
            self._commit()
        await asyncio.sleep(0)  # the books follow a turn later
        self._sink.seal()


class _Inline(Executor):
    """Runs at once what is submitted."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


YEAR = 365 * 86400.0


async def start(
    files: ModelFiles, events: list[Event] | None = None, now: float = NOW, **settings: Any
) -> LocalQueue:
    """Open the engine on model files: real recovery, no threads."""
    salts = iter(range(1, 1 << 30))
    base = len(files.ops)
    queue = await open_queue(
        files,
        ROOT,
        clock=TestClock(now),
        emit=(events if events is not None else []).append,
        # A salt of its own for each segment, the same in every run.
        salt=lambda: (base * 1000 + next(salts)).to_bytes(16, "big")[::-1],
        first_due=at_once,
        settings=LocalSettings(**{"compact": 0, "probe": 0.0001, **settings}),
        committer=TurnCommitter,
    )
    queue._readers.shutdown()
    queue._readers = _Inline()  # type: ignore[assignment]
    await queue.recovering
    return queue


class Workload:
    """Verbs for workloads: each does something to the queue and marks what that means to the world."""

    def __init__(self, files: ModelFiles, queue: LocalQueue) -> None:
        self.files = files
        self.queue = queue
        self.sent: dict[str, Message] = {}

    async def accept(self, *recipients: bytes, **how: Any) -> Message:
        one = message(*recipients, **how)
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(outcome: bytes | Exception) -> None:
            if isinstance(outcome, Exception):
                settled.set_exception(outcome)
            else:
                # Its client may have the 250 now, whatever comes before the books are kept.
                self.note(one, outcome)

        self.queue.hand_in(one, told, lambda: settled.set_result(None))
        await settled
        return one

    def note(self, one: Message, stands: bytes | None = None) -> None:
        if stands in (None, one.queue_id):
            self.files.mark("accepted", one)
        if one.key:
            self.files.mark("keyed", (one.key, stands or one.queue_id))

    async def claim(self) -> Delivery:
        [delivery] = await self.queue.claim(1)
        return delivery

    async def deliver(self, delivery: Delivery, *ordinals: int) -> None:
        """The peer takes the message for these; the stamp follows."""
        load = await self.queue.load([delivery])
        taken = ordinals or tuple(load.recipients)
        self.files.mark("taken", (delivery.queue_id, taken))
        await self.queue.stamp(delivery, dict.fromkeys(taken, Stamp.DELIVERED))
        self.files.mark("stamped", (delivery.queue_id, taken))

    async def take_once(self, delivery: Delivery, ordinal: int) -> None:
        """The final dot of at-most-once mail goes out: the peer may take it from here on, once."""
        permit = self.queue.doubt(delivery, [ordinal])
        assert permit is not None
        await permit
        self.files.mark("once", (delivery.queue_id, (ordinal,)))

    async def fail(self, delivery: Delivery, *ordinals: int) -> None:
        await self.queue.stamp(
            delivery, dict.fromkeys(ordinals, Stamp.FAILED), [Reason(ordinals, REFUSED, "mx.example", 1)]
        )
        self.files.mark("failed", (delivery.queue_id, ordinals))

    def give_back(self, delivery: Delivery) -> None:
        self.queue.give_back(delivery, 0.0)

    async def report(self) -> Message | None:
        owed = await self.queue.claim_report()
        dsn = dsn_for(owed)
        if dsn is None:
            # Nobody wants to be told; `failed` said it, and from here on the recipient may be closed.
            self.files.mark("closing", (owed.queue_id, owed.ordinals))
        await self.queue.report(owed, dsn)
        self.files.mark("reported", (owed.queue_id, owed.ordinals))
        return dsn


_reports = iter(range(1 << 40, 1 << 41))


def dsn_for(owed: Owed) -> Message | None:
    if not owed.envelope.sender:
        return None
    one = message(
        owed.envelope.sender,
        sender=b"",
        parameters=covers(ids.text(owed.queue_id), owed.ordinals),
        flags=Flag.REPORT,
    )
    return one


class Aftermath:
    """What happened after a crash, when everything that waited was delivered."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[bytes, int]] = Counter()
        self.contents: dict[bytes, bytes] = {}
        self.reported: Counter[tuple[str, int]] = Counter()
        self.recipients: dict[tuple[bytes, int], Recipient] = {}
        self.closed: set[tuple[bytes, int]] = set()
        """Failures closed without a report, because none was wanted."""
        self.held: set[tuple[bytes, int]] = set()
        """At-most-once mail in doubt: it waits for a decision."""
        self.unreadable: list[str] = []
        self.keys: dict[bytes, bytes | None] = {}
        """What each key stood for after the start."""


async def finish(
    files: ModelFiles,
    after: Aftermath,
    events: list[Event] | None = None,
    now: float = NOW,
    keys: Collection[bytes] = (),
) -> None:
    """Recover, look what the keys stand for, deliver everything, make every report, stop in order."""
    events = events if events is not None else []
    queue = await start(files, events, now)
    after.keys = {key: queue.once.index.find(key, int(now * 1000)) for key in keys}
    if keys:
        await settled()  # what is finished goes, and leaves its keys behind
    await end(queue, after, events)


async def finish_for_real(directory: Path, contents: dict[str, bytes], after: Aftermath, now: float) -> None:
    """The same on a real directory that holds some files, with real threads."""
    for name in (ROOT, f"{ROOT}/{recovery.PARTITION}", f"{ROOT}/{CORRUPT}"):
        (directory / name).mkdir()
    for path, content in contents.items():
        (directory / path).write_bytes(content)
    events: list[Event] = []
    queue = await open_queue(
        DiskFiles(),
        str(directory / ROOT),
        clock=TestClock(now),
        emit=events.append,
        salt=lambda: os.urandom(16),
        first_due=at_once,
        settings=LocalSettings(compact=0, probe=0.0001),
    )
    await queue.recovering
    await end(queue, after, events)


async def end(queue: LocalQueue, after: Aftermath, events: list[Event]) -> None:
    """Deliver everything, make every report, stop in order."""
    while queue.ledger.scheduled() or queue.ledger.report_ready or queue.ledger.next_report() is not None:
        if queue.ledger.scheduled():
            for delivery in await queue.claim(1000):
                await _deliver(queue, delivery, after)
        elif queue.ledger.report_ready:
            owed = await queue.claim_report()
            if not owed.envelope.sender:
                after.closed.update((owed.queue_id, ordinal) for ordinal in owed.ordinals)
            await queue.report(owed, dsn_for(owed))
        else:
            # Reports that only wait for their time: let it pass.
            queue._clock.advance(1000)  # type: ignore[attr-defined]
            if queue.ledger.take_report(queue._clock.monotonic()) is None:
                break
            raise AssertionError("a report was due and nobody was told")
    problem = queue.health.problem
    for segment in queue.segments():
        for entry in segment.entries:
            if entry is not None:
                after.held.update((entry.queue_id, ordinal) for ordinal in entry.ordinals(Stamp.HELD))
    await queue.close()
    after.unreadable += [
        event.problem
        for event in events
        if isinstance(event, Alarm) and "never acknowledged" not in event.problem
    ]
    if problem is not None:
        after.unreadable.append(problem)


async def _deliver(queue: LocalQueue, delivery: Delivery, after: Aftermath) -> None:
    try:
        load = await queue.load([delivery])
    except DamagedError as damage:
        after.unreadable.append(str(damage))
        return
    after.contents[delivery.queue_id] = load.content
    for ordinal, recipient in load.recipients.items():
        after.taken[delivery.queue_id, ordinal] += 1
        after.recipients[delivery.queue_id, ordinal] = recipient
    if load.flags & Flag.REPORT and (names := covered(load.parameters)) is not None:
        for ordinal in names[1]:
            after.reported[names[0], ordinal] += 1
    await queue.stamp(delivery, dict.fromkeys(load.recipients, Stamp.DELIVERED))
    queue.give_back(delivery, 0.0)


def check_keys(marks: Sequence[Mark], lives: Sequence[Aftermath]) -> list[str]:
    """Return what must not be of keys (Q13): in each life after a crash they stand for what was said."""
    said = {mark.about[0]: mark.about[1] for mark in marks if mark.what == "keyed"}
    real = {mark.about.queue_id for mark in marks if mark.what == "accepted"}
    real |= {mark.about[0] for mark in marks if mark.what == "taken"}
    real |= {queue_id for after in lives for queue_id, _ in after.taken}
    wrong = []
    for number, after in enumerate(lives, 1):
        for key, found in after.keys.items():
            if key in said and found != said[key]:
                wrong.append(f"key forgotten in life {number}: {key!r} stands for {found!r}")
            if found is not None and found not in real:
                wrong.append(f"in life {number} key {key!r} stands for a message there never was")
    return wrong


def check(marks: Sequence[Mark], known: dict[bytes, Message], after: Aftermath) -> list[str]:
    """Return what must not be: the promises, one by one."""
    told: dict[str, set[tuple[bytes, int]]] = {
        what: {
            (queue_id, ordinal)
            for mark in marks
            if mark.what == what
            for queue_id, ordinals in [mark.about]
            for ordinal in ordinals
        }
        for what in ("taken", "stamped", "failed", "reported", "closing", "once")
    }
    accepted = [mark.about for mark in marks if mark.what == "accepted"]
    wrong = []
    before = Counter(
        (queue_id, ordinal)
        for mark in marks
        if mark.what == "taken"
        for queue_id, ordinals in [mark.about]
        for ordinal in ordinals
    )
    reports_taken = Counter(
        (names[0], ordinal)
        for (queue_id, _), count in before.items()
        if queue_id in known and (names := covered(known[queue_id].envelope.parameters)) is not None
        for ordinal in names[1]
        for _ in range(count)
    )
    for one in accepted:
        for ordinal in range(len(one.envelope.recipients)):
            who = (one.queue_id, ordinal)
            key = (ids.text(one.queue_id), ordinal)
            reports = after.reported[key] + reports_taken[key]
            reached = who in told["taken"] or after.taken[who] or reports
            if not reached and who in told["once"] | after.held:
                continue
            if not reached and who not in after.closed and who not in told["reported"] | told["closing"]:
                wrong.append(f"lost: {who}")
    wrong += [f"false alarm: {words}" for words in after.unreadable]
    wrong += [
        f"sent again though its stamp was durable: {who}" for who in told["stamped"] if after.taken[who]
    ]
    wrong += [f"sent again though at most once: {who}" for who in told["once"] if after.taken[who]]
    wrong += [f"sent though it had failed: {who}" for who in told["failed"] if after.taken[who]]
    for who, count in after.taken.items():
        if count > 1:
            wrong.append(f"sent {count} times after one crash: {who}")
    for key, count in (after.reported + reports_taken).items():
        if count > 1 + sum(before[who] > 0 for who in _dsn_in_flight(key, known, told)):
            wrong.append(f"reported {count} times: {key}")
    for queue_id, content in after.contents.items():
        origin = known.get(queue_id)
        if origin is not None and origin.content != content:
            wrong.append(f"altered: {queue_id.hex()}")
    return wrong


def _dsn_in_flight(
    key: tuple[str, int], known: dict[bytes, Message], told: dict[str, set[tuple[bytes, int]]]
) -> list[tuple[bytes, int]]:
    """Return the report's own recipients that a peer had taken and whose stamp was not durable."""
    return [
        who
        for who in told["taken"] - told["stamped"]
        if who[0] in known
        and (names := covered(known[who[0]].envelope.parameters)) is not None
        and names[0] == key[0]
        and key[1] in names[1]
    ]


Script = Callable[[Workload], Awaitable[None]]
