"""`sendmail`, as a program calls it: a relay on a socket file, and what the next server got."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.relay import FAST, RunningRelay, events, run, via

from backstamp.config import Settings
from backstamp.listener.settings import Limits, ListenerSettings
from backstamp.policy.destination import DestinationPolicy
from backstamp.sink.server import KEYWORDS, Options, Received, Sink


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Site(NamedTuple):
    """A relay with a socket file, the next server's mail, and the configuration `sendmail` reads."""

    running: RunningRelay
    taken: list[Received]
    config: Path

    async def sendmail(self, *arguments: str, content: bytes = b"") -> Done:
        return await sendmail(self.config, *arguments, content=content)

    async def sent(self) -> Received:
        await self.running.until_empty()
        [message] = self.taken
        return message


async def sendmail(config: Path, *arguments: str, content: bytes = b"") -> Done:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "backstamp", "sendmail", *arguments),
        stdin=-1,
        stdout=-1,
        stderr=-1,
        env={**os.environ, "BACKSTAMP_CONFIG": str(config), "NAME": "Me"},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(content)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def configuration(directory: str, path: str) -> Path:
    config = Path(directory) / "backstamp.toml"
    config.write_text(f'hostname = "relay.example.org"\n[[listen]]\naddress = "unix:{path}"\n')
    return config


@contextlib.asynccontextmanager
async def site(limits: Limits | None = None) -> AsyncIterator[Site]:
    taken: list[Received] = []
    with tempfile.TemporaryDirectory(prefix="bs") as directory:
        path = f"{directory}/smtp.sock"
        async with Sink(received=taken.append, options=Options(keywords=(*KEYWORDS, "DSN"))) as sink:
            listener = ListenerSettings(
                "relay.example.org", path, 0, (), submission=True, limits=limits or Limits()
            )
            settings = Settings(
                hostname="relay.example.org",
                queue_directory=f"{directory}/queue",
                listeners=(listener,),
                destination=DestinationPolicy(retry=FAST, private_addresses=True),
                routes=(via(sink.address),),
            )
            async with run(settings, Path(directory)) as running:
                yield Site(running, taken, configuration(directory, path))
                assert not running.events(events.Alarm)
        assert not os.path.exists(path)


async def test_minus_t_names_the_recipients_and_bcc_is_gone() -> None:
    """RFC 5322 §3.6.3: who is in Bcc gets the message, and nobody reads so."""
    async with site() as here:
        content = b"To: A <a@y.test>,\n (b) b@y.test\nBcc: c@y.test\nSubject: x\n\n.x\n.\nlost\n"
        done = await here.sendmail("-t", "-f", "me@x.test", "d@y.test", "a@y.test", content=content)
        assert done == (0, "", "")
        message = await here.sent()
        assert message.sender == b"me@x.test"
        assert sorted(message.recipients) == [b"a@y.test", b"b@y.test", b"c@y.test", b"d@y.test"]
        assert b"c@y.test" not in message.content
        assert (
            b"From: Me <me@x.test>\r\nTo: A <a@y.test>,\r\n (b) b@y.test\r\nSubject: x\r\n" in message.content
        )
        assert message.content.endswith(b"\r\n\r\n.x\r\n")
        for field in (
            b"\r\nDate: ",
            b"\r\nMessage-ID: ",
            b"Received: from localhost (localhost [127.0.0.1])\r\n",
        ):
            assert field in message.content
        [accepted] = here.running.events(events.Accepted)
        assert accepted.client == "local"


async def test_what_is_asked_of_reports_arrives() -> None:
    """RFC 3461 §4: NOTIFY, RET and ENVID go to the next server as they were given."""
    async with site() as here:
        asked = (
            "-i",
            "-f",
            "<>",
            "-N",
            "success,failure",
            "-R",
            "hdrs",
            "-V",
            "a+b c",
            "-v",
            "\u00fc@y.test",
        )
        done = await here.sendmail(*asked, content="From: a\nTo: b\n\n.\n\u00fc\n".encode())
        assert done.code == 0, done
        assert "queued as" in done.out
        message = await here.sent()
        assert message.sender == b""
        assert list(message.recipients) == ["\u00fc@y.test".encode()]
        words = set(message.parameters.split())
        assert {b"BODY=8BITMIME", b"SMTPUTF8", b"RET=HDRS", b"ENVID=a+2Bb+20c"} <= words
        assert message.content.endswith("\r\n.\r\n\u00fc\r\n".encode())


async def test_a_large_message_comes_whole_and_in_many_transactions_if_need_be() -> None:
    """RFC 5321 §4.5.3.1.10: whom there is no room for goes in the next transaction."""
    lines = b"".join(b".%d %s\n" % (number, b"x" * 60) for number in range(60_000))
    async with site(Limits(recipients=2)) as here:
        people = [f"{one}@y.test" for one in "abcde"]
        done = await here.sendmail("-i", *people, content=b"From: a\nTo: b\n\n" + lines)
        assert done == (0, "", "")
        assert len(here.running.events(events.Accepted)) == 3
        await here.running.until_empty()
        assert sorted(one.decode() for message in here.taken for one in message.recipients) == people
        for message in here.taken:
            assert message.content.partition(b"\r\n\r\n")[2] == lines.replace(b"\n", b"\r\n")


async def test_a_key_names_each_of_many_transactions() -> None:
    """Or the relay would take the second for the first one sent again: its recipients would get nothing."""
    async with site(Limits(recipients=2)) as here:
        people = [f"{one}@y.test" for one in "abcde"]
        content = b"Backstamp-Idempotency-Key:\n order-1 \nFrom: a\n\nhello\n"
        for _ in range(2):
            assert await here.sendmail(*people, content=content) == (0, "", "")
        assert len(here.running.events(events.Accepted)) == len(here.running.events(events.Repeated)) == 3
        await here.running.until_empty()
        assert sorted(one.decode() for message in here.taken for one in message.recipients) == people
        assert not any(b"order-1" in message.content for message in here.taken)


