"""`backstamp queue` as an operator types it: what is no queue id, no queue, or too much for one page."""

from pathlib import Path

import pytest
from tests.support.process import CONFIG, free_port
from typer.testing import CliRunner

from backstamp.cli import build
from backstamp.cli.configuration import BAD_CONFIGURATION

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
