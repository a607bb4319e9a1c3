"""What delivery tells the world: one event a recipient, made when it is true and durable."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from backstamp.clock import Clock
from backstamp.delivery.judge import doubtful
from backstamp.delivery.settle import Settlement
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.policy import bounce
from backstamp.queue import ids
from backstamp.telemetry import events
from backstamp.text import printable


class Mail(Protocol):
    """What is told of: a delivery, or several of one message that go together."""

    @property
    def queue_id(self) -> bytes:
        """The message's id."""
        ...

    @property
    def arrival(self) -> int:
        """Microseconds since the epoch."""
        ...

    @property
    def domain(self) -> bytes:
        """A destination domain of it."""
        ...

    @property
    def attempts(self) -> int:
        """Attempts this process has ended."""
        ...


class Teller:
    """Makes delivery's events."""

    def __init__(self, emit: Callable[[events.Event], None], clock: Clock, *, trace: bool) -> None:
        self._emit = emit
        self._clock = clock
        self._trace = trace
        """Whether the begin of each transaction is told."""

    def attempt(self, claim: Mail, recipients: int, host: str) -> None:
        """A transaction begins."""
        if self._trace:
            self._emit(
                events.Attempt(
                    time=self._now(),
                    queue_id=ids.text(claim.queue_id),
                    domain=text(claim.domain),
                    recipients=recipients,
                    mx=host,
                    attempt=claim.attempts + 1,
                )
            )

    def delivered(
        self,
        claim: Mail,
        recipients: Mapping[int, Recipient],
        outcomes: Mapping[int, Outcome],
        duration: float,
        tls: str,
        release: float = 0.0,
    ) -> None:
        """Those whom a transaction delivered are durably stamped; `tls` is empty in clear text.

        What a sender wanted to wait until `release` (seconds since the epoch) was no delay until then.
        """
        now = self._now()
        queue_id = ids.text(claim.queue_id)
        delay = (now - claim.arrival) / 1e6
        if release:
            delay = min(delay, max(0.0, now / 1e6 - release))
        last, reply = None, ""
        for ordinal, outcome in outcomes.items():
            if outcome.verdict is Verdict.DELIVERED:
                if outcome is not last:
                    # One reply is for all of them, mostly.
                    last, reply = outcome, printable(str(outcome.reply))
                self._emit(
                    events.Delivered(
                        time=now,
                        queue_id=queue_id,
                        recipient=text(recipients[ordinal].address),
                        reply=reply,
                        mx=outcome.host,
                        duration=duration,
                        delay=delay,
                        tls=tls,
                    )
                )

    def in_doubt(
        self, claim: Mail, recipients: Mapping[int, Recipient], outcomes: Mapping[int, Outcome]
    ) -> None:
        """The final dot of a transaction is out and no reply came."""
        for ordinal, outcome in outcomes.items():
            if doubtful(outcome):
                self._emit(
                    events.InDoubt(
                        time=self._now(),
                        queue_id=ids.text(claim.queue_id),
                        recipient=text(recipients[ordinal].address),
                        mx=outcome.host,
                        reply=printable(str(outcome.reply)),
                    )
                )

    def held(self, claim: Mail, recipients: Mapping[int, Recipient], outcomes: Mapping[int, Outcome]) -> None:
        """At-most-once mail is in doubt, and waits for a decision."""
        for ordinal, outcome in outcomes.items():
            self._emit(
                events.Held(
                    time=self._now(),
                    queue_id=ids.text(claim.queue_id),
                    recipient=text(recipients[ordinal].address),
                    mx=outcome.host,
                    reply=printable(str(outcome.reply)),
                )
            )

    def settled(
        self,
        claim: Mail,
        recipients: Mapping[int, Recipient],
        settlement: Settlement,
        durations: Mapping[int, float],
    ) -> None:
        """Who failed is durably stamped, who is deferred has a time."""

        def fields(ordinal: int, outcome: Outcome) -> dict[str, Any]:
            return {
                "time": self._now(),
                "queue_id": ids.text(claim.queue_id),
                "recipient": text(recipients[ordinal].address),
                "reply": printable(str(outcome.reply)),
                "mx": outcome.host,
                "duration": durations.get(ordinal, 0.0),
                "scope": outcome.scope.name.lower(),
                "bounce_class": bounce.of(outcome).value,
            }

        for ordinal, outcome in settlement.failed.items():
            self._emit(events.Failed(**fields(ordinal, outcome)))
        for ordinal, outcome in settlement.deferred.items():
            self._emit(events.Deferred(**fields(ordinal, outcome), retry_at=settlement.retry_at))

    def host_down(self, outcome: Outcome) -> None:
        """A host gave no session, and is left alone for a while."""
        self._emit(events.HostDown(time=self._now(), mx=outcome.host, reply=printable(str(outcome.reply))))

    def host_up(self, host: str, duration: float) -> None:
        """A host that gave none gives sessions again."""
        self._emit(events.HostUp(time=self._now(), mx=host, duration=duration))

    def throttled(self, destination: str, change: str, why: str, seconds: float) -> None:
        """A destination taught how it wants to be treated; 0 seconds: until it teaches otherwise."""
        self._emit(
            events.Throttled(
                time=self._now(),
                destination=destination,
                change=change,
                why=printable(why),
                seconds=seconds,
            )
        )

    def tls_failed(self, host: str, why: str) -> None:
        """A host's TLS does not work; its mail goes in clear text, since nothing demands TLS."""
        self._emit(events.TlsFailed(time=self._now(), mx=host, reply=printable(why)))

    def alarm(self, queue_id: bytes, problem: str, action: str) -> None:
        """Something an operator must see."""
        self._emit(
            events.Alarm(time=self._now(), problem=problem, action=action, queue_id=ids.text(queue_id))
        )

    def _now(self) -> int:
        return int(self._clock.wall() * 1e6)


def text(address: bytes) -> str:
    """Return an address or domain as text for events; what is no UTF-8 is shown as such."""
    return address.decode("utf-8", "backslashreplace")
