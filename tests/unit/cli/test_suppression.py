"""`backstamp suppression`, asking a relay's HTTP side, and reading a stopped queue."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.process import CONFIG, free_port
from typer.testing import CliRunner, Result

from backstamp.admin.server import AdminServer
from backstamp.admin.suppression import SuppressionRoutes
from backstamp.cli import build
from backstamp.clock import SystemClock
from backstamp.policy.suppression import SuppressionPolicy
from backstamp.queue.files import DiskFiles
from backstamp.suppression.database import NAME
from backstamp.suppression.keeper import SuppressionList
from backstamp.telemetry.metrics import Metrics


class Running:
    """A relay's HTTP side in a thread, and the command line that asks it."""

    def __init__(self, directory: Path) -> None:
        self.queue = directory / "queue"
        self.queue.mkdir()
        self.config = directory / "backstamp.toml"
        self._port = free_port()
        self.config.write_text(
            CONFIG.format(queue=self.queue, port=free_port(), via="127.0.0.1:9", admin=self._port)
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _start(self) -> None:
        clock = SystemClock()
        self._list = SuppressionList(
            DiskFiles(), str(self.queue), SuppressionPolicy(), clock=clock, emit=lambda _: None
        )
        await self._list.open()
        self._server = AdminServer(
            "127.0.0.1",
            self._port,
            collector=Metrics().collector(),
            ready=lambda: None,
            queue=None,  # type: ignore[arg-type]  # nobody asks for it here
            suppression=SuppressionRoutes(self._list, clock),
        )
        await self._server.start()

    async def _stop(self) -> None:
        await self._server.close()
        await self._list.close()

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def run(self, *arguments: str | Path) -> Result:
        return command(*arguments, "--config", self.config)


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), ["suppression", *map(str, arguments)])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    made.start()
    try:
        yield made
        made.stop()
    finally:
        made.end()


def test_add_list_remove(running: Running) -> None:
    done = running.run("add", "Joe@Example.org", "@example.net", "--note", "asked for it", "--for", "30d")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("suppressed: joe@example.org  operator  until 20")
    running.run("add", "ann@example.org", "--tenant", "one")

    done = running.run("list")
    assert [line.split()[0] for line in done.output.splitlines()] == [
        "@example.net",
        "ann@example.org",
        "joe@example.org",
    ]
    assert "ann@example.org  for one  operator  until it is removed" in done.output
    assert done.output.count("asked for it") == 2
    done = running.run("list", "--domain", "example.org", "--limit", "1", "--json")
    assert [one["address"] for one in json.loads(done.stdout)] == ["ann@example.org"]
    assert done.stderr == "the first 1; there are more: --limit N\n"
    assert not running.run("list", "--limit", "3").stderr
    assert json.loads(running.run("list", "--tenant", "two", "--json").output) == []

    done = running.run("remove", "joe@example.org", "bob@example.org", "--json")
    assert done.exit_code == 1
    assert "bob@example.org is not on the list" in done.stderr
    assert [one["address"] for one in json.loads(done.stdout)] == ["joe@example.org"]
    assert running.run("remove", "ann@example.org", "--tenant", "two").exit_code == 1
    assert running.run("remove", "ann@example.org").output == "removed: ann@example.org  for one\n"


def test_what_is_wrong_is_told(running: Running) -> None:
    done = running.run("add", "joe", "ann@example.org")
    assert done.exit_code == 1
    assert "backstamp: joe: is not an address; write user@example.org" in done.stderr
    assert "suppressed: ann@example.org" in done.stdout
    assert "--for: " in running.run("add", "joe@example.org", "--for", "soon").stderr
    assert "say which queue" in command("list").stderr
    assert running.run("remove", "joe").exit_code == 1


def test_import_of_one(running: Running, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("one@example.org\n")
    assert running.run("import", table).output == "1 entry taken\n"


def test_export_and_import(running: Running, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "address,tenant\n" + "".join(f"u{number:04}@example.org,one\n" for number in range(1200))
    )
    assert running.run("import", table).output == "1200 entries taken\n"
    kept = tmp_path / "list.ndjson"
    assert running.run("export", "-o", kept).exit_code == 0
    lines = kept.read_text()
    assert lines.count("\n") == 1200
    assert running.run("export").stdout == lines
    assert json.loads(running.run("import", kept, "--json").output) == {"entries": 1200}
    assert len(running.run("list", "--limit", "1100").stdout.splitlines()) == 1100

    running.stop()
    try:
        assert command("export", "--queue", running.queue).stdout == lines
        done = command("list", "--queue", running.queue, "--limit", "1100", "--json")
        assert len(json.loads(done.stdout)) == 1100
        done = command("list", "--queue", running.queue, "--address", "U0007@example.org")
        assert done.output.startswith("u0007@example.org  for one  import  until it is removed")
        done = running.run("list")
        assert done.exit_code == 1
        assert "no relay answers" in done.stderr
    finally:
        running.start()


def test_a_file_with_mistakes_names_its_lines(running: Running, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("a@b.example\nbob\nc@d.example\ncid\n")
    done = running.run("import", table)
    assert done.exit_code == 1
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [
        f"{table}:2",
        f"{table}:4",
        "backstamp",
    ]
    assert running.run("list").output == ""
    assert "no such file" in running.run("import", tmp_path / "nothing").stderr


def test_a_list_in_use_is_not_read_beside_the_relay(running: Running) -> None:
    running.run("add", "joe@example.org")
    done = command("list", "--queue", running.queue)
    assert done.exit_code == 2
    assert done.stderr == (
        f"backstamp: {running.queue}/{NAME}: a relay has it open; ask that one with --config FILE\n"
    )


def test_standard_input_is_imported(running: Running) -> None:
    line = '{"address": "joe@example.org"}\n'
    asked = ["suppression", "import", "-", "--config", str(running.config)]
    done = CliRunner().invoke(build(), asked, input=line)
    assert (done.output, done.exit_code) == ("1 entry taken\n", 0)
    done = CliRunner().invoke(build(), asked, input=line + "?\n")
    assert done.exit_code == 1
    assert done.stderr.startswith("standard input:2: ")
    assert "backstamp: standard input: nothing was taken" in done.stderr


def test_a_stopped_queue_without_a_list_or_with_a_broken_one(tmp_path: Path) -> None:
    assert command("list", "--queue", tmp_path).output == ""
    assert command("list", "--queue", tmp_path / "nothing").exit_code == 2
    mistaken = command("list", "--queue", tmp_path, "--address", "x")
    assert mistaken.stderr == "backstamp: x: is not an address; write user@example.org\n"
    (tmp_path / NAME).write_bytes(b"no database" * 1000)
    done = command("export", "--queue", tmp_path)
    assert done.exit_code == 2
    assert "not a database" in done.stderr
