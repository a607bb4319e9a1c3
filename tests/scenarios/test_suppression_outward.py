"""Who bounced is not sent to again: learned from real replies, kept, and in the hands of the operator."""

import asyncio
import json
import smtplib
import sys
from pathlib import Path

import pytest
from tests.support.client import TEXT, send
from tests.support.operator import Host, configured, to, written
from tests.support.relay import RunningRelay

from backstamp.telemetry import events

LEARN = '[suppression]\nenabled = true\nat = "{}"\n'


async def refused(address: tuple[str, int], *recipients: str) -> dict[str, tuple[int, bytes]]:
    """Send a message; return who was refused at RCPT."""

    def run() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(*address, timeout=20) as client:
            try:
                return client.sendmail("sender@origin.test", list(recipients), TEXT)
            except smtplib.SMTPRecipientsRefused as error:
                return error.recipients

    return await asyncio.to_thread(run)


async def bounced_twice(running: RunningRelay, recipient: str) -> None:
    """Let a recipient bounce twice, and wait until the list knows."""
    for count in (1, 2):
        await send(running.address, [recipient])
        await running.until(events.Failed, count)
    await running.until(events.Suppressed)


async def test_after_two_hard_bounces_the_third_message_is_refused(tmp_path: Path) -> None:
    async with Host() as host:
        host.script.say("RCPT", 550, "5.1.1 No such user", address=b"gone@y.test")
        async with configured(tmp_path, to(host) + LEARN.format("accept")) as running:
            await bounced_twice(running, "gone@y.test")
            [told] = running.events(events.Suppressed)
            assert (told.recipient, told.bounce_class) == ("gone@y.test", "invalid-recipient")
            found = await refused(running.address, "Gone@Y.test", "here@y.test")
            text = b"5.7.1 Recipient is on the suppression list: invalid-recipient"
            assert found == {"Gone@Y.test": (550, text)}
            # Another sender's list is its own.
            await send(running.address, ["gone@y.test"], sender="other@else.test")
            await running.until(events.Failed, 3)
        async with configured(tmp_path, to(host) + LEARN.format("accept")) as running:
            assert list(await refused(running.address, "gone@y.test")) == ["gone@y.test"]
        assert len(host.lines(b"RCPT TO:<gone@y.test>")) == 3


async def test_at_send_the_third_is_taken_and_fails_without_a_word_to_the_host(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host) + LEARN.format("send")) as running:
        host.script.say("RCPT", 550, "5.1.1 No such user", address=b"gone@y.test")
        await bounced_twice(running, "gone@y.test")
        await send(running.address, ["gone@y.test", "here@y.test"])
        await running.until(events.Failed, 3)
        await running.until_empty()
        third = running.events(events.Failed)[2]
        assert (third.bounce_class, third.mx) == ("suppressed", "")
        assert third.reply.startswith("550 5.7.1")
        assert len(host.lines(b"RCPT TO:<gone@y.test>")) == 2
        assert [b"here@y.test"] in [message.recipients for message in host.taken]
        # The failure of who was not sent to is no bounce to learn from.
        assert len(running.events(events.Suppressed)) == 1


@pytest.mark.parametrize("answer", ["550 5.7.1 Blocked as spam", "552 5.2.2 Mailbox full", "451 4.1.1 later"])
async def test_what_is_no_hard_bounce_of_the_address_suppresses_nobody(tmp_path: Path, answer: str) -> None:
    async with Host() as host, configured(tmp_path, to(host) + LEARN.format("send")) as running:
        code, _, text = answer.partition(" ")
        host.script.say("RCPT", int(code), text, address=b"a@y.test", times=3)
        for _ in range(3):
            await send(running.address, ["a@y.test"])
        kind = events.Failed if code.startswith("5") else events.Deferred
        await running.until(kind, 3)
        await running.relay.suppression.flush()
        assert len(running.relay.suppression) == 0


@pytest.mark.parametrize("command", ["MAIL", "DOT"])
async def test_a_sender_or_a_content_that_is_refused_costs_no_recipient(tmp_path: Path, command: str) -> None:
    """What GMX says to a sender's domain without an MX reads as if the mailbox were none."""
    async with (
        Host() as host,
        Host() as home,
        configured(tmp_path, to(host, match="y.test") + to(home) + LEARN.format("accept")) as running,
    ):
        host.script.say(command, 550, "5.1.1 Requested action not taken: mailbox unavailable", times=3)
        for count in (2, 4, 6):
            await send(running.address, ["a@y.test", "b@y.test"])
            await running.until(events.Failed, count)
        await running.relay.suppression.flush()
        assert len(running.relay.suppression) == 0
        await send(running.address, ["a@y.test", "b@y.test"])
        await running.until_empty()
        assert [sorted(message.recipients) for message in host.taken] == [[b"a@y.test", b"b@y.test"]]


async def test_what_was_queued_before_the_operator_said_no_is_not_sent(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host), schedule='["1s"]') as running:
        host.script.say("RCPT", 450, "4.2.0 later", times=1)
        await send(running.address, ["a@y.test"], sender="")
        await running.until(events.Deferred)
        await suppression(tmp_path, running, "add", "@y.test", "--note", "they asked for it")
        await running.until(events.Failed)
        assert running.events(events.Failed)[0].bounce_class == "suppressed"
        assert len(host.lines(b"RCPT")) == 1


async def suppression(directory: Path, running: RunningRelay, *words: str) -> str:
    """Run `backstamp suppression` against the relay, as an operator would."""
    file = directory / "asking"
    file.mkdir(exist_ok=True)
    config = written(file, admin=running.relay.addresses[-1][1], listen=1)
    verb, *rest = words
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "backstamp", "suppression", verb, "--config", str(config), *rest),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_operators_word_holds_until_it_is_taken_back(tmp_path: Path) -> None:
    """It holds for everybody, and where nothing is learned."""
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await suppression(tmp_path, running, "add", "Never@Y.test")
        assert list(await refused(running.address, "never@y.test", "a@y.test")) == ["never@y.test"]
        [entry] = json.loads(await suppression(tmp_path, running, "list", "--json"))
        assert (entry["address"], entry["source"]) == ("never@y.test", "operator")
        await suppression(tmp_path, running, "remove", "never@y.test")
        await send(running.address, ["never@y.test"])
        await running.until(events.Delivered, 2)
        assert len(running.events(events.Unsuppressed)) == 1


async def test_a_list_that_is_exported_can_be_imported_elsewhere(tmp_path: Path) -> None:
    one, two, file = tmp_path / "one", tmp_path / "two", str(tmp_path / "list.ndjson")
    for directory in (one, two):
        directory.mkdir()
    async with Host() as host, configured(one, to(host)) as first, configured(two, to(host)) as second:
        await suppression(tmp_path, first, "add", "a@y.test", "@z.test")
        await suppression(tmp_path, first, "export", "--output", file)
        await suppression(tmp_path, second, "import", file)
        found = await refused(second.address, "a@y.test", "b@z.test", "c@y.test")
        assert list(found) == ["a@y.test", "b@z.test"]