async def test_minus_bs_is_the_relays_own_smtp() -> None:
    async with site() as here:
        said = b"EHLO me\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
        said += b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
        done = await here.sendmail("-bs", content=said)
        assert done.code == 0
        lines = done.out.splitlines()
        assert lines[0].startswith("220 relay.example.org")
        assert [line[:3] for line in lines if line[3] == " "] == [
            "220",
            "250",
            "250",
            "250",
            "354",
            "250",
            "221",
        ]
        assert (await here.sent()).recipients[0] == b"b@y.test"


async def test_who_is_refused_is_named_and_the_others_get_the_message() -> None:
    async with site() as here:
        literal = "x@[192.0.2.1]"
        done = await here.sendmail("a@y.test", literal, content=b"From: a\n\nx\n")
        assert done == (68, "", f"sendmail: <{literal}>: 550 5.1.2 Address literals are not accepted\n")
        assert list((await here.sent()).recipients) == [b"a@y.test"]
        done = await here.sendmail(literal, content=b"From: a\n\nx\n")
        assert (done.code, done.out) == (68, "")
        assert len(here.running.events(events.Accepted)) == 1


@pytest.mark.parametrize(
    ("arguments", "content", "code"),
    [
        (("-t",), b"Subject: x\n\nTo: a@y.test\n", 64),
        (("-t",), b"To: a@b@y.test\n\nx\n", 65),
        ((), b"x\n", 64),
        (("-Z", "a@y.test"), b"x\n", 64),
        (("a@y.test",), b"Subject: x\n\na\rb\n", 65),
        (("-f", "a@b@c", "a@y.test"), b"x\n", 65),
        (("-f", "a b", "a@y.test"), b"x\n", 65),
        (("-f", "a@x.test, b@x.test", "a@y.test"), b"x\n", 65),
        (("bad addr@@x",), b"x\n", 65),
        (("-qIbogus",), b"", 64),
        (("-i", "a@y.test"), b"X: 1\n" * 300_000, 65),
        (("-i", "a@y.test"), b"\nx" * 400_000, 69),
    ],
)
async def test_what_cannot_be_sent_is_one_line_and_a_code(
    arguments: tuple[str, ...], content: bytes, code: int
) -> None:
    async with site(Limits(message_size=1_000_000)) as here:
        done = await here.sendmail(*arguments, content=content)
        assert (done.code, done.out) == (code, ""), done
        assert done.err.startswith("sendmail: ")
        assert done.err.count("\n") == 1
        assert not here.running.events(events.Accepted)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("-v a@y.test >&-", 0),
        ("-v a@y.test >/dev/full", 0),
        ("a@y.test 'x@[192.0.2.1]' 2>&-", 68),
        ("a@y.test 'x@[192.0.2.1]' 2>/dev/full", 68),
    ],
)
async def test_who_cannot_be_told_gets_the_same_exit_code(command: str, code: int) -> None:
    """Or the relay has the message, and the caller sends it again."""
    async with site() as here:
        process = await asyncio.create_subprocess_shell(
            f"'{sys.executable}' -m backstamp sendmail --config '{here.config}' {command}",
            stdin=-1,
            stderr=-1,
        )
        async with asyncio.timeout(60):
            await process.communicate(b"From: a\n\nx\n")
        assert process.returncode == code
        assert list((await here.sent()).recipients) == [b"a@y.test"]


async def test_what_cannot_be_read_is_no_empty_message() -> None:
    async with site() as here:
        for option, code in (("a@y.test", 65), ("-bs", 75)):
            process = await asyncio.create_subprocess_shell(
                f"'{sys.executable}' -m backstamp sendmail --config '{here.config}' {option} <&-",
                stdout=-1,
                stderr=-1,
            )
            async with asyncio.timeout(60):
                await process.communicate()
            assert process.returncode == code
        assert not here.running.events(events.Accepted)


async def test_without_a_relay_it_is_exit_75_and_nothing_is_kept() -> None:
    with tempfile.TemporaryDirectory(prefix="bs") as directory:
        config = configuration(directory, f"{directory}/smtp.sock")
        done = await sendmail(config, "a@y.test", content=b"x\n")
        assert done == (
            75,
            "",
            f"sendmail: no relay answers at {directory}/smtp.sock: no such file or directory\n",
        )
        assert os.listdir(directory) == ["backstamp.toml"]


async def test_without_a_configuration_it_is_exit_78() -> None:
    done = await sendmail(Path("/nowhere/backstamp.toml"), "a@y.test", content=b"x\n")
    assert done == (78, "", "sendmail: /nowhere/backstamp.toml: cannot be read: no such file or directory\n")


async def test_by_its_name_it_is_the_same_program() -> None:
    program = "import sys; sys.argv[0] = sys.argv.pop(1); from backstamp.__main__ import main; main()"
    async with site() as here:
        for name, code in (("/usr/sbin/sendmail", 64), ("/usr/bin/newaliases", 0), ("/usr/bin/mailq", 2)):
            # mailq becomes `backstamp queue list`, which finds no [admin] to ask in this configuration.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, name, "--config", str(here.config)), stdin=-1, stderr=-1
            )
            _, err = await process.communicate()
            assert process.returncode == code, err


def test_a_start_imports_nothing_heavy() -> None:
    import subprocess

    program = "import sys, backstamp.__main__; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        "typer",
        "rich",
        "pydantic",
        "msgspec",
        "asyncio",
        "ssl",
        "smtplib",
        "email",
        "tempfile",
    }
