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
from backstamp.delivery import prepare
from backstamp.delivery.candidates import Candidate
from backstamp.delivery.settle import Settlement, settle
from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.client import Connection, Refusal
from backstamp.net.transaction import Result, Transaction
from backstamp.policy import classify
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.queue import ids
from backstamp.queue.port import DamagedError, Delivery, Load, Outlet, StampNotDurableError
from backstamp.queue.stamps import Stamp
from backstamp.telemetry import events
from backstamp.text import printable

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
    """An attempt under way: who is done, who is not, and what was last seen of the destination."""

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
    """Makes attempts. One for all lanes; it holds no state between them."""

    def __init__(
        self,
        queue: Outlet,
        connect: Connect,
        *,
        clock: Clock,
        chance: Callable[[], float],
        emit: Callable[[events.Event], None],
        trace: bool = False,
    ) -> None:
        self._queue = queue
        self._connect = connect
        self._clock = clock
        self._chance = chance
        self._emit = emit
        self._trace = trace
        """Whether each transaction's begin is an event."""

    async def run(self, claim: Delivery, find: Find, policy: DestinationPolicy, slot: Slot) -> None:
        """Try a delivery once and give its claim back."""
        retry_at = self._clock.wall() + policy.retry.schedule[0]
        try:
            load = await self._queue.load(claim)
            progress = _Progress(load, dict(load.recipients), {}, {})
            try:
                await self._try(claim, progress, find, policy, slot)
            except Exception as error:  # one bad delivery never takes its siblings along
                await slot.close()
                self._alarm(claim, error)
                progress.note(classify.broken())
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
        self._emit(
            events.Alarm(
                time=self._now(),
                problem=f"an attempt broke: {error!r}",
                action="tried again on schedule",
                queue_id=ids.text(claim.queue_id),
            )
        )

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
            await slot.close()
            opened = await self._connect(candidate, policy)
            host = f"{candidate.name}[{candidate.address}]:{candidate.port}"
            if isinstance(opened, Fault):
                progress.note(classify.fault(opened, host))
                continue
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
            parameters = prepare.mail_parameters(
                progress.load,
                host=slot.host,
                extensions=connection.extensions,
                size_limit=connection.size_limit,
            )
            if isinstance(parameters, Outcome):
                self._done(progress, dict.fromkeys(ordinals, parameters), 0.0)
                continue
            await self._transact(claim, progress, slot, ordinals, recipients, parameters)

    async def _transact(
        self,
        claim: Delivery,
        progress: _Progress,
        slot: Slot,
        ordinals: Sequence[int],
        recipients: Sequence[Recipient],
        parameters: bytes,
    ) -> None:
        """Run one transaction; return when its stamps are durable (Q4)."""
        connection = slot.connection
        assert connection is not None
        load = progress.load
        queue = self._queue
        if self._trace:
            self._emit(
                events.Attempt(
                    time=self._now(),
                    queue_id=ids.text(claim.queue_id),
                    domain=text(claim.domain),
                    recipients=len(ordinals),
                    mx=slot.host,
                    attempt=claim.attempts + 1,
                )
            )
        stamped = []

        def settled(_: Reply, accepted: Sequence[int]) -> None:
            marks = {ordinals[index]: Stamp.DELIVERED for index in accepted}
            stamped.append(queue.stamp(claim, marks))

        started = self._clock.monotonic()
        slot.sent += 1
        result = await connection.transact(
            Transaction(
                load.sender,
                tuple(recipient.address for recipient in recipients),
                load.content,
                parameters,
            ),
            settled,
        )
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
            self._doubt(claim, progress, outcomes, slot.host)
        self._done(progress, outcomes, duration)
        if durable:
            self._tell_delivered(claim, progress, outcomes, duration)
        else:
            await slot.close()

    def _done(self, progress: _Progress, outcomes: Mapping[int, Outcome], duration: float) -> None:
        """Note outcomes; whoever met the host's own trouble stays pending for the next host."""
        for ordinal, outcome in outcomes.items():
            if outcome.scope >= Scope.HOST and outcome.verdict is not Verdict.DELIVERED:
                progress.note(outcome)
                continue
            del progress.pending[ordinal]
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
            await self._queue.stamp(claim, settlement.marks, settlement.reasons)
        self._tell_rest(claim, progress, settlement)
        return settlement.retry_at

    # ---- events ----

    def _tell_delivered(
        self, claim: Delivery, progress: _Progress, outcomes: Mapping[int, Outcome], duration: float
    ) -> None:
        now = self._now()
        queue_id = ids.text(claim.queue_id)
        for ordinal, outcome in outcomes.items():
            if outcome.verdict is Verdict.DELIVERED:
                self._emit(
                    events.Delivered(
                        time=now,
                        queue_id=queue_id,
                        recipient=text(progress.load.recipients[ordinal].address),
                        reply=printable(str(outcome.reply)),
                        mx=outcome.host,
                        duration=duration,
                        delay=(now - claim.arrival) / 1e6,
                    )
                )

    def _tell_rest(self, claim: Delivery, progress: _Progress, settlement: Settlement) -> None:
        queue_id = ids.text(claim.queue_id) if settlement.failed or settlement.deferred else ""
        now = self._now()
        recipients = progress.load.recipients
        for ordinal, outcome in settlement.failed.items():
            self._emit(
                events.Failed(
                    time=now,
                    queue_id=queue_id,
                    recipient=text(recipients[ordinal].address),
                    reply=printable(str(outcome.reply)),
                    mx=outcome.host,
                    duration=progress.durations.get(ordinal, 0.0),
                    scope=outcome.scope.name.lower(),
                )
            )
        for ordinal, outcome in settlement.deferred.items():
            self._emit(
                events.Deferred(
                    time=now,
                    queue_id=queue_id,
                    recipient=text(recipients[ordinal].address),
                    reply=printable(str(outcome.reply)),
                    mx=outcome.host,
                    duration=progress.durations.get(ordinal, 0.0),
                    scope=outcome.scope.name.lower(),
                    retry_at=settlement.retry_at,
                )
            )

    def _doubt(self, claim: Delivery, progress: _Progress, outcomes: dict[int, Outcome], host: str) -> None:
        for ordinal, outcome in outcomes.items():
            if outcome.scope is Scope.MESSAGE and outcome.verdict is Verdict.DEFERRED:
                self._emit(
                    events.InDoubt(
                        time=self._now(),
                        queue_id=ids.text(claim.queue_id),
                        recipient=text(progress.load.recipients[ordinal].address),
                        mx=host,
                        reply=printable(str(outcome.reply)),
                    )
                )

    def _now(self) -> int:
        return int(self._clock.wall() * 1e6)


