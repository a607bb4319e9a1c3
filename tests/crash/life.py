"""One life of a relay on a disk that fails: its listener, delivery and operator do what chance has them do.

What the world is told and takes goes into the books. A life ends in order, by a kill at any call, or
where the relay gives up.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from tests.crash.books import Books
from tests.crash.failing import FailingFiles, KilledError
from tests.crash.world import REFUSED, ROOT, TurnCommitter, dsn_for
from tests.sim.virtual import VirtualClock
from tests.support.queues import message

from backstamp.queue import operations
from backstamp.queue.draft import UndecidedError
from backstamp.queue.entry import Entry
from backstamp.queue.keys import digest
from backstamp.queue.local import LocalQueue, LocalSettings, open_queue
from backstamp.queue.port import Delivery, Flag, Message, QueueRefusedError, Reason, StampNotDurableError
from backstamp.queue.stamps import Stamp
from backstamp.telemetry.events import Alarm, Event

KEYS = [digest(b"user u", b"%d" % number) for number in range(6)]
FAULTS: Sequence[dict[str, float]] = (
    {"*": 0.15},
    {"sync": 0.4, "write_durably": 0.4, "sync_directory": 0.3},
    {"read": 0.3, "open": 0.2},
    {"write_durably": 0.6, "poke": 0.5},
    {"create": 0.6},
    {"unlink": 0.6},
    {"rename": 0.6, "truncate": 0.6},
)


class Life:
    """One life of a relay: what its listener, its delivery and its operator do, as chance has it."""

    def __init__(
        self, books: Books, files: FailingFiles, chance: random.Random, epoch: float, last: bool
    ) -> None:
        self.books, self.files, self.chance, self.last = books, files, chance, last
        self.draining = last
        self.epoch = epoch
        self.claims: list[Delivery] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.alarms: list[str] = []
        self.queue: LocalQueue

    def emit(self, event: Event) -> None:
        if isinstance(event, Alarm):
            self.alarms.append(event.problem)
            self.books.unread = self.books.unread or "cannot be read" in event.problem

    async def run(self) -> bool:
        """Live; tell whether it ended in order."""
        asyncio.get_running_loop().set_exception_handler(self._heard)
        with contextlib.suppress(KilledError):
            await self._open()
            self._spawn(self._claim())
            self._spawn(self._report())
            if not self.last:
                await self._live()
            if not self.files.dead and (self.last or self.chance.random() < 0.4):
                await self._end()
                return True
        self.files.dead = True
        return False

    def _heard(self, _: object, context: dict[str, Any]) -> None:
        if not isinstance(error := context.get("exception"), KilledError):
            self.books.bad(f"{context.get('message')}: {error!r}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except (KilledError, QueueRefusedError):
                pass
            except Exception as error:
                self.books.bad(f"{work.__qualname__}: {error!r}")

        task = asyncio.ensure_future(run())
        task.set_name(work.__name__)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _open(self) -> None:
        chance, files = self.chance, self.files
        files.begin(chance.random())
        if not self.last and chance.random() < 0.7:
            files.left = chance.choice((20, 60, 150, 400, 900))
        if not self.last and chance.random() < 0.15:
            files.chances = {chance.choice(("read", "open", "sync", "write", "listing")): 0.15}
        settings = LocalSettings(
            compact=0,
            segment_size=chance.choice((2500, 4000)),
            hot_limit=chance.choice((0, 1 << 20)),
            large=1000,
            report_after=chance.choice((5.0, 300.0)),
            reserve=chance.choice((0, 1000)),
        )
        for tries in range(20):
            if tries == 19:
                files.well()
            with contextlib.suppress(OSError):
                self.queue = await open_queue(
                    files,
                    ROOT,
                    clock=VirtualClock(asyncio.get_running_loop(), self.epoch),
                    emit=self.emit,
                    salt=lambda: chance.randbytes(16),
                    first_due=lambda now, _, spread: now + 2 * spread,
                    settings=settings,
                    committer=TurnCommitter,
                )
                return
            if files.descriptors:
                self.books.bad("a start that failed leaves files open")

    # ---- what comes ----

    async def _live(self) -> None:
        chance, queue = self.chance, self.queue
        compacting = asyncio.ensure_future(asyncio.sleep(0))
        for _ in range(chance.randrange(20, 120)):
            what = chance.random()
            if what < 0.25:
                self._spawn(self._hand_in())
            elif what < 0.6 and self.claims:
                self._spawn(self._attempt(self.claims.pop(chance.randrange(len(self.claims)))))
            elif what < 0.7:
                self._spawn(self._operate())
            elif what < 0.78 and compacting.done() and queue.recovering.done():
                compacting = asyncio.ensure_future(self._compact())
            elif what < 0.84:
                await asyncio.sleep(chance.choice((0.1, 1.1, 6.0, 61.0)))
            elif what < 0.88:
                self._break()
            elif what < 0.89:
                self.files.well()
                await asyncio.sleep(40_000)  # keys are over in a day
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if queue.broken.done() and not self.files.dead:
                if not isinstance(error := queue.broken.exception(), UndecidedError):
                    self.books.bad(f"the relay ended: {error!r}")
                raise KilledError
            if self.files.dead:
                raise KilledError

    def _break(self) -> None:
        files, chance = self.files, self.chance
        files.well()
        what = chance.random()
        if what < 0.15:
            files.full = True
        elif what < 0.25:
            files.limit = len(files.descriptors) + chance.randrange(3)
        elif what < 0.6:
            files.chances = chance.choice(FAULTS)

    async def _hand_in(self) -> None:
        chance, queue = self.chance, self.queue
        one = message(
            *(b"u%d@d%d.example" % (n, chance.randrange(3)) for n in range(chance.choice((1, 1, 2, 3, 6)))),
            sender=chance.choice((b"sender@example.org", b"sender@example.org", b"")),
            content=b"%d" % chance.randrange(10) * chance.choice((20, 600, 1500)),
            flags=Flag.AT_MOST_ONCE if chance.random() < 0.2 else Flag.NONE,
            key=chance.choice(KEYS) if chance.random() < 0.15 else b"",
            arrival=queue._clock.wall(),
        )
        self.books.known[one.queue_id] = one
        if chance.random() < 0.75:
            queue.hand_in(one, lambda outcome: self._told(one, outcome), lambda: None)
            return
        deposit = await queue.deposit(msgspec.structs.replace(one, content=one.content[:10]))
        await asyncio.sleep(0)
        await deposit.write(one.content[10:])
        if chance.random() < 0.2:
            await deposit.abandon()
        else:
            self._told(one, await deposit.commit())

    def _told(self, one: Message, outcome: bytes | Exception) -> None:
        if isinstance(outcome, bytes):
            self.books.stands(one, outcome, self.queue._clock.wall())
        elif not isinstance(outcome, QueueRefusedError) and not self.files.dead:
            self.books.bad(f"told {outcome!r}")

    async def _claim(self) -> None:
        while True:
            self.claims += await self.queue.claim(3)

    async def _attempt(self, delivery: Delivery) -> None:
        queue, chance = self.queue, self.chance
        try:
            load = await queue.load([delivery])
            content = load.content
            if not isinstance(content, bytes):
                content = b"".join([piece async for piece in content.pieces()])
        except OSError:
            queue.give_back(delivery, queue._clock.wall() + 1)
            return
        origin = self.books.known[delivery.queue_id]
        if load.recipients and content != origin.content:
            self.books.bad("altered", (delivery.queue_id, 0))
        waiting = list(load.recipients)
        chance.shuffle(waiting)
        while waiting and not self.files.dead:
            count = chance.randrange(1, 4)
            await self._transact(delivery, load.flags, waiting[:count])
            del waiting[:count]
        if not self.files.dead:
            queue.give_back(
                delivery, queue._clock.wall() + (0 if self.draining else chance.choice((0, 0, 1, 30)))
            )

    async def _transact(self, delivery: Delivery, flags: Flag, some: list[int]) -> None:
        """One transaction, to its end: taken, refused, put off, or broken off before its reply."""
        queue, chance, books = self.queue, self.chance, self.books
        end = "take" if self.draining else chance.choice(("take", "take", "take", "fail", "defer", "lost"))
        if end == "fail":
            reasons = [Reason(tuple(some), REFUSED, "mx.example", 1)]
            durable = queue.stamp(delivery, dict.fromkeys(some, Stamp.FAILED), reasons)
            await self._durable(
                durable, lambda: books.failed.update((delivery.queue_id, one) for one in some)
            )
            return
        try:
            permit = queue.doubt(delivery, some)
        except StampNotDurableError:
            queue.answered(delivery, some)
            return
        if permit is not None and not await self._durable(permit, lambda: None):
            return  # the dot was kept back
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if end == "take" or self.files.dead:
            for one in some:
                books.take((delivery.queue_id, one))
        elif end == "defer":
            queue.answered(delivery, some)
        elif flags & Flag.AT_MOST_ONCE:
            books.dotted.update((delivery.queue_id, one) for one in some)
        if end == "take" and not self.files.dead:
            durable = queue.stamp(delivery, dict.fromkeys(some, Stamp.DELIVERED))
            await self._durable(durable, lambda: books.delivered(delivery.queue_id, some))

    async def _durable(self, stamps: Any, then: Callable[[], None]) -> bool:
        """Wait a while for stamps; tell whether they are durable by then. When they are, note it."""

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                then()

        future = asyncio.ensure_future(stamps)
        future.add_done_callback(done)
        await asyncio.wait([future], timeout=self.chance.choice((0, 20)))
        return future.done() and future.exception() is None

    async def _report(self) -> None:
        queue, books = self.queue, self.books
        while True:
            owed = await queue.claim_report()
            if (report := dsn_for(owed)) is not None:
                report = msgspec.structs.replace(report, arrival=int(queue._clock.wall() * 1e6))
            books.owed(owed, report)
            await asyncio.sleep(0)
            try:
                await queue.report(owed, report)
            except QueueRefusedError:
                assert report is not None
                books.refused(report)
            except StampNotDurableError:
                pass

    async def _operate(self) -> None:
        chance, books = self.chance, self.books
        if not (entries := self._entries()):
            return
        entry, verb = chance.choice(entries), chance.choice(sorted(operations.VERBS))
        ordinals = [one for one in range(entry.facts.recipients) if chance.random() < 0.7]
        who = [(entry.queue_id, one) for one in ordinals]
        if verb in {"release", "retry"}:
            books.let_go.update(who)
        if verb == "remove":
            books.perhaps_removed.update(who)
        try:
            done = await operations.act(self.queue, verb, entry, ordinals)
        except (operations.BusyError, StampNotDurableError, OSError):
            return
        for one in done:
            if verb == "hold" and entry.stamp(one) is Stamp.HELD:
                books.held.add((entry.queue_id, one))
                books.let_go.discard((entry.queue_id, one))
            if verb == "release":
                books.held.discard((entry.queue_id, one))
            if verb in {"remove", "bounce"}:
                (books.removed if verb == "remove" else books.failed).add((entry.queue_id, one))

    async def _compact(self) -> None:
        with contextlib.suppress(OSError, KilledError):
            await self.queue.compactor.compact()

    def _entries(self) -> list[Entry]:
        return [entry for one in self.queue.segments() for entry in one.entries if entry is not None]

    # ---- the end ----

    async def _end(self) -> None:
        """The disk is well again: deliver what waits, look that nothing is left behind, stop in order."""
        queue, ledger = self.queue, self.queue.ledger
        self.files.left = None
        self.files.well()
        self.draining = True
        for _ in range(400):
            while self.claims:
                self._spawn(self._attempt(self.claims.pop()))
            await asyncio.sleep(self.chance.choice((0.5, 31.0)))
            busy = {task.get_name() for task in self.tasks} - {"_claim", "_report"}
            if busy or ledger.scheduled() or ledger.claimed or ledger._debts or not queue.recovering.done():
                continue
            held = [entry for entry in self._entries() if entry.ordinals(Stamp.HELD)] if self.last else []
            if not held:
                break
            for entry in held:
                ordinals = entry.ordinals(Stamp.HELD)
                self.books.let_go.update((entry.queue_id, one) for one in ordinals)
                await operations.act(queue, "release", entry, ordinals)
        else:
            self.books.bad(f"it never ends: {queue.health.problem}")
        await asyncio.sleep(5)  # the last probe
        self._check()
        for task in self.tasks:
            task.cancel()
        await queue.close()

    def _check(self) -> None:
        """Nothing may be left behind: counts, descriptors, segments that nobody needs."""
        queue, bad, entries = self.queue, self.books.bad, self._entries()
        if (problem := queue.health.ask()) is not None:
            bad(f"still in trouble: {problem}")
        if queue.ledger.messages != len(entries) or (self.last and entries):
            bad(f"{queue.ledger.messages} messages are counted, and {len(entries)} are there")
        waiting = sum(len(entry.ordinals(Stamp.TODO, Stamp.DOUBT)) for entry in entries)
        if queue.ledger.waiting != waiting:
            bad(f"{queue.ledger.waiting} recipients are counted, and {waiting} wait")
        # Keys that found no room are tried again in a minute; what cannot be removed goes at the next start.
        stays = self.books.unread or queue._unkept or any("not be removed" in one for one in self.alarms)
        for one in queue.segments():
            if one.busy or (one.sealed and not one.live and not stays):
                bad(f"segment {one.number} stays: busy {one.busy}, pins {one.pins}")
            if one.live_octets != sum(entry.facts.length for entry in entries if entry.segment is one):
                bad(f"segment {one.number} has another size than was counted")
        store = queue._committer._sink  # type: ignore[attr-defined]
        open_ = {*queue.segments(), store._current, store._spare} - {None}
        expected = {queue._lock} | {descriptor for one in open_ for descriptor in (one.mail, one.stamps)}
        if store._keeper._file is not None:
            expected.add(store._keeper._file.descriptor)
        if forgotten := self.files.descriptors.keys() - expected:
            bad(f"left open: {[self.files.path_of(one) for one in forgotten]}")
