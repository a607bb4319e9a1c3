"""One try of a delivery: candidates, connect, transact, classify, settle.

A session that is still open is used first. A host that fails as a host hands those it did
not answer for to the next one; who was answered for is done. `D` is stamped inside the
callback that reads the final 2xx (Q4), and awaited before anything else goes out on that
connection. An attempt always ends its claim, whatever happens in it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from backstamp.clock import Clock
from backstamp.delivery import hosts, prepare
from backstamp.delivery.hosts import Hosts
from backstamp.delivery.judge import doubtful, judge
from backstamp.delivery.outside import Candidate
from backstamp.delivery.prepare import Prepared
from backstamp.delivery.settle import settle
from backstamp.delivery.tell import Teller, text
from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.client import Connection, Refusal
from backstamp.net.transaction import Transaction
from backstamp.policy import classify
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.queue.port import DamagedError, Delivery, Flag, Load, Outlet, StampNotDurableError
from backstamp.queue.stamps import Stamp

Find = Callable[[], AsyncIterator[Candidate | Outcome]]


class Connect(Protocol):
    """Opens a session; a host that does not give one is a value."""

    def __call__(
        self, candidate: Candidate, policy: DestinationPolicy
    ) -> Awaitable[Connection | Refusal | Fault]:
        """Connect, read the greeting, say EHLO."""
        ...


class Slot:
    """One place for a connection in a lane, kept from attempt to attempt."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.host = ""
        self.sent = 0

    async def close(self) -> None:
        """Say QUIT and let go."""
        connection, self.connection, self.sent = self.connection, None, 0
        if connection is not None:
            await connection.close()


class _Progress(msgspec.Struct):
    """An attempt under way: who is pending, what is to be settled, and what was last seen of the destination.

    Who was delivered is in neither: that is stamped and told.
    """

    load: Load
    pending: dict[int, Recipient]
    outcomes: dict[int, Outcome]
    durations: dict[int, float]
    last: Outcome | None = None

    def note(self, outcome: Outcome) -> None:
        """Remember a host's failure. Temporary trouble of one host outweighs what is final at another."""
        if self.last is None or self.last.verdict is Verdict.FAILED or outcome.verdict is Verdict.DEFERRED:
            self.last = outcome