def text(address: bytes) -> str:
    """Return an address or domain as text for events; what is no UTF-8 is shown as such."""
    return address.decode("utf-8", "backslashreplace")


def judge(result: Result, ordinals: Sequence[int], host: str) -> dict[int, Outcome]:
    """Return each recipient's outcome of one transaction.

    In doubt (the final dot is out, no reply came) is deferred with the message's scope: trying
    the next host at once would be the second copy.
    """
    outcomes = {}
    broken = classify.fault(result.fault, host) if result.fault is not None else None
    refused = result.mail is not None and not result.mail.positive
    for ordinal, answer in zip(ordinals, result.recipients, strict=True):
        if refused and result.mail is not None:
            outcome = classify.reply(result.mail, Phase.MAIL, host)
        elif answer is not None and not answer.positive:
            outcome = classify.reply(answer, Phase.RCPT, host)
        elif answer is not None and result.final is not None:
            outcome = classify.reply(result.final, Phase.FINAL, host)
        elif answer is not None and result.data is not None and result.data.code != 354:
            outcome = classify.reply(result.data, Phase.DATA, host)
        elif broken is not None and result.in_doubt and answer is not None:
            outcome = msgspec.structs.replace(broken, scope=Scope.MESSAGE)
        elif broken is not None:
            outcome = broken
        else:
            silent = Fault(Phase.FINAL, "disconnected", "the server closed the session")
            outcome = classify.fault(silent, host)
        outcomes[ordinal] = outcome
    return outcomes
