"""A large message to four domains: a dead first MX, a greylisting one, a refusing one, a null MX.

It arrives octet for octet (below our Received line) where it is taken, is retried on
schedule, and its sender gets exactly one report that names the two who failed.
"""

import email
import email.policy
import random
import smtplib
from collections.abc import Callable
from pathlib import Path

from tests.support.dns import DnsServer
from tests.support.relay import FAST, relay

from backstamp.sink.server import Received, Sink
from backstamp.telemetry import events

SENDER = "sender@origin.test"


def large_message() -> bytes:
    """Return 3 MB: attachments, 8-bit text, lines that begin with dots, a lone dot, an empty end."""
    chance = random.Random(3)
    attachment = "\r\n".join(
        "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=76))
        for _ in range(38_000)
    )
    return (
        f"From: {SENDER}\r\nTo: everybody\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Grüße aus Köln, 你好\r\n.\r\n..\r\n.dots\r\n...\r\n\r\n.\r\n"
        "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"{attachment}\r\n--b--\r\n\r\n"
    ).encode()


def keep(messages: list[Received]) -> Callable[[Received], None]:
    return messages.append


async def test_one_message_to_four_domains(tmp_path: Path) -> None:
    sent = large_message()
    assert len(sent) > 2_900_000
    taken: dict[str, list[Received]] = {name: [] for name in ("live", "grey", "refusing", "origin")}
    async with (
        Sink("127.0.0.2", received=keep(taken["live"])) as live,
        Sink("127.0.0.3", live.address[1], received=keep(taken["grey"])) as grey,
        Sink("127.0.0.4", live.address[1], received=keep(taken["refusing"])) as refusing,
        Sink("127.0.0.5", live.address[1], received=keep(taken["origin"])) as origin,
        DnsServer(
            {
                "dead-first.test": {"MX": ["10 dead.test.", "20 live.test."]},
                "dead.test": {"A": ["127.0.0.9"]},
                "live.test": {"A": [live.address[0]]},
                "grey.test": {"MX": ["10 mx.grey.test."]},
                "mx.grey.test": {"A": [grey.address[0]]},
                "refusing.test": {"MX": ["10 mx.refusing.test."]},
                "mx.refusing.test": {"A": [refusing.address[0]]},
                "null.test": {"MX": ["0 ."]},
                "origin.test": {"MX": ["10 mx.origin.test."]},
                "mx.origin.test": {"A": [origin.address[0]]},
            }
        ) as names,
        relay(tmp_path, nameservers=[names.address], port=live.address[1]) as running,
    ):
        grey.script.say("RCPT", 450, "4.2.0 Greylisted, come back", times=1)
        refusing.script.say("RCPT", 550, "5.1.1 No such user", address=b"nobody@refusing.test")
        recipients = [
            "a@dead-first.test",
            "b@grey.test",
            "nobody@refusing.test",
            "c@refusing.test",
            "d@null.test",
        ]
        await send(running.address, SENDER, recipients, sent)
        await running.until(events.Bounced)
        await running.until_empty()

    for name, who in (
        ("live", [b"a@dead-first.test"]),
        ("grey", [b"b@grey.test"]),
        ("refusing", [b"c@refusing.test"]),
    ):
        [message] = taken[name]
        assert message.recipients == who
        assert message.sender == SENDER.encode()
        assert below_received(message.content) == sent
        assert b"BODY=8BITMIME" in message.parameters
    delivered = {event.recipient: event for event in running.events(events.Delivered)}
    assert delivered["a@dead-first.test"].mx.startswith("live.test[")

    [deferred] = running.events(events.Deferred)
    assert (deferred.recipient, deferred.scope) == ("b@grey.test", "recipient")
    waited = deferred.retry_at - deferred.time / 1e6
    assert FAST.schedule[0] * 0.99 <= waited <= FAST.schedule[0] * 1.11
    assert delivered["b@grey.test"].time / 1e6 >= deferred.retry_at

    [bounced] = running.events(events.Bounced)
    assert set(bounced.recipients) == {"nobody@refusing.test", "d@null.test"}
    [report] = taken["origin"]
    assert (report.sender, report.recipients) == (b"", [SENDER.encode()])
    check_report(report.content)
    assert not running.events(events.Alarm)
    assert running.relay.queue.ledger.waiting == 0


async def send(address: tuple[str, int], sender: str, recipients: list[str], content: bytes) -> None:
    import asyncio

    def run() -> None:
        with smtplib.SMTP(*address, timeout=20) as client:
            client.ehlo("client.test")
            refused = client.sendmail(sender, recipients, content, mail_options=["BODY=8BITMIME"])
            assert not refused

    await asyncio.to_thread(run)


def below_received(content: bytes) -> bytes:
    """Return what stands below the one Received field the relay put on top."""
    field, separator, rest = content.partition(b"+0000\r\n")
    assert field.startswith(
        b"Received: from client.test ([127.0.0.1])\r\n\tby relay.example.org with ESMTP id "
    )
    assert field.count(b"\r\n") == 2
    assert separator
    return rest


def check_report(content: bytes) -> None:
    """Check the report as a mail program would read it."""
    message = email.message_from_bytes(
        content.partition(b"+0000\r\n")[2] if content.startswith(b"Received") else content,
        policy=email.policy.default,
    )
    assert message.get_content_type() == "multipart/report"
    words, status, header = message.iter_parts()
    assert "nobody@refusing.test" in words.get_content()
    blocks = status.get_payload()
    failed = {block["Final-Recipient"].partition("; ")[2]: block for block in blocks[1:]}
    assert set(failed) == {"nobody@refusing.test", "d@null.test"}
    assert {block["Action"] for block in failed.values()} == {"failed"}
    assert failed["nobody@refusing.test"]["Status"] == "5.1.1"
    assert failed["d@null.test"]["Status"] == "5.1.10"
    assert "Gr=C3=BC=C3=9Fe" in header.get_payload()
    assert message["Auto-Submitted"] == "auto-replied"
