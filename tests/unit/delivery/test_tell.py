"""Telling: one event for each recipient an attempt left, with the class of its refusal."""

from types import SimpleNamespace
from typing import Any

from backstamp.delivery.settle import Settlement
from backstamp.delivery.tell import Teller
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.telemetry import events

CLAIM: Any = SimpleNamespace(queue_id=bytes(16), domain=b"b.example", attempts=0, arrival=0)
CLOCK: Any = SimpleNamespace(wall=lambda: 5.0, monotonic=lambda: 0.0)


def test_what_an_attempt_left_is_told_with_its_class() -> None:
    told: list[events.Event] = []
    teller = Teller(told.append, CLOCK, trace=False)
    failed = Outcome(Verdict.FAILED, Reply(550, "5.1.1 User unknown"), Scope.RECIPIENT, "mx.test")
    deferred = Outcome(Verdict.DEFERRED, Reply(451, "4.7.1 Greylisted"), Scope.RECIPIENT, "mx.test")
    recipients = {0: Recipient(b"a@b.example"), 1: Recipient(b"c@b.example")}
    teller.settled(CLAIM, recipients, Settlement({}, (), {0: failed}, {1: deferred}, 65.0), {0: 0.25})
    first, second = told
    assert isinstance(first, events.Failed)
    assert (first.recipient, first.bounce_class, first.duration) == ("a@b.example", "invalid-recipient", 0.25)
    assert isinstance(second, events.Deferred)
    assert (second.recipient, second.bounce_class, second.retry_at) == ("c@b.example", "greylist", 65.0)
