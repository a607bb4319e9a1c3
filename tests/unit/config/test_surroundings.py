"""What of the machine would keep a relay from starting, told before it does."""

import errno
import os
import socket
from pathlib import Path

import pytest

from backstamp.config import ConfigurationError, apart
from backstamp.config.load import load
from backstamp.config.surroundings import mistakes

HEAD = """\
hostname = "relay.example.org"
[queue]
directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
auth = "required"
[auth]
users = "{users}"
"""


def told(file: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(file, starting=True)
    return [str(problem) for problem in raised.value.problems]


def test_a_users_file_that_cannot_be_used_is_a_mistake_of_its_key(tmp_path: Path) -> None:
    file, users = tmp_path / "x.toml", tmp_path / "users.toml"
    file.write_text(HEAD.format(users=users))
    at = f"{file}:8: auth.users: {users}: "
    assert told(file) == [f"{at}no such file; backstamp user add makes it"]
    users.mkdir()
    assert told(file) == [f"{at}is a directory"]
    users.rmdir()
    users.write_text("user = 5\n")
    [line] = told(file)
    assert line.startswith(at)
    users.write_text("")
    assert load(file, starting=True) == load(file) == apart.begin(str(file), starting=True)()


def test_who_only_asks_a_configuration_does_without_users(tmp_path: Path) -> None:
    """`user add --config` makes the file; a reload keeps the users it has."""
    file = tmp_path / "x.toml"
    file.write_text(HEAD.format(users=tmp_path / "users.toml"))
    assert load(file) == apart.load(str(file))
    with pytest.raises(ConfigurationError, match="user add makes it"):
        apart.begin(str(file), starting=True)()


def test_a_socket_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("somebody's")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "taken"))
        places = ["none/smtp.sock", "file/smtp.sock", "file", "taken", "free"]
        listeners = [{"address": f"unix:{tmp_path}/{place}"} for place in places]
        found = mistakes({"listen": [*listeners, {"address": "127.0.0.1:25"}, {"address": 5}]})
    assert [(path, text.rpartition('": ')[2]) for path, text in found] == [
        (("listen", 0, "address"), "its directory is not there; make it first"),
        (("listen", 1, "address"), "its directory is not there; make it first"),
        (("listen", 2, "address"), "a file that is no socket is there; remove it, or write another path"),
    ]
    assert (tmp_path / "file").read_text() == "somebody's"


def test_a_file_in_the_queues_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("somebody's")
    (tmp_path / "there").mkdir()
    for place in ("there", "there/new/queue", "new/queue"):
        assert mistakes({"queue": {"directory": f"{tmp_path}/{place}"}}) == []
    for place in ("file", "file/queue"):
        [(path, text)] = mistakes({"queue": {"directory": f"{tmp_path}/{place}"}})
        assert path == ("queue", "directory")
        assert text == f'"{tmp_path}/file" is no directory; remove it, or write another path'
    (tmp_path / "link").symlink_to("nowhere")
    [(_, text)] = mistakes({"queue": {"directory": f"{tmp_path}/link"}})
    assert text.startswith(f'"{tmp_path}/link" is no directory')


def test_a_disk_that_does_not_say_what_is_there_is_no_reason_to_remove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: object, **_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "stat", failing)
    assert mistakes({"queue": {"directory": str(tmp_path)}}) == []


@pytest.mark.parametrize("strange", [None, 5, [5], {}, {"users": 5}, {"users": ""}, [{"address": "unix:x"}]])
def test_what_names_nothing_is_passed_over(strange: object) -> None:
    assert mistakes({"auth": strange, "listen": strange, "queue": strange}) == []
