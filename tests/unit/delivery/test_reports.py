"""Reports: who is told of whom, what they cover, and that nobody ever reports on them."""

import asyncio
import email
from email.message import Message as Parsed
from typing import Any, cast

import msgspec
import pytest

from backstamp.delivery.reports import Reporter, compose, relayed_message, wanted
from backstamp.mail.envelope import Envelope, Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.port import Flag, Load, Message, Outlet, Owed, Reason
from backstamp.queue.record import covered
from backstamp.telemetry.events import Bounced, Event

NOW = 1_800_000_000.0
OLD = ids.make(1_799_000_000_000, bytes(10))
NEW = ids.make(1_800_000_000_000, bytes(10))
CONTENT = b"Subject: Hello\r\n\r\nbody\r\n"
NOTIFY = (b"", b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,DELAY", b"NOTIFY=failure ORCPT=rfc822;X+2By@x.test", b"")


def owed(*ordinals: int, sender: bytes = b"a@example.org", parameters: bytes = b"") -> Owed:
    recipients = tuple(Recipient(b"r%d@x.test" % number, one) for number, one in enumerate(NOTIFY))
    reason = Reason(ordinals, Reply(550, "5.1.1 unknown"), "mx.x.test", int(NOW * 1e6))
    envelope = Envelope(sender, recipients, parameters)
    return Owed(OLD, int(NOW * 1e6) - 5_000_000, envelope, ordinals, (reason,), CONTENT)


def told_of(message: Message) -> list[Parsed]:
    """Return the fields of each recipient a report tells of."""
    parts = cast("list[Parsed]", email.message_from_bytes(message.content).get_payload())
    groups = cast("list[Parsed]", parts[1].get_payload())
    return [group for group in groups if "Final-Recipient" in group]


@pytest.mark.parametrize(
    ("ordinals", "sender", "told"),
    [
        ((0, 1, 2, 3), b"a@example.org", (0, 3)),
        ((1, 2), b"a@example.org", ()),
        ((4,), b"a@example.org", (4,)),
        ((0, 3), b"", ()),
    ],
)
def test_rfc_3461_who_is_told_of_a_failure(
    ordinals: tuple[int, ...], sender: bytes, told: tuple[int, ...]
) -> None:
    assert wanted(owed(*ordinals, sender=sender)) == told


def test_a_report_tells_of_those_and_covers_all() -> None:
    """Q5: what a crash finds covered is closed, whether it was told or not."""
    message = compose(
        owed(0, 1, 3, parameters=b"ENVID=x"), queue_id=NEW, now=NOW, hostname="relay.example.org"
    )
    assert [group["Final-Recipient"] for group in told_of(message)] == [
        "rfc822; r0@x.test",
        "rfc822; r3@x.test",
    ]
    assert told_of(message)[1]["Original-Recipient"] == "rfc822; X+y@x.test"
    assert covered(message.envelope.parameters) == (ids.text(OLD), (0, 1, 3))
    assert message.flags is Flag.REPORT


def test_rfc_3464_nobody_reports_on_a_report() -> None:
    """It has the null reverse-path (§2), and says NOTIFY=NEVER where that is understood."""
    for message in (
        compose(owed(0), queue_id=NEW, now=NOW, hostname="relay.example.org"),
        relayed({1: took()}),
    ):
        assert message.envelope.sender == b""
        assert message.envelope.recipients == (Recipient(b"a@example.org", b"NOTIFY=NEVER"),)


def test_a_sender_beyond_ascii_is_sent_what_only_such_a_server_takes() -> None:
    sender = "алиса@example.org".encode()
    message = compose(owed(0, sender=sender), queue_id=NEW, now=NOW, hostname="relay.example.org")
    assert message.envelope.parameters.endswith(b" BODY=8BITMIME SMTPUTF8")
    assert relayed({1: took()}, sender=sender).envelope.parameters == b"BODY=8BITMIME SMTPUTF8"


def test_rfc_8689_a_report_goes_as_safely_as_its_mail() -> None:
    """RFC 8689: a report keeps REQUIRETLS, and has RET=HDRS."""
    debt = owed(0, parameters=b"RET=FULL REQUIRETLS TENANT=shop")
    said = compose(debt, queue_id=bytes(16), now=NOW, hostname="r.example").envelope.parameters
    assert said.endswith(b" TENANT=shop REQUIRETLS RET=HDRS")


def test_rfc_3461_a_header_alone_is_never_called_the_whole_mail() -> None:
    """Of a large content the queue gives only the header, and RET=FULL asks for more."""
    debt = msgspec.structs.replace(owed(0, parameters=b"RET=FULL"), content=b"Subject: large", whole=False)
    content = compose(debt, queue_id=NEW, now=NOW, hostname="relay.example.org").content
    parts = cast("list[Parsed]", email.message_from_bytes(content).get_payload())
    assert parts[2].get_content_type() == "text/rfc822-headers"
    assert "The header of your message is attached." in parts[0].get_payload()


def test_rfc_6710_a_report_is_as_urgent_as_its_mail_and_of_its_tenant() -> None:
    """RFC 6710."""
    said = b"TENANT=shop MT-PRIORITY=-4"
    failed = compose(
        owed(0, parameters=b"RET=HDRS " + said), queue_id=NEW, now=NOW, hostname="relay.example.org"
    )
    assert failed.envelope.parameters == b"REPORTS=%b:0 " % ids.text(OLD).encode() + said
    assert relayed({1: took()}, parameters=b"MT-PRIORITY=2").envelope.parameters == b"MT-PRIORITY=2"


class Claimed:
    """A claim of which only the facts are there."""

    queue_id = OLD
    domain = b"x.test"
    arrival = int(NOW * 1e6) - 5_000_000
    attempts = 0
    size = len(CONTENT)


def took(text: str = "2.0.0 Ok") -> Outcome:
    return Outcome(Verdict.DELIVERED, Reply(250, text), Scope.MESSAGE, "mx.x.test[192.0.2.1]:25")


def relayed(
    outcomes: dict[int, Outcome],
    sender: bytes = b"a@example.org",
    parameters: bytes = b"RET=FULL ENVID=Qq+2B1",
) -> Message:
    recipients = {ordinal: Recipient(b"r%d@x.test" % ordinal, b"NOTIFY=SUCCESS") for ordinal in range(4)}
    load = Load(sender, parameters, recipients, CONTENT)
    return relayed_message(Claimed(), load, outcomes, queue_id=NEW, now=NOW, hostname="relay.example.org")


def test_rfc_3461_a_relayed_report_tells_of_one_transaction() -> None:
    """Nothing of the queue's failures is closed by it (Q5)."""
    message = relayed({1: took("2.0.0 one"), 3: took("2.0.0 three")})
    assert [(group["Final-Recipient"], group["Action"], group["Status"]) for group in told_of(message)] == [
        ("rfc822; r1@x.test", "relayed", "2.1.9"),
        ("rfc822; r3@x.test", "relayed", "2.1.9"),
    ]
    assert [group["Diagnostic-Code"] for group in told_of(message)] == [
        "smtp; 250 2.0.0 one",
        "smtp; 250 2.0.0 three",
    ]
    assert b"\r\nOriginal-Envelope-Id: Qq+1\r\n" in message.content
    assert (message.queue_id, message.arrival, message.flags) == (NEW, int(NOW * 1e6), Flag.NONE)
    assert message.envelope.parameters == b""


class Debts:
    """A queue that owes these reports, and then nothing any more."""

    def __init__(self, *debts: Owed) -> None:
        self._debts = [*debts]
        self.reports: list[Message | None] = []

    async def claim_report(self) -> Owed:
        if not self._debts:
            raise asyncio.CancelledError
        return self._debts.pop(0)

    async def report(self, owed: Owed, dsn: Message | None) -> None:
        self.reports.append(dsn)


class Noon:
    """A clock that stands."""

    def wall(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("debt", "reported", "closed"),
    [
        (owed(0, 3), True, [(True, ("r0@x.test", "r3@x.test"))]),
        (owed(0, 1, 2, 3), True, [(True, ("r0@x.test", "r3@x.test")), (False, ("r1@x.test", "r2@x.test"))]),
        (owed(1, 2), False, [(False, ("r1@x.test", "r2@x.test"))]),
        (owed(0, 3, sender=b""), False, [(False, ("r0@x.test", "r3@x.test"))]),
    ],
)
async def test_everybody_is_closed_and_the_events_say_how(
    debt: Owed, reported: bool, closed: list[tuple[bool, tuple[str, ...]]]
) -> None:
    """Promise 3: who is not told of is closed too, as an event with no report."""
    queue, events = Debts(debt), list[Event]()
    reporter = Reporter(
        cast(Outlet, queue),
        hostname="relay.example.org",
        clock=cast(Any, Noon()),
        entropy=bytes,
        emit=events.append,
    )
    with pytest.raises(asyncio.CancelledError):
        await reporter.run()
    assert [report is not None for report in queue.reports] == [reported]
    assert [(bool(one.report), one.recipients) for one in events if isinstance(one, Bounced)] == closed
    assert len(events) == len(closed)
