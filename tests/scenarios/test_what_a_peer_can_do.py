"""What a host understands is asked of it octet for octet; what it does not take is refused, never changed."""

import email
from pathlib import Path

import pytest
from tests.support.client import send
from tests.support.operator import Host, configured, to

from backstamp.sink.server import Received, keywords
from backstamp.telemetry import events

WISHES = ["NOTIFY=SUCCESS,Failure", "ORCPT=rfc822;Bob+2B+3D@Old.Example"]
GRUESSE = "Subject: x\r\n\r\nGrüße\r\n".encode()


def fields(report: Received) -> list[str]:
    """Return the lines of a report's delivery-status part."""
    for part in email.message_from_bytes(report.content).walk():
        if part.get_content_type() in {"message/delivery-status", "message/global-delivery-status"}:
            return part.as_string().splitlines()
    raise AssertionError("no report")


async def test_a_host_with_dsn_is_told_what_the_sender_asked_octet_for_octet(tmp_path: Path) -> None:
    """RFC 3461."""
    async with Host(keywords=keywords("DSN")) as host, configured(tmp_path, to(host)) as running:
        options = ["RET=hdrs", "ENVID=QQ+2B314+3Dx"]
        await send(running.address, ["bob@y.test"], options=options, rcpt_options=WISHES)
        await running.until(events.Delivered)
        await running.until_empty()
        [message] = host.taken
        asked = [one for one in message.parameters.split() if not one.startswith(b"SIZE=")]
        assert asked == [b"RET=hdrs", b"ENVID=QQ+2B314+3Dx"]
        assert message.recipient_parameters == [b"NOTIFY=SUCCESS,Failure ORCPT=rfc822;Bob+2B+3D@Old.Example"]


async def test_nothing_is_asked_that_the_sender_did_not_ask(tmp_path: Path) -> None:
    async with (
        Host(keywords=keywords("DSN", "MT-PRIORITY")) as host,
        configured(tmp_path, to(host)) as running,
    ):
        await send(running.address, ["bob@y.test"])
        await running.until(events.Delivered)
        [message] = host.taken
        assert message.parameters.startswith(b"SIZE=")
        assert b" " not in message.parameters
        assert message.recipient_parameters == [b""]


async def test_without_dsn_who_asked_for_success_is_told_it_was_relayed(tmp_path: Path) -> None:
    """RFC 3461."""
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["bob@y.test"], options=["ENVID=QQ+2B314"], rcpt_options=WISHES)
        await running.until(events.Delivered, 2)
        message, report = host.taken
        assert (message.parameters.partition(b" ")[2], message.recipient_parameters) == (b"", [b""])
        assert (report.sender, report.recipients) == (b"", [b"sender@origin.test"])
        lines = fields(report)
        assert "Original-Envelope-Id: QQ+314" in lines
        assert "Original-Recipient: rfc822; Bob+=@Old.Example" in lines
        assert "Action: relayed" in lines
        assert [line for line in lines if line.startswith("Status:")] == ["Status: 2.1.9"]


@pytest.mark.parametrize("wish", ["NOTIFY=NEVER", "NOTIFY=FAILURE", "NOTIFY=DELAY", ""])
async def test_without_dsn_nobody_else_is_told(tmp_path: Path, wish: str) -> None:
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["bob@y.test"], rcpt_options=[wish] if wish else [])
        await running.until(events.Delivered)
        await running.until_empty()
        assert len(host.taken) == 1


@pytest.mark.parametrize(
    ("given", "said"), [("MT-PRIORITY=4", b"MT-PRIORITY=4"), ("MT-PRIORITY=-9", b"MT-PRIORITY=-9")]
)
@pytest.mark.parametrize("understood", [True, False])
async def test_a_priority_goes_on_to_who_understands_it(
    tmp_path: Path, given: str, said: bytes, understood: bool
) -> None:
    offers = keywords("MT-PRIORITY") if understood else keywords()
    async with Host(keywords=offers) as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["bob@y.test"], options=[given])
        await running.until(events.Delivered)
        assert (said in host.taken[0].parameters.split()) is understood
        assert (b"PRIORITY" in host.taken[0].parameters) is understood


