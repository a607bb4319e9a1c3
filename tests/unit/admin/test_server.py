"""The HTTP side of a running relay."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from aiohttp import ClientSession
from tests.support.client import send
from tests.support.relay import relay, via

from backstamp import app
from backstamp.admin import body, server
from backstamp.admin.server import at_home
from backstamp.listener import guard
from backstamp.policy.retry import RetryPolicy
from backstamp.sink.server import Sink
from backstamp.telemetry import events

JSON = "application/json"


async def get(
    address: tuple[str, int], path: str, method: str = "GET", body: str | None = None, kind: str = JSON
) -> tuple[int, str]:
    def run() -> tuple[int, str]:
        request = urllib.request.Request("http://{}:{}{}".format(*address, path), method=method)
        if body is not None:
            request.data = body.encode()
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(run)


async def test_what_it_tells(tmp_path: Path) -> None:
    async with (
        Sink() as sink,
        relay(tmp_path, routes=[via(sink.address)], retry=RetryPolicy((60.0,)), admin=True) as running,
    ):
        sink.script.say("RCPT", 450, "4.2.0 later", address=b"later@y.test")
        await send(running.address, ["now@y.test", "later@y.test"])
        await running.until(events.Deferred)
        admin = running.relay.addresses[-1]

        assert await get(admin, "/healthz") == (200, "alive\n")
        assert await get(admin, "/readyz") == (200, "ready\n")
        status, text = await get(admin, "/metrics")
        assert status == 200
        assert "backstamp_recipients_delivered_total 1.0" in text
        assert "backstamp_queue_recipients 1.0" in text

        status, text = await get(admin, "/api/v1/queue")
        [message] = json.loads(text)["messages"]
        assert message["sender"] == "sender@origin.test"
        stamps = {one["address"]: one for one in message["recipients"]}
        assert stamps["now@y.test"]["stamp"] == "D"
        assert stamps["later@y.test"]["stamp"] == "T"
        assert stamps["later@y.test"]["retry_at"] > message["arrival"] + 50

        assert json.loads((await get(admin, f"/api/v1/queue/{message['queue_id']}"))[1]) == message
        assert (await get(admin, f"/api/v1/queue?after={message['queue_id']}"))[1] == '{"messages":[]}'
        for path, code in (
            ("/api/v1/queue/nonsense", 404),
            ("/api/v1/queue?limit=0", 400),
            ("/api/v1/queue?limit=x", 400),
            ("/api/v1/queue?after=x", 400),
            ("/other", 404),
        ):
            assert (await get(admin, path))[0] == code, path
        assert (await get(admin, "/api/v1/queue", "POST"))[0] == 405

        running.relay.stop()
        await asyncio.sleep(0)


async def test_a_queue_that_is_broken_is_not_ready(tmp_path: Path) -> None:
    async with relay(tmp_path, admin=True) as running:
        running.relay.queue.health._trouble.reason = "the disk is gone"
        assert await get(running.relay.addresses[-1], "/readyz") == (503, "the disk is gone\n")
        running.relay.queue.health._trouble.reason = None


async def test_verbs_change_what_they_are_for_and_say_whom(tmp_path: Path) -> None:
    async with (
        Sink() as sink,
        relay(tmp_path, routes=[via(sink.address)], retry=RetryPolicy((60.0,)), admin=True) as running,
    ):
        sink.script.say("RCPT", 450, "4.2.0 later")
        await send(running.address, ["a@y.test", "b@z.test"])
        await running.until(events.Deferred, 2)
        while running.relay.queue.ledger.claimed:
            await asyncio.sleep(0.01)
        admin = running.relay.addresses[-1]
        [message] = json.loads((await get(admin, "/api/v1/queue"))[1])["messages"]
        path = f"/api/v1/queue/{message['queue_id']}"

        async def post(verb: str, body: str = "{}", **how: str) -> tuple[int, dict[str, object]]:
            status, text = await get(admin, f"{path}/{verb}", "POST", body, **how)
            return status, json.loads(text)

        status, done = await post("hold", '{"recipients": ["a@y.test"]}')
        assert (status, done["changed"]) == (200, ["a@y.test"])
        assert [one["stamp"] for one in done["message"]["recipients"]] == ["H", "T"]  # type: ignore[index]
        assert (await post("hold", '{"recipients": ["c@y.test"]}'))[0] == 400
        assert (await post("hold", '{"recipient": "a@y.test"}'))[0] == 400
        assert (await post("hold", "no"))[0] == 400
        assert (await post("eat"))[0] == 404
        assert (await post("hold", kind="text/plain"))[0] == 415
        assert (await get(admin, "/api/v1/queue/nonsense/hold", "POST", "{}"))[0] == 404
        status, done = await post("remove")
        assert (status, done["changed"], done["message"]) == (200, ["a@y.test", "b@z.test"], None)
        assert (await post("remove"))[0] == 404
        assert [event.verb for event in running.events(events.Operated)] == ["hold", "remove"]


async def test_who_is_in_doubt(tmp_path: Path) -> None:
    async with (
        Sink() as sink,
        relay(tmp_path, routes=[via(sink.address)], retry=RetryPolicy((60.0,)), admin=True) as running,
    ):
        sink.script.do("DOT", close=True)
        await send(running.address, ["a@y.test"])
        await running.until(events.InDoubt)
        while running.relay.queue.ledger.claimed:
            await asyncio.sleep(0.01)
        admin = running.relay.addresses[-1]
        [one] = json.loads((await get(admin, "/api/v1/queue/doubt"))[1])["recipients"]
        assert (one["recipient"], one["stamp"]) == ("a@y.test", "?")


@pytest.mark.parametrize(
    ("host", "home"),
    [
        ("127.0.0.1:8025", True),
        ("127.0.0.1", True),
        ("[::1]:8025", True),
        ("[::1]", True),
        ("localhost:8025", True),
        ("backstamp:8025", True),
        ("Relay.Example.org:8025", True),
        ("relay.example.org.", True),
        ("evil.example:8025", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", True),
        ("", True),
    ],
)
def test_by_which_names_the_queue_is_asked_for(host: str, home: bool) -> None:
    assert at_home(host, "relay.example.org") is home


async def test_a_page_that_has_its_name_lead_here_sees_and_does_nothing(tmp_path: Path) -> None:
    """DNS rebinding: to the browser it is this host's own page."""
    async with relay(tmp_path, admin=True) as running:
        base = "http://{}:{}".format(*running.relay.addresses[-1])
        async with ClientSession() as client:
            foreign, origin = {"Host": "evil.example:8025"}, {"Origin": "http://evil.example:8025"}
            for path in ("/api/v1/queue", "/api/v1/suppression", "/api/v1/route?address=a@b.example"):
                assert (await client.get(base + path, headers=foreign)).status == 421
                assert (await client.get(base + path, headers=origin)).status == 403
            wish = {"address": "victim@example.org"}
            said = await client.post(base + "/api/v1/suppression", json=wish, headers=foreign | origin)
            assert said.status == 403
            assert (await client.get(base + "/healthz", headers=foreign)).status == 200
            assert (await client.get(base + "/api/v1/queue?limit=" + "9" * 5000)).status == 400


