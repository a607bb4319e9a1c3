"""Programs that send by a command: what they give `backstamp sendmail` arrives by the socket file."""

import contextlib
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.access import FILE
from tests.interop.clients import PROGRAMS, Nodemailer, Snail, Swaks, kept, run
from tests.interop.conftest import Proved
from tests.interop.letters import letter
from tests.support import relay
from tests.support.relay import RunningRelay

from backstamp.config.load import parse
from backstamp.sink.server import Received, Sink
from backstamp.telemetry import events

pytestmark = pytest.mark.interop


class Office:
    """A relay with a socket file, a command `sendmail` that finds it, and what arrived behind it."""

    def __init__(self, running: RunningRelay, command: Path, taken: list[Received]) -> None:
        self.relay = running
        self.command = command
        self.taken = taken

    async def arrived(self) -> Received:
        """Return the one message, when it has arrived."""
        await self.relay.until(events.Delivered, 1)
        await self.relay.until_empty()
        (accepted,) = self.relay.events(events.Accepted)
        assert accepted.client == "local"
        (message,) = self.taken
        return message


@pytest.fixture
async def office(place: Path, tmp_path: Path) -> AsyncIterator[Office]:
    """Run it."""
    taken: list[Received] = []
    async with contextlib.AsyncExitStack() as stack:
        sink = await stack.enter_async_context(Sink(received=taken.append))
        text = FILE.format(
            address=f"unix:{place}/smtp.sock",
            directory=tmp_path,
            listen="",
            via="{}:{}".format(*sink.address),
            auth="",
        )
        file = kept(place, "backstamp.toml", text.encode())
        command = place / "sendmail"
        program = shlex.join([sys.executable, "-m", "backstamp", "sendmail", "-C", str(file)])
        command.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        command.chmod(0o755)
        running = await stack.enter_async_context(relay.run(parse(text.encode(), str(file)), tmp_path))
        yield Office(running, command, taken)


def header(content: bytes) -> dict[bytes, bytes]:
    """Return the fields of a header without folded lines, but for the relay's own."""
    return dict(re.findall(rb"(?m)^([\w-]+): (.*)\r$", content.partition(b"\r\n\r\n")[0]))


async def test_mail_of_php_arrives(office: Office, place: Path, proved: Proved) -> None:
    if lacks := tools.missing(programs=("php",)):
        pytest.skip(lacks)
    sent = letter()
    done = await run(
        sent, "php", "-d", f"sendmail_path={office.command} -t -i", PROGRAMS / "mail.php",
        sent.recipients[0], sent.sender, kept(place, "body", sent.body),
    )  # fmt: skip
    assert done.taken, done.words
    message = await office.arrived()
    assert message.sender == sent.sender.encode()
    assert sorted(message.recipients) == [b"hidden@two.test", b"r@one.test"]
    fields = header(message.content)
    assert (fields[b"To"], fields[b"Subject"], fields[b"From"]) == (b"r@one.test", b"hello", b"ann@shop.test")
    assert b"Bcc" not in fields
    assert message.content.partition(b"\r\n\r\n")[2].rstrip(b"\r\n") == sent.body.rstrip(b"\r\n")
    version = tools.version(r"PHP (\d+\.\d+\.\d+)", "php", "-v")
    proved("command", "PHP's mail()", version, "a message, body exact; Bcc")


async def test_what_php_cannot_send_it_is_told(office: Office, place: Path) -> None:
    if lacks := tools.missing(programs=("php",)):
        pytest.skip(lacks)
    sent = letter()
    done = await run(
        sent, "php", "-d", f"sendmail_path={office.command} -t -i", PROGRAMS / "mail.php",
        "r@[192.0.2.1]", sent.sender, kept(place, "body", sent.body),
    )  # fmt: skip
    # The one in Bcc is taken, so it is the exit code that tells.
    assert not done.taken
    assert "Address literals are not accepted" in done.words
    assert (await office.arrived()).recipients == [b"hidden@two.test"]


async def test_mail_of_s_nail_arrives(office: Office, proved: Proved) -> None:
    client = Snail()
    if lacks := client.missing():
        pytest.skip(lacks)
    sent = letter()
    done = await run(
        sent, "s-nail", "-:/", "-s", "hello", "-S", "v15-compat", "-S", "sendwait",
        "-S", f"mta={office.command}", "-S", f"from={sent.sender}",
        "-S", "ttycharset=utf-8", "-S", "sendcharsets=utf-8", "-S", "mime-encoding=8bit",
        "-r", sent.sender, *sent.recipients,
        given=sent.body.replace(b"\r\n", b"\n"),
    )  # fmt: skip
    assert done.taken, done.words
    message = await office.arrived()
    assert (message.sender, message.recipients) == (sent.sender.encode(), [b"r@one.test"])
    assert message.content.endswith(b"\r\n\r\n" + sent.body)
    proved("command", client.name, client.version(), "a message, body exact")


async def test_mail_of_nodemailer_arrives(office: Office, place: Path, proved: Proved) -> None:
    client = Nodemailer()
    if lacks := client.missing():
        pytest.skip(lacks)
    sent = letter()
    done = await run(
        sent, "node", PROGRAMS / "sendmail.js", tools.NODEMAILER, office.command,
        kept(place, "content", sent.content), sent.sender, *sent.recipients,
    )  # fmt: skip
    assert done.taken, done.words
    message = await office.arrived()
    assert (message.sender, message.recipients) == (sent.sender.encode(), [b"r@one.test"])
    assert message.content.endswith(sent.content)
    proved("command", client.name, client.version(), "a message, octet-exact")


async def test_smtp_through_the_command_is_the_relays(office: Office, place: Path, proved: Proved) -> None:
    client = Swaks()
    if lacks := client.missing():
        pytest.skip(lacks)
    sent = letter()
    content = kept(place, "content", sent.content.replace(b"\r\n", b"\n") + b".\n")
    done = await run(
        sent, "swaks", "--pipe", f"{office.command} -bs", "--pipeline", "--helo", "client.shop.test",
        "--from", sent.sender, "--to", ",".join(sent.recipients), "--data", f"@{content}", "--suppress-data",
    )  # fmt: skip
    assert done.taken, done.words
    message = await office.arrived()
    assert (message.sender, message.recipients) == (sent.sender.encode(), [b"r@one.test"])
    assert message.content.endswith(sent.content)
    proved("command", client.name, client.version(), "-bs: a message, octet-exact")
