"""`backstamp user`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from typer.testing import CliRunner, Result

from backstamp.cli import build
from backstamp.listener import accounts, passwords
from backstamp.listener.users import load

CONFIG = """\
hostname = "relay.example.org"
[queue]
directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
[auth]
users = "{users}"
"""


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = PasswordHasher(1, 8, 1)
    monkeypatch.setattr(
        passwords.account, "__kwdefaults__", {"scram": True, "hasher": hasher, "iterations": 4096}
    )


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users"


def run(*arguments: str | Path, typed: str | None = None) -> Result:
    return CliRunner().invoke(build(), ["user", *map(str, arguments)], input=typed)


def add(users: Path, name: str, *more: str, password: str = "s3cret\n") -> Result:
    return run("add", name, "--users", users, "--password-stdin", *more, typed=password)


def test_added_listed_changed_and_removed(users: Path) -> None:
    said = add(users, "ann", "--sender", "Example.org", "--sender", "a@b.example", "--tenant", "shop")
    assert (said.exit_code, said.stdout) == (0, "added: ann, sends as example.org, a@b.example\n")
    assert add(users, "bob", "--no-scram").stdout == "added: bob, sends as anybody\n"
    listed = run("list", "--users", users).stdout
    assert listed == "ann  as example.org, a@b.example  for shop\nbob  as anybody  without SCRAM\n"
    rows = json.loads(run("list", "--users", users, "--json").stdout)
    assert rows[0] == {
        "name": "ann",
        "senders": ["example.org", "a@b.example"],
        "tenant": "shop",
        "scram": True,
    }
    before = load(str(users))["ann"]
    assert (
        run("passwd", "ann", "--users", users, "--password-stdin", typed="0ther\n").stdout == "changed: ann\n"
    )
    after = load(str(users))["ann"]
    assert after.user == before.user
    assert PasswordHasher().verify(after.hash, "0ther")
    assert run("remove", "ann", "--users", users).stdout == "removed: ann\n"
    assert list(load(str(users))) == ["bob"]
    assert users.stat().st_mode & 0o777 == 0o600


def test_the_configuration_names_the_file(users: Path, tmp_path: Path) -> None:
    config = tmp_path / "backstamp.toml"
    config.write_text(CONFIG.format(users=users))
    assert run("add", "ann", "--config", config, "--password-stdin", typed="s3cret").exit_code == 0
    assert run("list", "--config", config).stdout == "ann  as anybody\n"
    config.write_text(CONFIG.format(users=users).partition("[auth]")[0])
    said = run("list", "--config", config)
    assert (said.exit_code, said.stderr) == (
        1,
        f"backstamp: {config}: [auth] has no users; write users = FILE, or name the file with --users\n",
    )
    assert run("list").exit_code == 2


def test_a_password_is_asked_for_twice_and_not_shown(users: Path) -> None:
    said = run("add", "ann", "--users", users, typed="s3cret\nother\ns3cret\ns3cret\n")
    assert said.exit_code == 0
    assert "s3cret" not in said.output
    assert said.stdout.endswith("added: ann, sends as anybody\n")
    assert PasswordHasher().verify(load(str(users))["ann"].hash, "s3cret")


@pytest.mark.parametrize(
    ("arguments", "password", "code", "why"),
    [
        (("add", "a\nb"), "s3cret", 2, "a name is printable characters"),
        (("add", "ann", "--sender", "*"), "s3cret", 2, "--sender or --tenant: is not a sender; write"),
        (("add", "ann", "--tenant", "a b"), "s3cret", 2, "--sender or --tenant: "),
        (("add", "ann"), "", 2, "this cannot be a password: it has nothing in it"),
        (("add", "ann"), "\n", 2, "this cannot be a password: it has nothing in it"),
        (("add", "ann"), "s3\tcret", 2, "this cannot be a password: it has control characters"),
        (("passwd", "ann"), "s3cret", 1, "no such file"),
    ],
)
def test_what_is_refused_makes_no_file(
    users: Path, arguments: tuple[str, ...], password: str, code: int, why: str
) -> None:
    said = run(*arguments, "--users", users, "--password-stdin", typed=password)
    assert said.exit_code == code
    assert said.stderr.startswith("backstamp: ")
    assert why in said.stderr
    assert "s3" not in said.output
    assert not os.path.exists(users)


def test_without_a_terminal_it_says_how_a_password_is_given(users: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backstamp", "user", "add", "ann", "--users", str(users)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,  # without a terminal, whoever runs the tests
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "backstamp: no terminal to ask for a password on; --password-stdin reads it"
    )
    assert "Warning" not in done.stderr
    assert "Aborted" not in done.stderr
    assert not users.exists()


def test_nobody_is_removed_from_a_file_that_is_not_there(users: Path) -> None:
    said = run("remove", "ann", "--users", users)
    assert (said.exit_code, said.stderr) == (
        1,
        f"backstamp: {users}: no such file; backstamp user add makes it\n",
    )


def test_a_password_that_is_not_utf8(users: Path) -> None:
    said = CliRunner().invoke(
        build(), ["user", "add", "ann", "--users", str(users), "--password-stdin"], input=b"\xff\n"
    )
    assert (said.exit_code, said.stderr) == (2, "backstamp: the password on standard input is not UTF-8\n")


def test_nobody_twice_and_nobody_who_is_not_there(users: Path) -> None:
    add(users, "ann")
    before = users.read_bytes()
    assert "ann is a user already; passwd gives them another password" in add(users, "ann").stderr
    for command in ("remove", "passwd"):
        said = run(command, "bob", "--users", users)
        assert (said.exit_code, said.stderr) == (1, f"backstamp: {users}: bob is no user\n")
    assert run("remove", "", "--users", users).exit_code == 2
    assert users.read_bytes() == before


def test_a_file_that_is_broken_is_told_with_its_line(users: Path) -> None:
    users.write_text("# users\nann:x\n")
    for said in (run("list", "--users", users), add(users, "bob"), run("remove", "bob", "--users", users)):
        assert said.exit_code == 1
        assert said.stderr.startswith(f"backstamp: {users}: line 2: not a JSON object of a user")
    assert users.read_text() == "# users\nann:x\n"


def test_what_another_command_did_meanwhile_is_seen(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(users, "ann")
    content = users.read_bytes()
    made = passwords.account

    def meanwhile(*args: object, **more: object) -> accounts.Account:
        users.write_bytes(b"" if content in users.read_bytes() else content)
        return made(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "account", meanwhile)
    said = run("passwd", "ann", "--users", users, "--password-stdin", typed="s3cret")
    assert (said.exit_code, said.stderr) == (1, f"backstamp: {users}: ann is no user\n")
    assert "ann is a user already" in add(users, "ann").stderr
