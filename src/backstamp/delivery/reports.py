"""Reports: one message to the sender for every failure known when it is due (Q5, RFC 3464).

The queue says when a report is due and guards that it is made once; here it is written.
Mail with the null reverse-path gets none, and a report is such mail itself, so that no
error is ever sent for an error (RFC 5321 §4.5.5).
"""

from collections.abc import Callable

from backstamp.clock import Clock
from backstamp.delivery.tell import text
from backstamp.mail import dsn
from backstamp.mail.envelope import Envelope, Recipient
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.port import Flag, Message, Outlet, Owed, QueueRefusedError, StampNotDurableError
from backstamp.queue.record import covers
from backstamp.telemetry.events import Alarm, Bounced, Event

UNKNOWN = Reply(554, "5.0.0 the reason was lost")


class Reporter:
    """Writes the reports the queue asks for."""

    def __init__(
        self,
        queue: Outlet,
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
        if owed.envelope.sender:
            queue_id = ids.make(int(now * 1000), self._entropy(10))
            report = compose(owed, queue_id=queue_id, now=now, hostname=self._hostname)
        await self._queue.report(owed, report)
        self._emit(
            Bounced(
                time=int(self._clock.wall() * 1e6),
                queue_id=ids.text(owed.queue_id),
                report=ids.text(report.queue_id) if report is not None else "",
                sender=text(owed.envelope.sender),
                recipients=tuple(text(owed.envelope.recipients[o].address) for o in owed.ordinals),
            )
        )

    def _alarm(self, owed: Owed, problem: str, action: str) -> None:
        now = int(self._clock.wall() * 1e6)
        self._emit(Alarm(time=now, problem=problem, action=action, queue_id=ids.text(owed.queue_id)))


def compose(owed: Owed, *, queue_id: bytes, now: float, hostname: str) -> Message:
    """Return the report's message: to the sender, from the null reverse-path, naming what it covers."""
    why = {ordinal: reason for reason in owed.reasons for ordinal in reason.ordinals}
    failures = []
    for ordinal in owed.ordinals:
        recipient = owed.envelope.recipients[ordinal]
        reason = why.get(ordinal)
        failures.append(
            dsn.Failure(
                recipient.address,
                recipient.parameters,
                reason.reply if reason is not None else UNKNOWN,
                reason.host if reason is not None else "",
                reason.time / 1e6 if reason is not None else now,
            )
        )
    content = dsn.report(
        failures,
        hostname=hostname,
        report_id=ids.text(queue_id),
        now=now,
        sender=owed.envelope.sender,
        original_id=ids.text(owed.queue_id),
        original_parameters=owed.envelope.parameters,
        arrival=owed.arrival / 1e6,
        original=owed.content,
    )
    parameters = covers(ids.text(owed.queue_id), owed.ordinals)
    if not content.isascii():
        parameters += b" BODY=8BITMIME SMTPUTF8"
    envelope = Envelope(b"", (Recipient(owed.envelope.sender),), parameters)
    return Message(queue_id, int(now * 1e6), envelope, content, Flag.REPORT)
