"""Reports: one message to the sender for every failure known when it is due (Q5, RFC 3464).

The queue says when a report is due and guards that it is made once; here it is written.
Mail with the null reverse-path gets none, and a report is such mail itself, so that no
error is ever sent for an error (RFC 5321 §4.5.5). Who asked not to be told of a recipient's
failure is not (RFC 3461 §4.1): that recipient is closed all the same. A "relayed" report is no
debt of the queue's: a crash between the delivery and the report loses it.
"""

from collections.abc import Callable, Mapping

from backstamp.clock import Clock
from backstamp.delivery.tell import text
from backstamp.mail import dsn
from backstamp.mail.dsn import Action, Fate
from backstamp.mail.envelope import Envelope, Recipient, notifies, parameter
from backstamp.mail.outcome import Outcome
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.port import (
    Delivery,
    Flag,
    Load,
    Message,
    Owed,
    Queue,
    QueueRefusedError,
    StampNotDurableError,
)
from backstamp.queue.record import covers
from backstamp.telemetry.events import Alarm, Bounced, Event

UNKNOWN = Reply(554, "5.0.0 the reason was lost")


class Reporter:
    """Writes the reports the queue asks for."""

    def __init__(
        self,
        queue: Queue,
        *,
        hostname: str,
        clock: Clock,
        entropy: Callable[[int], bytes],
        emit: Callable[[Event], None],
    ) -> None:
        self._queue = queue
        self._hostname = hostname
        self._clock = clock
        self._entropy = entropy
        self._emit = emit

    async def run(self) -> None:
        """Make every report that becomes due."""
        while True:
            owed = await self._queue.claim_report()
            try:
                await self._report(owed)
            except QueueRefusedError as error:
                self._alarm(owed, f"a report could not be queued: {error}", "tried again in a minute")
            except StampNotDurableError as error:
                self._alarm(owed, f"a report waits: {error}", "sent after the next start")
            except Exception as error:  # one report that cannot be made holds up no other
                self._queue.postpone_report(owed)
                self._alarm(owed, f"a report could not be made: {error!r}", "tried again in a minute")

    async def _report(self, owed: Owed) -> None:
        now = self._clock.wall()
        report = None
        if told := wanted(owed):
            queue_id = ids.make(int(now * 1000), self._entropy(10))
            report = compose(owed, queue_id=queue_id, now=now, hostname=self._hostname)
        await self._queue.report(owed, report)
        if report is not None:
            self._bounced(owed, told, ids.text(report.queue_id))
        known = {*told}
        if untold := tuple([ordinal for ordinal in owed.ordinals if ordinal not in known]):
            self._bounced(owed, untold, "")

    async def relayed(self, claim: Delivery, load: Load, outcomes: Mapping[int, Outcome]) -> None:
        """Tell a sender that a host took these recipients, who will hear no more (RFC 3461 §5.2.2)."""
        now = self._clock.wall()
        queue_id = ids.make(int(now * 1000), self._entropy(10))
        message = relayed_message(claim, load, outcomes, queue_id=queue_id, now=now, hostname=self._hostname)
        try:
            await self._queue.append(message)
        except QueueRefusedError as error:
            problem = f"a report of success could not be queued: {error}"
            alarm = Alarm(time=int(now * 1e6), problem=problem, action="the sender is not told")
            self._emit(alarm)

    def _bounced(self, owed: Owed, ordinals: tuple[int, ...], report: str) -> None:
        self._emit(
            Bounced(
                time=int(self._clock.wall() * 1e6),
                queue_id=ids.text(owed.queue_id),
                report=report,
                sender=text(owed.envelope.sender),
                recipients=tuple(text(owed.envelope.recipients[ordinal].address) for ordinal in ordinals),
            )
        )

    def _alarm(self, owed: Owed, problem: str, action: str) -> None:
        now = int(self._clock.wall() * 1e6)
        self._emit(Alarm(time=now, problem=problem, action=action, queue_id=ids.text(owed.queue_id)))


