"""The sink: takes all mail, counts it, keeps it where told, fails as told."""

import asyncio
import hashlib
import json
import smtplib
from pathlib import Path

import pytest

from backstamp.sink.keep import Keeper
from backstamp.sink.script import Script, reply
from backstamp.sink.server import Options, Sink


def test_replies_have_the_lines_they_are_given() -> None:
    assert reply(250, "one\ntwo") == b"250-one\r\n250 two\r\n"
    assert reply(421) == b"421 \r\n"


def test_rules_are_used_in_order_and_used_up() -> None:
    script = Script()
    script.say("RCPT", 450, "later", times=2)
    script.say("RCPT", 550, "no", address=b"a@b.example")
    answers = [script.answer("RCPT", b"a@b.example") for _ in range(3)]
    assert [answer and answer.octets[:3] for answer in answers] == [b"450", b"450", b"550"]
    assert script.answer("RCPT", b"c@d.example") is None
    assert script.answer("MAIL") is None


async def send(sink: Sink, content: bytes, *recipients: str) -> None:
    def run() -> None:
        with smtplib.SMTP(*sink.address, timeout=10) as client:
            client.sendmail("s@x.example", list(recipients), content)

    await asyncio.to_thread(run)


async def test_counts() -> None:
    async with Sink() as sink:
        await send(sink, b"Subject: x\r\n\r\n.dot\r\n", "a@b.example", "c@d.example")
        assert (sink.messages, sink.recipients, sink.connections) == (1, 2, 1)


async def test_keeps_what_it_takes_before_it_says_so(tmp_path: Path) -> None:
    content = b"X-Test-Id: seven\r\n\r\n.dot\r\n"
    with Keeper(tmp_path / "mail", tmp_path / "log") as keeper:
        async with Sink(received=keeper.keep) as sink:
            await send(sink, content, "a@b.example")
            [line] = (tmp_path / "log").read_text().splitlines()
            assert json.loads(line) == {
                "sender": "s@x.example",
                "recipients": ["a@b.example"],
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "id": "seven",
            }
    assert [path.read_bytes() for path in (tmp_path / "mail").iterdir()] == [content]


async def test_more_connections_than_allowed() -> None:
    async with Sink(options=Options(connections=1)) as sink:
        first = await asyncio.open_connection(*sink.address)
        await first[0].readline()
        second = await asyncio.open_connection(*sink.address)
        assert (await second[0].read()).startswith(b"421")
        assert (sink.connections, sink.refused) == (2, 1)
        first[1].close()
        second[1].close()


async def test_a_port_in_use_is_an_os_error() -> None:
    async with Sink() as sink:
        with pytest.raises(OSError, match="address already in use"):
            await Sink(*sink.address).start()
