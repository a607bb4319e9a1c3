"""One try of a job's next recipients: a transaction, other hosts where one fails, what is to be settled.

A session that is open is used first. A host that fails as a host hands those it did not
answer for to the next one; who was answered for is done. `D` is stamped inside the callback
that reads the final 2xx (Q4), and awaited before anything else goes out on that connection.
Those a host has no room for go in the next transaction. A job's claims end, whatever
happens, when nobody of it is left in the lane or under way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from backstamp.clock import Clock
from backstamp.delivery import prepare
from backstamp.delivery.feedback import Feedback
from backstamp.delivery.history import History
from backstamp.delivery.judge import again, doubtful, impersonal, judge
from backstamp.delivery.lane import Job, Lane
from backstamp.delivery.opening import Opener, Slot
from backstamp.delivery.prepare import Prepared
from backstamp.delivery.progress import Progress
from backstamp.delivery.reports import Reporter
from backstamp.delivery.settle import settle
from backstamp.delivery.suppressed import Suppression, suppressed
from backstamp.delivery.tell import Teller, text
from backstamp.delivery.tries import Tries
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome
from backstamp.mail.release import held_until
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result, Transaction
from backstamp.policy import bounce, classify
from backstamp.policy.destination import Tls
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.policy.retry import RetryPolicy
from backstamp.queue.port import DamagedError, Delivery, Flag, Load, Outlet, StampNotDurableError
from backstamp.queue.stamps import Stamp

RETURNS: Final = 2
"""How often those whom a failing host did not answer for go back to a lane whose other sessions are well, or
whose next connection is another lane's."""


