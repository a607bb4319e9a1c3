"""`backstamp queue` as an operator types it: what is no queue id, no queue, or too much for one page."""

import json
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from tests.support.process import CONFIG, free_port
from tests.support.queues import local_queue, message
from typer.testing import CliRunner

from backstamp.cli import build, queue, verbs
from backstamp.cli.configuration import BAD_CONFIGURATION
from backstamp.queue import ids
from backstamp.queue.view import MessageView, RecipientView

NOBODY = "01M851RQPP73GN3XVVNKKD3C5B"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of a relay that does not run."""
    path = tmp_path / "backstamp.toml"
    path.write_text(
        CONFIG.format(queue=tmp_path / "q", port=free_port(), via="127.0.0.1:9", admin=free_port())
    )
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), [*map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


COMMANDS = [
    ("queue", "show"),
    ("queue", "hold"),
    ("queue", "release"),
    ("queue", "retry"),
    ("queue", "remove"),
    ("queue", "bounce"),
    ("explain",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("bogus", "a queue id has 26 characters, 'bogus' has 5"),
        ("doubt", "a queue id has 26 characters, 'doubt' has 5"),
        ("a b", "a queue id has 26 characters, 'a b' has 3"),
        ("ö", "a queue id has 26 characters, 'ö' has 1"),
        (f"{NOBODY[:-1]}Ö", "'Ö' does not occur in a queue id"),
        (f"{NOBODY[:-6]}/doubt", "'/' does not occur in a queue id"),
        (f"{NOBODY}/retry?", f"a queue id has 26 characters, '{NOBODY}/retry?' has 33"),
    ],
)
def test_what_is_no_queue_id_is_said_by_all_alike(
    config: Path, command: tuple[str, ...], written: str, said: str
) -> None:
    """And nobody is asked: there is no relay that would answer."""
    assert run(*command, written, "--config", config) == (BAD_CONFIGURATION, "", f"backstamp: {said}\n")


def test_no_verb_begins_where_one_of_its_ids_is_none(config: Path) -> None:
    code, _, complaint = run("queue", "hold", NOBODY, "bogus", "--config", config)
    assert (code, complaint) == (
        BAD_CONFIGURATION,
        "backstamp: a queue id has 26 characters, 'bogus' has 5\n",
    )


@pytest.mark.parametrize("command", [("list",), ("doubt",), ("show", NOBODY)], ids=" ".join)
def test_a_directory_that_is_no_queue_is_not_taken_for_an_empty_one(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """The words are those of fsck."""
    for nothing in (tmp_path / "nowhere", tmp_path):
        complaint = f"backstamp: {nothing} is no queue: there is no {nothing}/FORMAT\n"
        assert run("queue", *command, "--queue", nothing) == (BAD_CONFIGURATION, "", complaint)
        assert run("fsck", nothing) == (BAD_CONFIGURATION, "", complaint)
    (tmp_path / "0").mkdir()
    (tmp_path / "FORMAT").write_text("backstamp queue 2\n")
    said = "FORMAT says 'backstamp queue 2', this version reads 'backstamp queue 1'"
    complaint = f"backstamp: {tmp_path}/{said}\n"
    assert run("queue", *command, "--queue", tmp_path) == (BAD_CONFIGURATION, "", complaint)


@pytest.mark.parametrize(
    ("command", "other"),
    [
        (("queue", "list", "--queue", "q"), "--queue"),
        (("queue", "show", NOBODY, "--queue", "q"), "--queue"),
        (("queue", "doubt", "--queue", "q"), "--queue"),
        (("suppression", "list", "--queue", "q"), "--queue"),
        (("suppression", "export", "--queue", "q"), "--queue"),
        (("fsck", "q"), "DIR"),
        (("user", "list", "--users", "u"), "--users"),
        (("user", "add", "me", "--users", "u"), "--users"),
        (("user", "remove", "me", "--users", "u"), "--users"),
        (("user", "passwd", "me", "--users", "u"), "--users"),
    ],
    ids=" ".join,
)
def test_who_names_two_is_not_answered_for_one(config: Path, command: tuple[str, ...], other: str) -> None:
    complaint = f"backstamp: write one of --config and {other}\n"
    assert run(*command, "--config", config) == (BAD_CONFIGURATION, "", complaint)


def seen(number: int, *times: float | None) -> MessageView:
    """Return a message that waits, its recipients until some times."""
    people = tuple(
        RecipientView(f"r{at}@x.example", "T", "to do", time) for at, time in enumerate(times or (5.0,))
    )
    return MessageView(ids.text(number.to_bytes(16, "big")), 1.8e9, "a@b.example", 1234, people)


class Relay:
    """A relay that has some messages; it is asked as the running one, and gives no more at once than that."""

    def __init__(self, messages: int) -> None:
        self.messages = [msgspec.to_builtins(seen(number)) for number in range(1, messages + 1)]
        self.asked: list[int] = []

    def __call__(self, _: str | None, path: str) -> dict[str, object]:
        query = parse_qs(urlsplit(path).query)
        limit, after = int(query["limit"][0]), query.get("after", [""])[0]
        assert 1 <= limit <= 1000
        self.asked.append(limit)
        return {"messages": [one for one in self.messages if one["queue_id"] > after][:limit]}


@pytest.mark.parametrize(
    ("messages", "limit", "listed", "asked"),
    [
        (100, 100, 100, [101, 1]),
        (101, 100, 100, [101]),
        (999, 1000, 999, [1000, 2]),
        (2500, 1000, 1000, [1000, 1]),
        (2500, 3000, 2500, [1000, 1000, 1000, 501]),
    ],
)
def test_a_list_says_that_it_was_cut(
    monkeypatch: pytest.MonkeyPatch, messages: int, limit: int, listed: int, asked: list[int]
) -> None:
    """And goes on, page by page, as far as it was told to."""
    relay = Relay(messages)
    monkeypatch.setattr(queue, "ask", relay)
    cut = f"the first {limit}; more wait: --limit N\n" if messages > listed else ""
    code, said, complaint = run("queue", "list", "--config", "x", "--limit", limit)
    assert (code, len(said.splitlines()), complaint) == (0, listed, cut)
    assert relay.asked == asked
    code, said, complaint = run("queue", "list", "--config", "x", "--limit", limit, "--json")
    assert (code, len(json.loads(said)), complaint) == (0, listed, cut)


async def test_a_list_of_files_says_that_it_was_cut(tmp_path: Path) -> None:
    stopped = await local_queue(tmp_path)
    for _ in range(3):
        await stopped.append(message(b"a@x.example"))
    await stopped.close()
    code, said, complaint = run("queue", "list", "--queue", tmp_path, "--limit", 2)
    assert (code, len(said.splitlines()), complaint) == (0, 2, "the first 2; more wait: --limit N\n")
    assert run("queue", "list", "--queue", tmp_path, "--limit", 3)[2] == ""


@pytest.mark.parametrize(
    ("messages", "end"), [(1, "1 message"), (2, "2 messages"), (3, "the first 2; more wait: --limit N")]
)
def test_on_a_terminal_ids_are_whole_and_the_last_line_is_true(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], messages: int, end: str
) -> None:
    monkeypatch.setenv("TERM", "dumb")  # 80 columns, and nothing but letters
    monkeypatch.setattr(queue, "ask", Relay(messages))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    queue.list_(config="x", limit=2)
    said, complaint = capsys.readouterr()
    assert [one.queue_id in said for one in map(seen, range(1, 4))] == [True, messages > 1, False]
    assert all(len(line) <= 80 for line in said.splitlines())
    assert (said.splitlines()[-1], complaint) == (end, "")


def test_what_strangers_are_called_turns_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security 22: with SMTPUTF8 an address may have a mark that turns the direction of text."""
    turned = msgspec.structs.replace(seen(1, 5.0), sender="a\u202eb@x.test")
    turned = msgspec.structs.replace(turned, recipients=(RecipientView("c\u202ed@x.test", "?", "in doubt"),))
    doubt = {"recipient": "c\u202ed@x.test", "stamp": "?", "meaning": "", "sender": "a\u202eb@x.test"}
    answers = {
        "list": {"messages": [msgspec.to_builtins(turned)]},
        "show": msgspec.to_builtins(turned),
        "doubt": {"recipients": [{"queue_id": NOBODY, "arrival": 1.0, **doubt}]},
        "hold": {"changed": ["c\u202ed@x.test"]},
    }
    for command, answer in answers.items():
        asked = iter([answer, {}])
        for module in (queue, verbs):
            monkeypatch.setattr(module, "ask", lambda *_, asked=asked: next(asked))
        words = [] if command in ("list", "doubt") else [NOBODY]
        code, said, _ = run("queue", command, *words, "--config", "x")
        assert (code, "\u202e" in said) == (0, False)
        assert "c d@x.test" in said


def test_the_next_attempt_is_the_earliest() -> None:
    assert queue._row(seen(1, 7200.0, 3600.0, None))[-1] == "1970-01-01T01:00:00.000Z"
    assert queue._row(seen(1, None))[-1] == "-"


@pytest.mark.parametrize("command", [*COMMANDS[1:2], ("suppression", "add"), ("suppression", "remove")])
def test_help_says_once_that_there_may_be_several(command: tuple[str, ...]) -> None:
    assert "...}" not in run(*command, "--help")[1]
