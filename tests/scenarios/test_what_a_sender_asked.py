"""What a sender asked of reports, from MAIL and RCPT to the next server and back (RFC 3461, RFC 6710)."""

import contextlib
import email
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path

import pytest
from tests.support.client import TEXT, send
from tests.support.relay import RunningRelay, relay, via

from backstamp.sink.server import KEYWORDS, Options, Received, Sink
from backstamp.telemetry import events

ASKED = ("RET=full", "ENVID=Qq+2B1", "MT-PRIORITY=-3")


@contextlib.asynccontextmanager
async def pair(directory: Path, *keywords: str) -> AsyncIterator[tuple[RunningRelay, Sink, list[Received]]]:
    """Run a relay and the host it sends to, which offers these extensions too and knows no `no@y.test`."""
    taken: list[Received] = []
    options = Options(keywords=(*KEYWORDS, *keywords))
    async with (
        Sink(received=taken.append, options=options) as sink,
        relay(directory, routes=[via(sink.address)]) as running,
    ):
        sink.script.say("RCPT", 550, "5.1.1 no", address=b"no@y.test")
        yield running, sink, taken
        assert not running.events(events.Alarm)


def parts(message: Received) -> list[Message]:
    found = email.message_from_bytes(message.content).get_payload()
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, Message)]


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ((), b""),
        (("DSN",), b"RET=full ENVID=Qq+2B1"),
        (("MT-PRIORITY",), b"MT-PRIORITY=-3"),
        (("DSN", "MT-PRIORITY"), b"RET=full ENVID=Qq+2B1 MT-PRIORITY=-3"),
    ],
)
async def test_what_is_asked_of_the_message_reaches_who_understands_it(
    tmp_path: Path, keywords: tuple[str, ...], said: bytes
) -> None:
    async with pair(tmp_path, *keywords) as (running, _, taken):
        await send(running.address, ["a@y.test"], options=ASKED)
        await running.until_empty()
        [message] = taken
        rest = [one for one in message.parameters.split() if not one.startswith(b"SIZE=")]
        assert b" ".join(rest) == said


@pytest.mark.parametrize("notify", ["NOTIFY=NEVER", "NOTIFY=SUCCESS", "NOTIFY=SUCCESS,DELAY"])
async def test_who_does_not_want_to_know_of_a_failure_is_not_told(tmp_path: Path, notify: str) -> None:
    async with pair(tmp_path) as (running, _, taken):
        await send(running.address, ["no@y.test"], rcpt_options=[notify])
        await running.until(events.Bounced)
        await running.until_empty()
        [bounced] = running.events(events.Bounced)
        assert (bounced.report, bounced.recipients) == ("", ("no@y.test",))
        assert not taken


@pytest.mark.parametrize(
    ("options", "kind"), [(("RET=FULL",), "message/rfc822"), (("RET=HDRS",), "text/rfc822-headers")]
)
async def test_a_report_says_what_the_sender_will_know_it_by(
    tmp_path: Path, options: tuple[str, ...], kind: str
) -> None:
    wishes = ["NOTIFY=FAILURE", "ORCPT=rfc822;No+2Bbody@y.test"]
    async with pair(tmp_path, "DSN") as (running, _, taken):
        await send(running.address, ["no@y.test"], options=[*options, "ENVID=Qq+2B1"], rcpt_options=wishes)
        await running.until(events.Bounced)
        await running.until_empty()
        [report] = taken
        _, status, original = parts(report)
        fields = status.as_string()
        assert "Original-Envelope-Id: Qq+1\n" in fields
        assert "Original-Recipient: rfc822; No+body@y.test\n" in fields
        assert original.get_content_type() == kind
        assert (TEXT.rpartition(b"\r\n\r\n")[2] in report.content) is (kind == "message/rfc822")