class Attempter:
    """Makes attempts. One for all lanes; between them it remembers only which hosts are dead."""

    def __init__(
        self,
        queue: Outlet,
        connect: Connect,
        *,
        clock: Clock,
        chance: Callable[[], float],
        tell: Teller,
    ) -> None:
        self._queue = queue
        self._connect = connect
        self._clock = clock
        self._chance = chance
        self._tell = tell
        self._dead = Hosts()

    async def run(self, claim: Delivery, find: Find, policy: DestinationPolicy, slot: Slot) -> None:
        """Try a delivery once and give its claim back."""
        retry_at = self._clock.wall() + policy.retry.schedule[0]
        try:
            load = await self._queue.load(claim)
            progress = _Progress(load, dict(load.recipients), {}, {})
            if not progress.pending:
                # Held or removed while it waited for its turn.
                self._queue.give_back(claim, retry_at)
                return
            try:
                await self._try(claim, progress, find, policy, slot)
            except Exception as error:  # one bad delivery never takes its siblings along
                await slot.close()
                self._alarm(claim, error)
                progress.note(classify.broken())
            if progress.outcomes or progress.pending:
                retry_at = await self._settle(claim, progress, policy)
        except DamagedError:
            return
        except Exception as error:  # as above: the mail stays, and is tried again
            self._alarm(claim, error)
            self._queue.give_back(claim, retry_at)
        except BaseException:
            self._queue.give_back(claim, retry_at)
            raise
        else:
            self._queue.give_back(claim, retry_at)

    async def _try(
        self, claim: Delivery, progress: _Progress, find: Find, policy: DestinationPolicy, slot: Slot
    ) -> None:
        """Use the session that is open, then candidates."""
        if slot.connection is not None:
            if slot.connection.usable:
                await self._session(claim, progress, policy, slot)
            await self._renew(slot, policy)
        if progress.pending:
            await self._hosts(claim, progress, find, policy, slot)

    def _alarm(self, claim: Delivery, error: Exception) -> None:
        self._tell.alarm(claim.queue_id, f"an attempt broke: {error!r}", "tried again on schedule")

    async def _renew(self, slot: Slot, policy: DestinationPolicy) -> None:
        """Close a session that may not or cannot take another message."""
        connection = slot.connection
        if connection is not None and (not connection.usable or slot.sent >= policy.messages_per_connection):
            await slot.close()

    async def _hosts(
        self, claim: Delivery, progress: _Progress, find: Find, policy: DestinationPolicy, slot: Slot
    ) -> None:
        """Try candidates in order until everybody is answered for."""
        async for candidate in find():
            if isinstance(candidate, Outcome):
                progress.note(candidate)
                continue
            place = (candidate.address, candidate.port)
            pause = hosts.pause(policy.retry.schedule[0])
            if (known := self._dead.met(place, self._clock.monotonic(), pause)) is not None:
                progress.note(known)
                continue
            await slot.close()
            opened = await self._connect(candidate, policy)
            host = f"{candidate.name}[{candidate.address}]:{candidate.port}"
            if isinstance(opened, Fault):
                outcome = classify.fault(opened, host)
                if self._dead.failed(place, outcome, self._clock.monotonic(), pause):
                    self._tell.host_down(outcome)
                progress.note(outcome)
                continue
            if (down := self._dead.answered(place, self._clock.monotonic())) is not None:
                self._tell.host_up(host, down)
            if isinstance(opened, Refusal):
                progress.note(classify.reply(opened.reply, opened.phase, host))
                continue
            slot.connection, slot.host = opened, host
            await self._session(claim, progress, policy, slot)
            await self._renew(slot, policy)
            if not progress.pending:
                return

    async def _session(
        self, claim: Delivery, progress: _Progress, policy: DestinationPolicy, slot: Slot
    ) -> None:
        """Run transactions on an open session until everybody is answered for or the session ends."""
        connection = slot.connection
        assert connection is not None
        self._done(
            progress,
            prepare.left_out(progress.pending, host=slot.host, extensions=connection.extensions),
            0.0,
        )
        everybody = list(progress.pending)
        for first in range(0, len(everybody), policy.recipients_per_transaction):
            ordinals = everybody[first : first + policy.recipients_per_transaction]
            connection = slot.connection
            if connection is None or not connection.usable:
                return
            recipients = [progress.pending[ordinal] for ordinal in ordinals]
            prepared = prepare.for_peer(
                progress.load,
                recipients,
                host=slot.host,
                extensions=connection.extensions,
                size_limit=connection.size_limit,
            )
            if isinstance(prepared, Outcome):
                self._done(progress, dict.fromkeys(ordinals, prepared), 0.0)
                continue
            await self._transact(claim, progress, slot, ordinals, prepared)

    async def _transact(
        self,
        claim: Delivery,
        progress: _Progress,
        slot: Slot,
        ordinals: Sequence[int],
        prepared: Prepared,
    ) -> None:
        """Run one transaction; return when its stamps are durable (Q4)."""
        connection = slot.connection
        assert connection is not None
        load = progress.load
        queue = self._queue
        self._tell.attempt(claim, len(ordinals), slot.host)
        stamped = []

        def dotting(accepted: Sequence[int]) -> Awaitable[None] | None:
            return queue.doubt(claim, [ordinals[index] for index in accepted])

        def settled(_: Reply, accepted: Sequence[int]) -> None:
            marks = {ordinals[index]: Stamp.DELIVERED for index in accepted}
            stamped.append(queue.stamp(claim, marks))

        started = self._clock.monotonic()
        slot.sent += 1
        try:
            result = await connection.transact(
                Transaction(
                    load.sender,
                    tuple([recipient.address for recipient in prepared.recipients]),
                    load.content,
                    prepared.parameters,
                ),
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
        if result.in_doubt:
            self._tell.in_doubt(claim, load.recipients, outcomes)
            if load.flags & Flag.AT_MOST_ONCE:
                self._held(claim, progress, outcomes)
        self._done(progress, outcomes, duration)
        if durable:
            self._tell.delivered(claim, load.recipients, outcomes, duration)
        else:
            await slot.close()

    def _answered(self, claim: Delivery, load: Load, ordinals: Sequence[int]) -> None:
        """Take back the doubt of a transaction that was answered; an earlier one's stays."""
        self._queue.answered(claim, [ordinal for ordinal in ordinals if ordinal not in load.doubts])

    def _held(self, claim: Delivery, progress: _Progress, outcomes: dict[int, Outcome]) -> None:
        """Take those in doubt out of the attempt: the queue holds them when the claim ends."""
        held = {ordinal: outcomes.pop(ordinal) for ordinal in [*outcomes] if doubtful(outcomes[ordinal])}
        for ordinal in held:
            del progress.pending[ordinal]
        self._tell.held(claim, progress.load.recipients, held)

    def _done(self, progress: _Progress, outcomes: Mapping[int, Outcome], duration: float) -> None:
        """Note outcomes; whoever met the host's own trouble stays pending for the next host."""
        for ordinal, outcome in outcomes.items():
            delivered = outcome.verdict is Verdict.DELIVERED
            if outcome.scope >= Scope.HOST and not delivered:
                progress.note(outcome)
                continue
            del progress.pending[ordinal]
            if not delivered:
                progress.outcomes[ordinal] = outcome
                progress.durations[ordinal] = duration

    async def _settle(self, claim: Delivery, progress: _Progress, policy: DestinationPolicy) -> float:
        """Stamp failures, tell what happened, and return when to try again."""
        if progress.pending:
            last = progress.last or classify.dns(DnsFault(DnsProblem.NO_ADDRESS, text(claim.domain)))
            progress.outcomes.update(dict.fromkeys(progress.pending, last))
        settlement = settle(
            progress.outcomes,
            policy.retry,
            now=self._clock.wall(),
            arrival=claim.arrival / 1e6,
            chance=self._chance(),
        )
        if settlement.marks:
            try:
                await self._queue.stamp(claim, settlement.marks, settlement.reasons)
            except StampNotDurableError:
                # The engine raised the alarm, and reports them when their reason is on the disk.
                settlement = msgspec.structs.replace(settlement, failed={})
        self._tell.settled(claim, progress.load.recipients, settlement, progress.durations)
        return settlement.retry_at