class Attempter:
    """Makes attempts. One for all lanes."""

    def __init__(
        self,
        queue: Outlet,
        opener: Opener,
        *,
        clock: Clock,
        chance: Callable[[], float],
        tell: Teller,
        feedback: Feedback,
        reporter: Reporter,
        history: History,
        suppression: Suppression | None,
        kick: Callable[[Lane[Any]], None],
        wanted: Callable[[Lane[Any]], bool],
    ) -> None:
        """Make one; `kick` is called for a lane in which something waits again.

        `wanted` tells whether others wait for the next connection a lane would open.
        """
        self._queue = queue
        self._opener = opener
        self._clock = clock
        self._chance = chance
        self._tell = tell
        self._feedback = feedback
        self._reporter = reporter
        self._history = history
        self._suppression = suppression
        self._kick = kick
        self._wanted = wanted

    # ---- a job ----

    async def run(self, job: Job, lane: Lane[Any], slot: Slot) -> None:
        """Try the next recipients of a job that was taken from its lane; those left over wait there again."""
        job.out += 1
        slot.job = job
        try:
            load = await self._load(job, lane.way.policy.retry)
            if job.pending:
                progress = Progress(self._batch(job, lane), {}, {})
                try:
                    await self._hosts(job, load, progress, lane, slot)
                except Exception as error:  # a bug there must not cost those their outcome who have one
                    await slot.close()
                    self._alarm(job, error)
                    progress.note(classify.broken())
                if progress.pending:
                    self._put_off(job, progress, lane, slot)
                if progress.outcomes:
                    await self._settle(job, load, progress, lane.way.policy.retry)
        except DamagedError:
            job.claims.clear()
            job.pending.clear()
        except Exception as error:  # one bad delivery never takes its siblings along
            await slot.close()
            self._alarm(job, error)
            self._defer(job, lane.way.policy.retry)
        finally:
            job.out -= 1
            slot.job = None
            self._end(job, lane.way.policy.retry)

    async def give_up(self, job: Job, outcome: Outcome, retry: RetryPolicy) -> None:
        """Settle everybody of a job that cannot be tried now. The content is not read for that."""
        job.out += 1
        try:
            load = job.load or await self._queue.load(job.claims, content=False)
            pending, job.pending = job.pending if job.load is not None else dict(load.recipients), {}
            await self._settle(job, load, Progress({}, dict.fromkeys(pending, outcome), {}), retry)
        except DamagedError:
            job.claims.clear()
        except Exception as error:  # as above: the mail stays, and is tried again
            self._alarm(job, error)
            self._defer(job, retry)
        finally:
            job.out -= 1
            self._end(job, retry)

    async def _load(self, job: Job, retry: RetryPolicy) -> Load:
        """Return a job's message, read at its first turn."""
        if job.load is None:
            # Nobody waits, where all were held or removed while it waited for its turn.
            load = await self._queue.load(job.claims)
            pending = dict(load.recipients)
            if self._suppression:
                listed = suppressed(pending, job.claims[0].flow.tenant, self._suppression)
                for ordinal in listed:
                    del pending[ordinal]
                await self._settle(job, load, Progress({}, listed, {}), retry)
            # Last: what is pending is either in the lane or in a batch, and keeps the claims.
            job.load, job.pending = load, pending
        return job.load

    def _batch(self, job: Job, lane: Lane[Any]) -> dict[int, Recipient]:
        """Take a transaction's recipients out of a job; the rest waits for its turn."""
        pending, job.pending = job.pending, {}
        if len(pending) <= lane.recipients:
            return pending
        batch = dict(islice(pending.items(), lane.recipients))
        for ordinal in batch:
            del pending[ordinal]
        job.pending = pending
        lane.back(job)
        self._kick(lane)
        return batch

    def let_go(self, job: Job, retry: RetryPolicy) -> None:
        """Give up a turn that came to nothing; who was not tried is tried again on schedule."""
        job.pending = {}
        self._end(job, retry)

    def _defer(self, job: Job, retry: RetryPolicy) -> None:
        soonest = self._clock.wall() + retry.schedule[0]
        job.retry_at = soonest if job.retry_at is None else min(job.retry_at, soonest)

    def _end(self, job: Job, retry: RetryPolicy) -> None:
        """Give a job's claims back when nobody of it is in the lane or under way."""
        if job.out or job.pending:
            return
        retry_at = job.retry_at
        if retry_at is None:
            retry_at = self._clock.wall() + retry.schedule[0]
        claims, job.claims = job.claims, []
        for claim in claims:
            self._history.ended(claim)
            self._queue.give_back(claim, retry_at)

    def _alarm(self, job: Job, error: Exception) -> None:
        queue_id = job.queue_id if job.claims else b"\0" * 16
        self._tell.alarm(queue_id, f"an attempt broke: {error!r}", "tried again on schedule")

    # ---- an attempt ----

    def _put_off(self, job: Job, progress: Progress, lane: Lane[Any], slot: Slot) -> None:
        """Decide on those whom no host answered for: back to the lane, or deferred."""
        well = slot.session is None and lane.sessions > 0
        if well and job.returns < RETURNS and progress.failed_by_host:
            # Others of the lane have sessions that are well: then nobody need wait for a retry.
            job.returns += 1
            self._return(job, lane, progress.pending)
            return
        last = progress.last or classify.dns(DnsFault(DnsProblem.NO_ADDRESS, text(job.domain)))
        progress.outcomes.update(dict.fromkeys(progress.pending, last))

    def _return(self, job: Job, lane: Lane[Any], recipients: Mapping[int, Recipient]) -> None:
        """Let some of a job wait for its next turn, before those who wait already."""
        waits = bool(job.pending)
        job.pending = {**recipients, **job.pending}
        if not waits:
            # What was left of it may have gone to another lane meanwhile, and have been asked for there.
            job.until = float("-inf")
            lane.back(job)
            self._kick(lane)

    async def _hosts(self, job: Job, load: Load, progress: Progress, lane: Lane[Any], slot: Slot) -> None:
        """Use the session there is, then other hosts, until everybody is answered for."""
        tries = Tries()
        if slot.session is not None and slot.session.usable:
            used = slot.sent > 0
            if not used and slot.candidate is not None:
                tries.tries(slot.candidate, dead=False)
            await self._session(job, load, progress, lane, slot)
            if used and progress.pending and job.returns < RETURNS and self._wanted(lane):
                # A connection that was good for others is over, and the next one is for who stands in line.
                await slot.close()
                job.returns += 1
                self._return(job, lane, progress.pending)
                progress.pending = {}
        retried = False
        while progress.pending and not lane.paused(self._clock.monotonic()):
            outcome = await self._opener.open(lane, slot, tries)
            if slot.session is not None:
                await self._session(job, load, progress, lane, slot)
                continue
            if lane.starved(self._clock.monotonic()):
                # No host was asked: they wait until this machine has a connection to give.
                self._return(job, lane, progress.pending)
                progress.pending = {}
                return
            if outcome is not None:
                progress.note(outcome)
            if progress.broken is None or retried:
                return
            # It broke off before the dot: nothing was sent, and another connection may do.
            retried = True
            tries.forget(progress.broken)
        if progress.pending and progress.last is None:
            # The session was gone when the pause had begun: nobody was asked, so they wait for its end.
            self._return(job, lane, progress.pending)
            progress.pending = {}

    async def _session(self, job: Job, load: Load, progress: Progress, lane: Lane[Any], slot: Slot) -> None:
        """Offer a session's host those who are pending, in one transaction."""
        session = slot.session
        assert session is not None
        extensions = session.extensions
        if left := prepare.left_out(progress.pending, host=slot.host, extensions=extensions):
            progress.done(left, 0.0)
            if not progress.pending:
                return
        prepared = prepare.for_peer(
            load,
            tuple(progress.pending.values()),
            host=slot.host,
            extensions=extensions,
            size_limit=session.size_limit,
            # Nothing lowers what a lane demands: without it there would be no session. A host that an MX
            # record names may be anybody's (RFC 8689 §4.2.1).
            verified=lane.way.policy.tls is Tls.VERIFY and not lane.way.by_mx,
        )
        if isinstance(prepared, Outcome):
            progress.done(dict.fromkeys(progress.pending, prepared), 0.0)
            return
        slot.unbook()
        now = self._clock.monotonic()
        while (at := lane.send(now)) > now:
            await asyncio.sleep(at - now)
            now = self._clock.monotonic()
        await self._transact(job, load, progress, lane, slot, prepared)

    async def _transact(
        self, job: Job, load: Load, progress: Progress, lane: Lane[Any], slot: Slot, prepared: Prepared
    ) -> None:
        """Run one transaction; return when its stamps are durable (Q4)."""
        session = slot.session
        assert session is not None
        queue, claim, extensions = self._queue, job.claims[0], session.extensions
        ordinals = list(progress.pending)
        self._tell.attempt(job, len(ordinals), slot.host)
        stamped = []

        def dotting(accepted: Sequence[int]) -> Awaitable[None] | None:
            return queue.doubt(claim, [ordinals[index] for index in accepted])

        def settled(_: Reply, accepted: Sequence[int]) -> None:
            marks = {ordinals[index]: Stamp.DELIVERED for index in accepted}
            stamped.append(queue.stamp(claim, marks))

        started = self._clock.monotonic()
        slot.does("sending", slot.host, started)
        slot.sent += 1
        slot.turns += 1
        try:
            result = await session.transact(
                Transaction(load.sender, tuple(prepared.recipients), load.content, prepared.parameters),
                settled,
                dotting,
            )
        except StampNotDurableError:
            # The doubt could not be noted, so the dot did not go out.
            self._answered(claim, load, ordinals)
            raise
        if not result.in_doubt and not stamped:
            self._answered(claim, load, ordinals)
        durable = True
        for stamp in stamped:
            try:
                await stamp
            except StampNotDurableError:
                # The engine raised the alarm. In memory it holds, so nobody is sent to again; but what
                # is said to be delivered must be on the disk, and this connection has done enough (Q4).
                durable = False
        duration = self._clock.monotonic() - started
        outcomes = judge(result, ordinals, slot.host)
        self._feedback.transacted(lane, result, slot.host, sent=slot.sent - 1, probe=slot.probe)
        if result.final is not None and result.final.positive:
            # It got through; the next step up is tried by another.
            slot.probe = None
        if result.fault is not None and result.fault.problem == "disconnected" and not result.in_doubt:
            progress.broken = slot.candidate
        if result.in_doubt:
            self._tell.in_doubt(job, load.recipients, outcomes)
            if load.flags & Flag.AT_MOST_ONCE:
                self._held(job, load, progress, outcomes)
        if len(ordinals) > 1:
            self._next_turn(job, progress, lane, result, ordinals, outcomes)
        progress.done(outcomes, duration, impersonal(result, ordinals))
        if not durable:
            await slot.close()
            return
        release = held_until(load.parameters)
        self._tell.delivered(job, load.recipients, outcomes, duration, session.tls, release)
        if owed := prepare.relayed(load, outcomes, extensions=extensions):
            await self._reporter.relayed(job.claims[0], load, {one: outcomes[one] for one in owed})

    def _answered(self, claim: Delivery, load: Load, ordinals: Sequence[int]) -> None:
        """Take back the doubt of a transaction that was answered; an earlier one's stays."""
        self._queue.answered(claim, [ordinal for ordinal in ordinals if ordinal not in load.doubts])

    def _next_turn(
        self,
        job: Job,
        progress: Progress,
        lane: Lane[Any],
        result: Result,
        ordinals: Sequence[int],
        outcomes: dict[int, Outcome],
    ) -> None:
        """Let those whom the host had no room for go in the next transaction (RFC 5321 §4.5.3.1.10)."""
        left = again(result, ordinals)
        if not left:
            return
        self._feedback.crowded(lane, result, outcomes[left[0]])
        for ordinal in left:
            del outcomes[ordinal]
        self._return(job, lane, {ordinal: progress.pending.pop(ordinal) for ordinal in left})

    def _held(self, job: Job, load: Load, progress: Progress, outcomes: dict[int, Outcome]) -> None:
        """Take those in doubt out of the attempt: the queue holds them when the claim ends."""
        held = {ordinal: outcomes.pop(ordinal) for ordinal in [*outcomes] if doubtful(outcomes[ordinal])}
        for ordinal in held:
            del progress.pending[ordinal]
        self._noted(job, load, held)
        self._tell.held(job, load.recipients, held)

    async def _settle(self, job: Job, load: Load, progress: Progress, retry: RetryPolicy) -> None:
        """Stamp failures, tell what happened, and note when to try again."""
        settlement = settle(
            progress.outcomes,
            retry,
            now=self._clock.wall(),
            arrival=job.arrival / 1e6,
            chance=self._chance(),
            release=held_until(load.parameters),
        )
        if settlement.marks:
            try:
                await self._queue.stamp(job.claims[0], settlement.marks, settlement.reasons)
            except StampNotDurableError:
                # The engine raised the alarm, and reports them when their reason is on the disk.
                settlement = msgspec.structs.replace(settlement, failed={})
        if self._suppression is not None and load.sender:
            # Hosts refuse reports for reasons of their own (BATV), and those are of no tenant.
            for ordinal, outcome in settlement.failed.items():
                if ordinal in progress.impersonal:
                    # A host that says "user unknown" of the sender would cost all its recipients.
                    continue
                self._suppression.bounced(
                    load.recipients[ordinal].address,
                    job.claims[0].flow.tenant,
                    bounce.of(outcome).value,
                    str(outcome.reply),
                )
        if settlement.deferred:
            soonest = settlement.retry_at
            job.retry_at = soonest if job.retry_at is None else min(job.retry_at, soonest)
        self._noted(job, load, {**settlement.deferred, **settlement.failed})
        self._tell.settled(job, load.recipients, settlement, progress.durations)

    def _noted(self, job: Job, load: Load, outcomes: Mapping[int, Outcome]) -> None:
        """Let whoever asks later know how it ended."""
        now = self._clock.wall()
        self._history.note(job.queue_id, load.recipients, outcomes, attempt=job.attempts + 1, now=now)