def wanted(owed: Owed) -> tuple[int, ...]:
    """Return the failures of a debt that its sender wants to know of."""
    envelope = owed.envelope
    if not envelope.sender:
        return ()
    recipients = envelope.recipients
    return tuple([one for one in owed.ordinals if notifies(recipients[one].parameters, b"FAILURE")])


def compose(owed: Owed, *, queue_id: bytes, now: float, hostname: str) -> Message:
    """Return the report's message: to the sender, from the null reverse-path, naming what it covers.

    It tells of those that are `wanted`, and covers all, so that a crash leaves none of them open (Q5).
    """
    why = {ordinal: reason for reason in owed.reasons for ordinal in reason.ordinals}
    fates = []
    for ordinal in wanted(owed):
        recipient = owed.envelope.recipients[ordinal]
        reason = why.get(ordinal)
        fates.append(
            Fate(
                recipient.address,
                recipient.parameters,
                reason.reply if reason is not None else UNKNOWN,
                reason.host if reason is not None else "",
                reason.time / 1e6 if reason is not None else now,
            )
        )
    content = dsn.report(
        fates,
        hostname=hostname,
        report_id=ids.text(queue_id),
        now=now,
        sender=owed.envelope.sender,
        original_id=ids.text(owed.queue_id),
        original_parameters=owed.envelope.parameters,
        arrival=owed.arrival / 1e6,
        original=owed.content,
        whole=owed.whole,
    )
    covered = covers(ids.text(owed.queue_id), owed.ordinals)
    parameters = covered + _like(owed.envelope.parameters)
    return _message(queue_id, now, owed.envelope.sender, content, parameters, Flag.REPORT)


def relayed_message(
    claim: Delivery,
    load: Load,
    outcomes: Mapping[int, Outcome],
    *,
    queue_id: bytes,
    now: float,
    hostname: str,
) -> Message:
    """Return a "relayed" report's message (RFC 3461 §5.2.2) for recipients that `prepare.relayed` named.

    `outcomes` are theirs, by ordinal, of one transaction, and their `D`s are durable; `queue_id` is the
    report's and `now` seconds since the epoch. It covers no failure, so it is ordinary mail to the queue.
    """
    fates = []
    for ordinal, outcome in outcomes.items():
        recipient = load.recipients[ordinal]
        fates.append(Fate(recipient.address, recipient.parameters, outcome.reply, outcome.host, now))
    content = dsn.report(
        fates,
        action=Action.RELAYED,
        hostname=hostname,
        report_id=ids.text(queue_id),
        now=now,
        sender=load.sender,
        original_id=ids.text(claim.queue_id),
        original_parameters=load.parameters,
        arrival=claim.arrival / 1e6,
        original=load.content,
    )
    return _message(queue_id, now, load.sender, content, _like(load.parameters), Flag.NONE)


def _like(parameters: bytes) -> bytes:
    """Return what makes a report as urgent and as safe as the mail it is about, each behind a space."""
    found = [(keyword, parameter(parameters, keyword)) for keyword in (b"TENANT", b"MT-PRIORITY")]
    kept = b"".join([b" %b=%b" % (keyword, value) for keyword, value in found if value])
    if parameter(parameters, b"REQUIRETLS") is not None:
        # It has the header of mail that demanded it, and no more of it (RFC 8689 §5).
        kept += b" REQUIRETLS RET=HDRS"
    return kept


def _message(
    queue_id: bytes, now: float, to: bytes, content: bytes, parameters: bytes, flags: Flag
) -> Message:
    """Return a report's message: from the null reverse-path, and NOTIFY=NEVER (RFC 3461 §6.1)."""
    if not content.isascii():
        parameters += b" BODY=8BITMIME SMTPUTF8"
    envelope = Envelope(b"", (Recipient(to, b"NOTIFY=NEVER"),), parameters.lstrip(b" "))
    return Message(queue_id, int(now * 1e6), envelope, content, flags)