HALF = b"POST /api/v1/queue/01M851RQPP73GN3XVVNKKD3C5B/hold HTTP/1.1\r\nHost: localhost\r\n"
HALF += b"Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{"
"""A request that never comes whole."""


async def test_there_is_an_end_to_connections_and_a_place_again_when_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    async with relay(tmp_path, admin=True) as running:
        admin = running.relay.addresses[-1]
        idle = [await asyncio.open_connection(*admin) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*admin)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        idle[0][1].close()
        async with asyncio.timeout(20):
            while (await get(admin, "/healthz"))[0] != 200:
                await asyncio.sleep(0.01)
        idle[1][1].close()


async def test_who_asks_for_nothing_or_never_ends_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "HEAD", 0.05)
    monkeypatch.setattr(body, "WHOLE", 0.05)
    monkeypatch.setattr(body, "PIECE", 0.05)
    file = b"POST /api/v1/suppression/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    file += b"Content-Length: 90\r\n\r\na@x.test\n"
    async with relay(tmp_path, admin=True) as running:
        for said, answer in (
            (b"", b""),
            (b"GET /metrics HTTP/1.1\r\n", b""),
            (HALF, b"HTTP/1.1 408 "),
            (file, b"HTTP/1.1 408 "),
        ):
            reader, writer = await asyncio.open_connection(*running.relay.addresses[-1])
            writer.write(said)
            async with asyncio.timeout(20):
                assert (await reader.readline())[: len(answer) or None].startswith(answer)
            writer.close()
        assert not len(running.relay.suppression)


async def test_who_does_not_read_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is written to nobody must not take a place for ever."""
    monkeypatch.setattr(guard, "UNREAD", 0.05)
    async with relay(tmp_path, admin=True) as running:
        admin = running.relay._admin
        assert admin is not None
        _, writer = await asyncio.open_connection(*admin.address, limit=1)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        async with asyncio.timeout(60):
            while not admin._connections:
                await asyncio.sleep(0.01)
            while admin._connections:
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_request_that_never_comes_whole_holds_up_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sealed before the HTTP side is closed, and supervisors kill what takes a minute."""
    monkeypatch.setattr(app, "SESSION_GRACE", 0.05)
    async with asyncio.timeout(30):
        async with relay(tmp_path, admin=True) as running:
            admin = running.relay._admin
            assert admin is not None
            assert admin._runner.server is not None
            reader, writer = await asyncio.open_connection(*admin.address)
            writer.write(HALF)
            while not admin._runner.server.requests_count:
                await asyncio.sleep(0.01)
        assert await reader.read() == b""
        writer.close()


async def test_what_is_no_http_is_told_nobody_but_the_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay(tmp_path, admin=True) as running:
        long = b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n"
        for said in (b"GET /metrics HTTP/1.1\r\n\r\n", long, b"\x16\x03\r\n"):
            reader, writer = await asyncio.open_connection(*running.relay.addresses[-1])
            writer.write(said)
            assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()
    assert not caplog.records


async def test_what_no_handler_answers_is_json_too(tmp_path: Path) -> None:
    async with relay(tmp_path, admin=True) as running:
        admin = running.relay.addresses[-1]
        hold = "/api/v1/queue/01M851RQPP73GN3XVVNKKD3C5B/hold"
        for asked, code, text in (
            (("/other",), 404, "not found"),
            (("/api/v1/queue", "POST"), 405, "method not allowed"),
            ((hold, "POST", " " * 1_100_000), 413, "request entity too large"),
        ):
            status, said = await get(admin, *asked)
            assert (status, json.loads(said)) == (code, {"error": text})
