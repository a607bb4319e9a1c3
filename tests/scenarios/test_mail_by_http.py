"""Mail by HTTP, from a request to a host that has it, octets proper."""

import asyncio
import email
import email.policy
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientSession
from tests.support.relay import RunningRelay, run

from backstamp.config import Settings
from backstamp.config.load import parse
from backstamp.sink.server import Received, Sink
from backstamp.smtp.data import bare
from backstamp.telemetry import events

DOCUMENT = Path(__file__).parents[2] / "docs/http.md"
RAW = b"From: shop@example.com\r\nSubject: raw\r\n\r\n.dots\r\nand more\r\n"


def settings(directory: Path, sink: Sink, more: str = "") -> Settings:
    """Return the settings of a file with the door of HTTP."""
    text = f"""
        hostname = "relay.example.org"
        [queue]
        directory = "{directory}/queue"
        [[listen]]
        address = "127.0.0.1:0"
        [delivery]
        private_addresses = true
        [[route]]
        match = "*"
        via = "127.0.0.1:{sink.address[1]}"
        [http]
        address = "127.0.0.1:0"
        {more}
    """
    return parse(text.encode(), "x.toml")


async def post(
    running: RunningRelay, body: bytes, kind: str = "application/json", query: str = "", **headers: str
) -> tuple[int, Any]:
    url = "http://{}:{}/api/v1/messages{}".format(*running.relay.addresses[-1], query)
    async with (
        ClientSession() as client,
        client.post(url, data=io.BytesIO(body), headers={"Content-Type": kind, **headers}) as said,
    ):
        return said.status, json.loads(await said.read())


async def test_what_is_posted_arrives(tmp_path: Path) -> None:
    kept: list[Received] = []
    async with Sink(received=kept.append) as sink, run(settings(tmp_path, sink), tmp_path) as running:
        status, said = await post(
            running,
            json.dumps(
                {
                    "from": "shop@example.com",
                    "to": ["jo@example.org"],
                    "bcc": ["al@example.org"],
                    "text": ".a dot\n\n..and two\nümlaut",
                }
            ).encode(),
        )
        assert status == 202
        await running.until_empty()
        assert sorted(one for message in kept for one in message.recipients) == [
            b"al@example.org",
            b"jo@example.org",
        ]
        [delivered] = running.events(events.Accepted)
        assert delivered.queue_id == said["messages"][0]["queue_id"]
        for one in kept:
            assert bare(one.content) is None
            assert b"al@example.org" not in one.content
            message = email.message_from_bytes(one.content, policy=email.policy.SMTP)
            assert message.get_content() == ".a dot\r\n\r\n..and two\r\nümlaut\r\n"
            assert message["Date"] is not None
            assert message["Message-ID"] is not None


async def test_a_large_message_arrives_octet_for_octet(tmp_path: Path) -> None:
    kept: list[Received] = []
    content = RAW + b"..x" * 20 + b"\r\n" + b"y" * 70 + b"\r\n"
    content += content.partition(b"\r\n\r\n")[2] * 40_000
    async with Sink(received=kept.append) as sink, run(settings(tmp_path, sink), tmp_path) as running:
        status, _ = await post(running, content, "message/rfc822", "?from=shop@example.com&to=jo@example.org")
        assert status == 202
        await running.until_empty()
        [one] = kept
        assert one.content.endswith(content)


async def test_the_document_s_examples_do_what_it_says(tmp_path: Path) -> None:
    """Each example is a curl command behind the status it is answered with."""
    examples = re.findall(r"```sh\n# (\d+)\n(curl .*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(examples) == 4
    async with Sink() as sink, run(settings(tmp_path, sink), tmp_path) as running:
        for status, command in examples:
            _, url, *options = shlex.split(command)
            headers, body = {}, b""
            for name, value in zip(options[::2], options[1::2], strict=True):
                if name == "-H":
                    key, _, said = value.partition(": ")
                    headers[key] = said
                else:
                    assert name == "--data-binary"
                    body = RAW if value == "@message.eml" else value.encode()
            kind = headers.pop("Content-Type")
            _, mark, query = url.partition("?")
            assert (await post(running, body, kind, mark + query, **headers))[0] == int(status), command
        await running.until_empty()
        assert sink.recipients == 6


async def test_a_reload_changes_who_may(tmp_path: Path) -> None:
    async with Sink() as sink, run(settings(tmp_path, sink), tmp_path) as running:
        body = b'{"from": "a@example.com", "to": ["b@example.org"], "text": ""}'
        assert (await post(running, body))[0] == 202
        running.relay.reload(settings(tmp_path, sink, 'allow = ["192.0.2.0/24"]'))
        assert (await post(running, body))[0] == 403
        assert not running.events(events.Alarm)
        running.relay.reload(msgspec.structs.replace(settings(tmp_path, sink), http=None))
        [alarm] = running.events(events.Alarm)
        assert alarm.problem == "changed in the configuration: http address"
        await running.until_empty()


async def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    async with Sink() as sink:
        async with run(settings(tmp_path, sink), tmp_path) as running:
            body = b'{"from": "a@example.com", "to": ["b@example.org"], "text": "' + b"x" * 2_000_000 + b'"}'
            under_way = asyncio.create_task(post(running, body))
            http = running.relay._entrance.http
            assert http is not None
            while not http._requests:
                await asyncio.sleep(0)
            running.relay.stop()
            assert (await under_way)[0] == 202
        assert len(running.events(events.Accepted)) == 1
