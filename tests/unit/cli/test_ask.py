"""Asking the relay: itself, and in one line where what answers is none or breaks off."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.process import CONFIG
from typer.testing import CliRunner

from backstamp.cli import build

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
NOBODY = "01M851RQPP73GN3XVVNKKD3C5B"


class Answering:
    """What listens on the address of the HTTP side, and says one thing."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.config = directory / "backstamp.toml"
        self.config.write_text(
            CONFIG.format(queue=directory / "q", port=1, via="127.0.0.1:9", admin=self.port)
        )
        self.asked = b""

    def ask(self, answer: bytes, *words: str) -> tuple[int, str, str]:
        """Run a command; give an answer to what it asks."""

        def once() -> None:
            with self._socket.accept()[0] as client:
                self.asked = client.recv(65536)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    while client.recv(65536):
                        pass

        thread = threading.Thread(target=once)
        thread.start()
        result = CliRunner().invoke(build(), [*words, "--config", str(self.config)])
        thread.join(20)
        assert not isinstance(result.exception, Exception), result.exception
        return result.exit_code, result.stdout, result.stderr

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    made = Answering(tmp_path)
    yield made
    made.close()


COMMANDS = [
    ("queue", "list"),
    ("queue", "doubt"),
    ("queue", "show", NOBODY),
    ("queue", "hold", NOBODY),
    ("explain", NOBODY),
    ("route", "a@b.example"),
    ("suppression", "list"),
    ("suppression", "add", "a@b.example"),
    ("suppression", "import", "/dev/null"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"220 relay.example.org ESMTP\r\n", "is no relay"),
        (HEAD + b"7\r\n\r\n<html>\n", "is no relay"),
        (HEAD + b'500\r\n\r\n{"messages":[', "broke off"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 503 Full\r\nContent-Length: 5\r\n\r\nFull\n", "answered 503"),
        (b"", "no relay answers"),
    ],
)
def test_what_is_no_answer_is_one_line(
    answering: Answering, command: tuple[str, ...], answer: bytes, said: str
) -> None:
    code, printed, complaint = answering.ask(answer, *command)
    assert (code, printed) == (1, "")
    [line] = complaint.splitlines()
    assert line.startswith("backstamp: ")
    assert said in line


def test_a_proxy_of_the_environment_is_not_asked(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see who mail is for, and know no relay."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert answering.ask(HEAD + b'15\r\n\r\n{"messages":[]}', "queue", "list") == (0, "", "")
    assert answering.asked.startswith(b"GET /api/v1/queue?limit=101 HTTP/1.1\r\n")


def test_an_export_that_breaks_off_leaves_nothing(answering: Answering, tmp_path: Path) -> None:
    kept = tmp_path / "list.ndjson"
    kept.write_text("yesterday's\n")
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}{}\n\r\n"
    code, _, complaint = answering.ask(begun, "suppression", "export", "-o", str(kept))
    assert (code, complaint) == (1, "backstamp: the relay's answer broke off; the export is not whole\n")
    assert kept.read_text() == "yesterday's\n"
    assert answering.ask(b"", "suppression", "export", "-o", str(kept))[0] == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("list")] == [kept.name]


def test_an_export_into_what_is_no_file_leaves_it_what_it_is(answering: Answering, tmp_path: Path) -> None:
    """As root, /dev/null was a file afterwards."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n"
    (tmp_path / "null").symlink_to("/dev/null")
    assert answering.ask(whole, "suppression", "export", "-o", str(tmp_path / "null"))[0] == 0
    assert (tmp_path / "null").is_char_device()
    (tmp_path / "there").write_text("old")
    (tmp_path / "link").symlink_to("there")
    assert answering.ask(whole, "suppression", "export", "-o", str(tmp_path / "link"))[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == "{}\n"


def test_help_has_no_types_of_pythons() -> None:
    for words in ("queue hold", "queue show", "fsck", "user add", "suppression import"):
        said = CliRunner().invoke(build(), [*words.split(), "--help"]).stdout
        assert "str>" not in said
