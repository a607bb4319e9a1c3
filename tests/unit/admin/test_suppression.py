"""The suppression list over HTTP."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from prometheus_client.registry import Collector
from tests.unit.admin.test_server import JSON

from backstamp.admin import suppression as routes
from backstamp.admin.server import AdminServer
from backstamp.admin.suppression import SuppressionRoutes
from backstamp.clock import SystemClock
from backstamp.policy.suppression import Entry, Source, SuppressionPolicy
from backstamp.policy.suppression_file import CSV, NDJSON
from backstamp.queue.files import DiskFiles
from backstamp.suppression.keeper import SuppressionList
from backstamp.telemetry.metrics import Metrics

NOW = 1_764_000_000


class Clock(SystemClock):
    def wall(self) -> float:
        return float(NOW)


class Side:
    """The HTTP side and how it is asked."""

    def __init__(self, server: AdminServer, kept: SuppressionList) -> None:
        self.server = server
        self.list = kept

    async def ask(
        self, method: str, path: str = "", body: bytes | object = None, kind: str = JSON
    ) -> tuple[int, str]:
        def run() -> tuple[int, str]:
            url = "http://{}:{}/api/v1/suppression{}".format(*self.server.address, path)
            request = urllib.request.Request(url, method=method)
            if body is not None:
                request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
                request.add_header("Content-Type", kind)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(run)


@contextlib.asynccontextmanager
async def side(directory: Path) -> AsyncIterator[Side]:
    collector: Collector = Metrics().collector()
    kept = SuppressionList(
        DiskFiles(), str(directory), SuppressionPolicy(), clock=Clock(), emit=lambda _: None
    )
    await kept.open()
    server = AdminServer(
        "127.0.0.1",
        0,
        collector=collector,
        ready=lambda: None,
        queue=None,  # type: ignore[arg-type]  # nobody asks for it here
        suppression=SuppressionRoutes(kept, Clock()),
    )
    await server.start()
    try:
        yield Side(server, kept)
    finally:
        await server.close()
        await kept.close()


async def test_add_list_remove(tmp_path: Path) -> None:
    async with side(tmp_path) as here:
        assert await here.ask("GET") == (200, '{"entries":[],"next":null}')
        status, text = await here.ask(
            "POST", body={"address": "Joe@Example.org", "reply": "asked for it", "expires": NOW + 60}
        )
        joe = {
            "address": "joe@example.org",
            "tenant": "",
            "bounce_class": "",
            "reply": "asked for it",
            "since": NOW,
            "expires": NOW + 60,
            "source": "operator",
        }
        assert (status, json.loads(text)) == (200, joe)
        assert here.list.match(b"joe@example.org", b"any") is not None
        await here.ask("POST", body={"address": "joe@example.org", "tenant": "one"})
        assert json.loads((await here.ask("GET", "?limit=1"))[1])["entries"] == [joe]
        assert json.loads((await here.ask("GET", "?tenant=one&address=joe@example.org"))[1])["next"] is None

        assert (await here.ask("DELETE", body={"address": "joe@example.org", "tenant": "two"}))[0] == 404
        status, text = await here.ask("DELETE", body={"address": "JOE@example.org"})
        assert status == 200
        assert [one["tenant"] for one in json.loads(text)["removed"]] == ["", "one"]
        assert here.list.match(b"joe@example.org", b"one") is None


async def test_pages(tmp_path: Path) -> None:
    async with side(tmp_path) as here:
        for number in range(5):
            await here.list.add(Entry(f"u{number}@a.example"))
        await here.list.add(Entry("u@b.example", "one"))
        found, query = [], "?limit=2"
        while query:
            answer = json.loads((await here.ask("GET", query))[1])
            found += [one["address"] for one in answer["entries"]]
            query = f"?limit=2&after={answer['next']}" if answer["next"] else ""
        assert found == [*(f"u{number}@a.example" for number in range(5)), "u@b.example"]
        answer = json.loads((await here.ask("GET", "?domain=B.example"))[1])
        assert [one["tenant"] for one in answer["entries"]] == ["one"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "problem"),
    [
        ("GET", "?limit=0", None, 400, "limit is a number"),
        ("GET", "?limit=²", None, 400, "limit is a number"),
        ("GET", "?after=x", None, 400, "after: not what"),
        ("GET", "?after=eA==", None, 400, "after: not what"),
        ("GET", "?address=joe", None, 400, "address: is not an address; write user@example.org"),
        ("POST", "", {"address": "joe"}, 400, "is not an address; write user@example.org"),
        ("POST", "", {"address": "a@b.example", "until": 1}, 400, "until"),
        ("POST", "", {"address": "a@b.example", "expires": NOW}, 400, "has been"),
        ("POST", "", {"address": "a@b.example", "expires": NOW * 1000}, 400, "seconds since 1970"),
        ("POST", "", {"address": "a@b.example", "expires": 10**20}, 400, "seconds since 1970"),
        ("POST", "", {"address": "a@b.example", "tenant": "a\nb"}, 400, "tenant"),
        ("POST", "", {"address": "a@b.example", "tenant": "a" * 256}, 400, "tenant"),
        ("POST", "", {"address": "a@b.example", "bounce_class": "A B"}, 400, "bounce class"),
        ("POST", "", b"no", 400, "JSON"),
        ("DELETE", "", b"no", 400, "JSON"),
        ("DELETE", "", {"address": "a@b.example"}, 404, "not on the list"),
        ("POST", "/import", b'{"address": "a@b.example"}', 415, "NDJSON or CSV"),
    ],
)
async def test_what_is_refused(
    tmp_path: Path, method: str, path: str, body: object, status: int, problem: str
) -> None:
    async with side(tmp_path) as here:
        if problem == "JSON":
            problem = "truncated"
        code, text = await here.ask(method, quote(path, "/?=&"), body)
        assert code == status
        assert problem in json.loads(text)["error"]
        assert len(here.list) == 0


async def test_bodies_that_a_page_of_another_site_could_send_are_refused(tmp_path: Path) -> None:
    async with side(tmp_path) as here:
        for method, path in (("POST", ""), ("DELETE", ""), ("POST", "/import")):
            for kind in ("text/plain", "application/x-www-form-urlencoded"):
                assert (await here.ask(method, path, b'{"address": "a@b.example"}', kind))[0] == 415


async def test_what_is_exported_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "PIECE", 1000)
    entries = [
        Entry(f"u{number:04}@example.org", "one", "invalid-recipient", "550 no", 7, None, Source.BOUNCE)
        for number in range(2500)
    ]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with side(tmp_path / "one") as here, side(tmp_path / "two") as there:
        assert await here.ask("GET", "/export") == (200, "")
        for entry in entries:
            here.list._table.add(entry)
        await here.list._do(here.list._database.put, entries)
        status, text = await here.ask("GET", "/export")
        assert (status, text.count("\n")) == (200, 2500)
        assert await there.ask("POST", "/import", text.encode(), NDJSON) == (200, '{"entries":2500}')
        assert [one async for page in there.list.pages() for one in page] == entries
        assert await here.ask("POST", "/import", b"email\na@b.example\n", CSV) == (200, '{"entries":1}')


async def test_a_file_with_a_mistake_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with side(tmp_path) as here:
        status, text = await here.ask("POST", "/import", b"a@b.example\nnobody\n", CSV)
        assert status == 400
        answer = json.loads(text)
        assert answer["mistakes"] == [
            {"line": 2, "problem": "address 'nobody': is not an address; write user@example.org"}
        ]
        assert answer["error"].startswith("nothing was taken: line 2: ")
        monkeypatch.setattr(routes, "FILE_LIMIT", 5)
        assert (await here.ask("POST", "/import", b"a@b.example\n", CSV))[0] == 413
        assert len(here.list) == 0


async def test_a_disk_in_trouble_is_told(tmp_path: Path) -> None:
    async with side(tmp_path) as here:
        await here.list.add(Entry("a@b.example"))
        connection = here.list._database._connection
        assert connection is not None
        await here.list._do(connection.close)
        for method, path, body, kind in (
            ("GET", "", None, JSON),
            ("GET", "/export", None, JSON),
            ("POST", "", {"address": "a@c.example"}, JSON),
            ("DELETE", "", {"address": "a@b.example"}, JSON),
            ("POST", "/import", b"a@c.example\n", CSV),
        ):
            status, text = await here.ask(method, path, body, kind)
            assert status == 503
            assert "closed database" in json.loads(text)["error"]
        assert len(here.list) == 1
