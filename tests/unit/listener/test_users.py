"""The users file in memory, and written."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
from tests.unit.listener.test_accounts import ANN, BOB, made

from backstamp.listener import users
from backstamp.listener.accounts import Account, UsersError
from backstamp.listener.users import PERIOD, Users, UserTable, change, load, verifier
from backstamp.telemetry.events import Alarm, Event


class World:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.events: list[Event] = []
        self.users = Users(str(path), monotonic=lambda: self.now, wall=lambda: 5.0, emit=self.events.append)

    def names(self) -> list[str]:
        self.now += PERIOD
        return list(self.users.table.accounts)

    def alarms(self) -> list[str]:
        found = [f"{one.problem}; {one.action}" for one in self.events if isinstance(one, Alarm)]
        self.events.clear()
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    put(tmp_path / "users", ANN)
    made = World(tmp_path / "users")
    made.users.open()
    return made


def put(path: Path, account: Account) -> None:
    change(str(path), account.user.name, lambda _: account)


def test_a_change_is_seen_within_a_second(world: World) -> None:
    assert list(world.users.table.accounts) == ["ann"]
    generation = world.users.table.generation
    put(world.path, BOB)
    assert list(world.users.table.accounts) == ["ann"], "looked at less than a second ago"
    assert world.names() == ["ann", "bob"]
    assert world.users.table.generation > generation
    assert world.alarms() == []


def test_what_did_not_change_is_not_read_again(world: World) -> None:
    table = world.users.table
    world.now += 100
    assert world.users.table is table


def test_a_broken_file_changes_nothing_and_is_told_once(world: World) -> None:
    table = world.users.table
    for content in ("{}\n", "{\n"):
        world.path.write_text(content)
        assert world.names() == ["ann"]
    assert world.users.table is table
    (alarm,) = world.alarms()
    assert alarm.startswith(f"{world.path}: line 1: not a JSON object of a user")
    assert alarm.endswith("; the users read before stay")
    world.path.unlink()
    put(world.path, BOB)
    assert world.names() == ["bob"]
    assert world.alarms() == [f"{world.path}: can be used again; 1 users were read"]


def test_a_file_that_is_gone_changes_nothing(world: World) -> None:
    world.path.unlink()
    assert world.names() == ["ann"]
    assert world.names() == ["ann"]
    (alarm,) = world.alarms()
    assert "no such file" in alarm
    put(world.path, ANN)
    assert world.names() == ["ann"]
    assert len(world.alarms()) == 1


def test_at_the_start_the_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="users: no such file; backstamp user add makes it"):
        World(tmp_path / "users").users.open()


def test_a_directory_a_pipe_and_too_much_are_no_users_file(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsersError, match="not a regular file"):
        load(str(tmp_path / "pipe"))
    with pytest.raises(UsersError, match="directory"):
        load(str(tmp_path))
    with pytest.raises(UsersError, match="null"):
        load("a\0b")
    monkeypatch.setattr(users, "SIZE", 10)
    (tmp_path / "large").write_text("#" * 11)
    with pytest.raises(UsersError, match="more than 10 octets"):
        load(str(tmp_path / "large"))


def test_the_file_is_its_owners_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "users"
    (tmp_path / "users.new").write_text("of a crash")
    put(path, ANN)
    put(path, BOB)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["users"]
    change(str(path), "ann", lambda _: None)
    assert list(load(str(path))) == ["bob"]


@pytest.mark.parametrize(
    ("before", "after"), [(0o640, 0o640), (0o644, 0o640), (0o666, 0o640), (0o400, 0o600)]
)
def test_its_group_reads_it_as_before(tmp_path: Path, before: int, after: int) -> None:
    """Or a change of root's would take it from a relay that reads it by its group."""
    path = tmp_path / "users"
    put(path, ANN)
    path.chmod(before)
    put(path, BOB)
    assert path.stat().st_mode & 0o777 == after


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "other", ANN)
    (tmp_path / "users").symlink_to(tmp_path / "other")
    with pytest.raises(UsersError, match="a symbolic link is not followed"):
        put(tmp_path / "users", BOB)
    assert (tmp_path / "users").is_symlink()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsersError, match="a symbolic link is not followed"):
        put(tmp_path / "dangling", BOB)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "other", "users"]


def test_a_broken_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("ann:x\n")
    with pytest.raises(UsersError, match="line 1: not a JSON object"):
        put(path, BOB)
    assert path.read_text() == "ann:x\n"


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "users"
    put(path, ANN)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(users.os, "fsync", full)
        with pytest.raises(UsersError, match="users: no space left on device"):
            put(path, BOB)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["users"]
    with pytest.raises(UsersError, match="no such file or directory"):
        put(tmp_path / "nowhere" / "users", ANN)


def test_two_changes_at_once_are_both_made(tmp_path: Path) -> None:
    path = tmp_path / "users"
    accounts = [made(f"user{number}", scram=False) for number in range(8)]
    threads = [threading.Thread(target=put, args=(path, one)) for one in accounts]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(load(str(path))) == 8


def test_a_lock_that_is_not_given_back_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(users, "PATIENCE", 0.1)
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(UsersError, match="somebody else is changing it"):
        put(tmp_path / "users", ANN)
    os.close(held)
    put(tmp_path / "users", ANN)


def test_nobody_has_keys_that_look_like_somebodys() -> None:
    """Security 11: SCRAM does not tell who exists."""
    assert ANN.scram is not None
    table = UserTable({"ann": ANN, "bob": BOB}, 1, 4096)
    assert verifier(table, "ann", b"secret") is ANN.scram
    for name in ("bob", "nobody", "\ud800"):
        keys = verifier(table, name, b"secret")
        assert keys == verifier(table, name, b"secret"), "the same at every question"
        assert keys != verifier(table, name + "x", b"secret")
        assert keys.salt != verifier(table, name, b"another process").salt
        lengths = [(one.iterations, len(one.salt), len(one.stored_key)) for one in (keys, ANN.scram)]
        assert lengths[0] == lengths[1]