async def test_8_bit_content_goes_as_such_to_who_takes_it(tmp_path: Path) -> None:
    """RFC 6152: with BODY=8BITMIME."""
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["bob@y.test"], content=GRUESSE, options=["BODY=8BITMIME"])
        await running.until(events.Delivered)
        assert b"BODY=8BITMIME" in host.taken[0].parameters.split()
        assert host.taken[0].content.endswith(GRUESSE)


async def test_8_bit_content_without_a_word_about_it_is_declared(tmp_path: Path) -> None:
    """A client that never said BODY sent it all the same; the next host is told the truth."""
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["bob@y.test"], content=GRUESSE)
        await running.until(events.Delivered)
        assert b"BODY=8BITMIME" in host.taken[0].parameters.split()


@pytest.mark.parametrize(
    ("without", "recipients", "how", "status"),
    [
        ("8BITMIME", ["a@y.test"], {"content": GRUESSE, "options": ["BODY=8BITMIME"]}, "5.6.3"),
        ("SMTPUTF8", ["bücher@y.test"], {"options": ["SMTPUTF8"]}, "5.6.7"),
        (
            "SMTPUTF8",
            ["a@y.test"],
            {"content": "Subject: Grüße\r\n\r\nx\r\n".encode(), "options": ["SMTPUTF8", "BODY=8BITMIME"]},
            "5.6.9",
        ),
    ],
)
async def test_what_a_host_does_not_take_fails_with_its_status_and_nothing_of_it_is_sent(
    tmp_path: Path, without: str, recipients: list[str], how: dict[str, object], status: str
) -> None:
    async with Host(keywords=keywords(without=(without,))) as host, configured(tmp_path, to(host)) as running:
        await send(running.address, recipients, **how)
        await running.until(events.Delivered)
        [failed] = running.events(events.Failed)
        assert failed.reply.split()[1] == status
        [report] = host.taken
        assert report.recipients == [b"sender@origin.test"]
        assert f"Status: {status}" in fields(report)
        assert len(host.lines(b"MAIL")) == 1


async def test_who_needs_no_smtputf8_does_not_suffer_for_who_does(tmp_path: Path) -> None:
    async with (
        Host(keywords=keywords(without=("SMTPUTF8",))) as host,
        configured(tmp_path, to(host)) as running,
    ):
        await send(running.address, ["bücher@y.test", "plain@y.test"], options=["SMTPUTF8"])
        await running.until(events.Delivered, 2)
        assert [event.recipient for event in running.events(events.Failed)] == ["bücher@y.test"]
        assert [b"plain@y.test"] in [message.recipients for message in host.taken]


async def test_what_is_larger_than_a_host_takes_is_not_sent(tmp_path: Path) -> None:
    offers = (*keywords(without=("SIZE",)), "SIZE 5000")
    async with Host(keywords=offers) as host, configured(tmp_path, to(host)) as running:
        content = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n"
        await send(running.address, ["a@y.test"], content=content + (b"y" * 70 + b"\r\n") * 100)
        await running.until(events.Delivered)
        [failed] = running.events(events.Failed)
        assert failed.reply.startswith("552 5.3.4")
        assert [message.recipients for message in host.taken] == [[b"sender@origin.test"]]
        await send(running.address, ["b@y.test"], content=content)
        await running.until(events.Delivered, 2)


async def test_size_0_is_no_limit(tmp_path: Path) -> None:
    """RFC 1870."""
    offers = (*keywords(without=("SIZE",)), "SIZE 0")
    async with Host(keywords=offers) as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["a@y.test"])
        await running.until(events.Delivered)
        [said] = [one for one in host.taken[0].parameters.split() if one.startswith(b"SIZE=")]
        assert int(said[5:]) == len(host.taken[0].content)
