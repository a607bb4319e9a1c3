"""One smarthost that misbehaves, one sentence a test: what is sent again, what never is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.client import send
from tests.support.peer import ExactPeer, ExactSession
from tests.support.relay import RunningRelay, relay, via

from backstamp.policy.destination import DestinationPolicy, Timeouts
from backstamp.policy.retry import RetryPolicy
from backstamp.sink.server import KEYWORDS, Options, Received, Sink
from backstamp.telemetry import events

QUICK = Timeouts(connect=1, greeting=1, mail=1, rcpt=1, data=1, block=1, final=0.4, quit=0.5)


class Pair:
    """A relay and the one host it sends to."""

    def __init__(self, running: RunningRelay, sink: Sink, taken: list[Received]) -> None:
        self.running = running
        self.sink = sink
        self.script = sink.script
        self.taken = taken

    async def send(self, *recipients: str, **how: Any) -> None:
        await send(self.running.address, recipients or ("r@y.test",), **how)

    def told(self, kind: type[Any]) -> list[Any]:
        return self.running.events(kind)


@pytest.fixture
async def pair(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    settings = getattr(request, "param", {})
    taken: list[Received] = []
    options = Options(keywords=settings.pop("keywords", KEYWORDS))
    settings.setdefault("policy", DestinationPolicy(timeouts=QUICK))
    async with (
        Sink(received=taken.append, options=options) as sink,
        relay(tmp_path, routes=[via(sink.address)], **settings) as running,
    ):
        yield Pair(running, sink, taken)
        assert not running.events(events.Alarm)


def configured(**settings: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", [settings], indirect=True, ids=[""])


async def test_disconnect_before_the_final_dot_is_tried_again_and_comes_once(pair: Pair) -> None:
    pair.script.do("DATA", close=True, times=1)
    await pair.send()
    await pair.running.until_empty()
    assert len(pair.taken) == 1
    assert not pair.told(events.InDoubt)


async def test_disconnect_after_the_final_dot_is_in_doubt_and_tried_again(pair: Pair) -> None:
    pair.script.do("DOT", close=True, times=1)
    await pair.send()
    await pair.running.until_empty()
    [doubt] = pair.told(events.InDoubt)
    assert doubt.recipient == "r@y.test"
    [deferred] = pair.told(events.Deferred)
    assert deferred.scope == "message"
    assert len(pair.told(events.Delivered)) == 1


async def test_silence_after_the_final_dot_is_in_doubt(pair: Pair) -> None:
    pair.script.do("DOT", delay=30, times=1)
    await pair.send()
    await pair.running.until_empty()
    assert len(pair.told(events.InDoubt)) == 1


async def test_a_kept_connection_that_died_costs_no_attempt(pair: Pair) -> None:
    await pair.send()
    await pair.running.until(events.Delivered)
    for session in list(pair.sink.open):
        session.drop()
    await pair.send()
    await pair.running.until(events.Delivered, 2)
    assert not pair.told(events.Deferred)


async def test_connections_are_reused(pair: Pair) -> None:
    for _ in range(10):
        await pair.send()
    await pair.running.until(events.Delivered, 10)
    assert pair.sink.connections <= 2


@configured(policy=DestinationPolicy(messages_per_connection=3, timeouts=QUICK))
async def test_a_connection_is_left_after_so_many_messages(pair: Pair) -> None:
    for _ in range(7):
        await pair.send()
    await pair.running.until(events.Delivered, 7)
    assert max(message.connection for message in pair.taken) >= 3
    by_connection = [message.connection for message in pair.taken]
    assert max(by_connection.count(number) for number in by_connection) <= 3


@configured(policy=DestinationPolicy(connections=2, timeouts=QUICK))
async def test_a_lane_never_opens_more_connections_than_it_may(pair: Pair) -> None:
    pair.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.02)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(pair.send())
    await pair.running.until(events.Delivered, 20)
    assert pair.sink.connections == 2


@configured(policy=DestinationPolicy(recipients_per_transaction=100, timeouts=QUICK))
async def test_a_thousand_recipients_go_in_tens_of_a_hundred(pair: Pair) -> None:
    await pair.send(*(f"u{number}@y.test" for number in range(1000)))
    await pair.running.until(events.Delivered, 1000)
    assert [len(message.recipients) for message in pair.taken] == [100] * 10
    assert len({recipient for message in pair.taken for recipient in message.recipients}) == 1000


async def test_mixed_replies_are_each_recipients_own(pair: Pair) -> None:
    pair.script.say("RCPT", 550, "5.1.1 no", address=b"bad@y.test")
    pair.script.say("RCPT", 451, "4.2.0 later", address=b"slow@y.test", times=1)
    await pair.send("good@y.test", "bad@y.test", "slow@y.test")
    await pair.running.until(events.Bounced)
    await pair.running.until_empty()
    assert [event.recipient for event in pair.told(events.Failed)] == ["bad@y.test"]
    assert [event.recipient for event in pair.told(events.Deferred)] == ["slow@y.test"]
    got = [recipient for message in pair.taken for recipient in message.recipients]
    assert sorted(got) == [b"good@y.test", b"sender@origin.test", b"slow@y.test"]


async def test_a_250_before_the_end_of_a_content_is_no_delivery(tmp_path: Path) -> None:
    """Once it was told as one, at every try for ever, and the mail stayed in the queue."""

    async def play(session: ExactSession) -> None:
        await session.hear(3)
        session.stop_reading()
        await session.say(b"250 ok\r\n250 ok\r\n354 go on\r\n")
        await session.say(b"250 2.0.0 taken\r\n", alone=True)
        await session.count_rest()

    content = b"Subject: large\r\n\r\n" + b"x" * 16_000_000 + b"\r\n"
    async with (
        ExactPeer(play, window=4096) as peer,
        relay(tmp_path, routes=[via(peer.address)], policy=DestinationPolicy(timeouts=QUICK)) as running,
    ):
        await send(running.address, ["r@y.test"], content=content)
        await running.until(events.Deferred)
        assert not running.events(events.Delivered)
        assert not running.events(events.InDoubt)


async def test_421_at_the_greeting_is_deferred_as_the_hosts(pair: Pair) -> None:
    pair.script.say("CONNECT", 421, "4.3.2 busy", times=1)
    await pair.send()
    await pair.running.until_empty()
    [deferred] = pair.told(events.Deferred)
    assert (deferred.scope, deferred.reply) == ("host", "421 4.3.2 busy")


async def test_554_at_the_greeting_fails_nobody(pair: Pair) -> None:
    pair.script.say("CONNECT", 554, "5.3.2 no service", times=1)
    await pair.send()
    await pair.running.until_empty()
    assert not pair.told(events.Failed)
    assert len(pair.told(events.Delivered)) == 1


async def test_a_refused_sender_fails_the_message(pair: Pair) -> None:
    pair.script.say("MAIL", 550, "5.7.1 not you", times=1)
    await pair.send("a@y.test", "b@y.test")
    await pair.running.until(events.Bounced)
    assert {event.scope for event in pair.told(events.Failed)} == {"message"}
    [bounced] = pair.told(events.Bounced)
    assert bounced.recipients == ("a@y.test", "b@y.test")


async def test_a_lone_dot_stamps_nobody(pair: Pair) -> None:
    pair.script.say("RCPT", 450, "4.2.0 later", times=1)
    pair.script.say("DATA", 354, "go on", times=1)
    await pair.send()
    await pair.running.until(events.Deferred)
    assert not pair.told(events.Delivered)
    await pair.running.until_empty()
    assert len(pair.told(events.Delivered)) == 1


async def test_the_null_sender_gets_no_report(pair: Pair) -> None:
    """Security 12: mail from nobody that fails is told to nobody."""
    pair.script.say("RCPT", 550, "5.1.1 no")
    await pair.send(sender="")
    await pair.running.until(events.Bounced)
    await pair.running.until_empty()
    [bounced] = pair.told(events.Bounced)
    assert (bounced.report, bounced.recipients) == ("", ("r@y.test",))
    assert not pair.taken


async def test_a_report_that_fails_is_not_reported(pair: Pair) -> None:
    """Security 12, RFC 3834: no report on a report."""
    pair.script.say("RCPT", 550, "5.1.1 no")
    await pair.send()
    await pair.running.until(events.Bounced, 2)
    await pair.running.until_empty()
    first, second = pair.told(events.Bounced)
    assert first.report
    assert (second.queue_id, second.report) == (first.report, "")
    assert not pair.taken


@configured(retry=RetryPolicy(schedule=(0.1, 0.2), lifetime=0.3), policy=DestinationPolicy(timeouts=QUICK))
async def test_a_lifetime_ends_with_a_report_that_tells_the_last_reply(pair: Pair) -> None:
    pair.script.say("RCPT", 450, "4.2.1 mailbox busy", address=b"r@y.test")
    await pair.send()
    await pair.running.until(events.Bounced)
    await pair.running.until_empty()
    [failed] = pair.told(events.Failed)
    assert failed.reply.startswith(
        "554 5.4.7 delivery time expired; the last answer was: 450 4.2.1 mailbox busy"
    )
    [report] = pair.taken
    assert b"Status: 5.4.7" in report.content


@configured(keywords=tuple(word for word in KEYWORDS if word != "SMTPUTF8"))
async def test_internationalized_mail_goes_only_to_who_takes_it(pair: Pair) -> None:
    await pair.send("用户@y.test", "plain@y.test", options=["SMTPUTF8"])
    await pair.running.until(events.Bounced)
    [failed] = pair.told(events.Failed)
    assert failed.reply.startswith("553 5.6.7")
    assert [event.recipient for event in pair.told(events.Delivered)][:1] == ["plain@y.test"]


@configured(keywords=tuple(word for word in KEYWORDS if word != "SMTPUTF8"))
async def test_a_declaration_alone_needs_no_smtputf8(pair: Pair) -> None:
    await pair.send("plain@y.test", options=["SMTPUTF8"])
    await pair.running.until(events.Delivered)
    assert b"SMTPUTF8" not in pair.taken[0].parameters


@configured(keywords=tuple(word for word in KEYWORDS if word != "8BITMIME"))
async def test_8_bit_content_is_never_sent_to_who_does_not_take_it(pair: Pair) -> None:
    """Security 16, RFC 6152: it comes back with 5.6.3; nothing is converted, so nothing grows."""
    await pair.send(content="Subject: x\r\n\r\ngrüße\r\n".encode(), options=["BODY=8BITMIME"])
    await pair.running.until(events.Bounced)
    assert pair.told(events.Failed)[0].reply.startswith("554 5.6.3")
    assert all(message.content.isascii() for message in pair.taken)


@configured(keywords=("PIPELINING", "SIZE 1000"))
async def test_a_message_too_big_for_the_peer_is_not_sent(pair: Pair) -> None:
    await pair.send(content=b"Subject: x\r\n\r\n" + b"x" * 900 + b"\r\n" + b"y" * 900 + b"\r\n")
    await pair.running.until(events.Failed)
    assert pair.told(events.Failed)[0].reply.startswith("552 5.3.4")
    assert not pair.taken


async def test_what_waits_at_a_stop_is_delivered_after_the_next_start(tmp_path: Path) -> None:
    taken: list[Received] = []
    async with Sink(received=taken.append) as sink:
        sink.script.say("RCPT", 450, "4.2.0 later", times=1)
        async with relay(tmp_path, routes=[via(sink.address)], retry=RetryPolicy((30.0,), 300.0)) as running:
            await send(running.address, ["r@y.test"])
            await running.until(events.Deferred)
        assert not taken
        async with relay(tmp_path, routes=[via(sink.address)], retry=RetryPolicy((30.0,), 300.0)) as running:
            await running.until(events.Delivered)
        [stopped] = running.events(events.Stopped)
        assert stopped.waiting == 0
    assert len(taken) == 1


async def test_a_stop_lets_a_transaction_past_the_dot_read_its_reply(tmp_path: Path) -> None:
    async with Sink() as sink:
        sink.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.5)
        async with relay(tmp_path, routes=[via(sink.address)]) as running:
            await send(running.address, ["r@y.test"])
            await running.until(events.Attempt)
            await asyncio.sleep(0.1)
        assert len(running.events(events.Delivered)) == 1
        assert running.events(events.Stopped)[0].waiting == 0


def test_the_policy_is_what_is_said() -> None:
    """RFC 5321 section 4.5.3.2's minimum waits are the defaults."""
    waits = msgspec.structs.asdict(Timeouts())
    assert (waits["greeting"], waits["mail"], waits["rcpt"], waits["data"]) == (300, 300, 300, 120)
    assert (waits["block"], waits["final"]) == (180, 600)
