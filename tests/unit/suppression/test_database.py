"""The suppression list's file."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from backstamp.policy.suppression import DAY, Entry, Source, SuppressionPolicy
from backstamp.suppression.database import NAME, Asked, Bounce, DamagedFileError, Database

NOW = 1_764_000_000.0
ON = SuppressionPolicy(enabled=True)
JOE = Entry("joe@example.org", "", "invalid-recipient", "550 no", 7, 9, Source.BOUNCE)
ANN = Entry("ann@example.org", "one", since=7, source=Source.OPERATOR)
ALL = Entry("@example.net", since=7)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/{NAME}"


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    made = Database(path)
    made.open()
    yield made
    made.close()


def bounce(time: float = NOW, address: bytes = b"Joe@example.org") -> Bounce:
    return Bounce(address, b"t", "invalid-recipient", "550 no", time)


def test_a_relay_without_a_list_has_no_file(database: Database, tmp_path: Path) -> None:
    assert list(database.entries()) == []
    assert database.page(Asked()) == []
    assert database.remove("joe@example.org", None) == []
    assert database.expire(NOW, DAY) == []
    assert os.listdir(tmp_path) == []


def test_what_was_put_is_there_after_a_restart_for_the_owner_alone(database: Database, path: str) -> None:
    database.put([JOE, ANN, ALL])
    database.close()
    assert os.listdir(Path(path).parent) == [NAME]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    database.open()
    assert list(database.entries()) == [ALL, ANN, JOE]


def test_put_is_all_or_nothing(database: Database) -> None:
    database.put([JOE])

    def broken() -> Iterator[Entry]:
        yield ANN
        raise ValueError("line 2")

    with pytest.raises(ValueError, match="line 2"):
        database.put(broken())
    assert list(database.entries()) == [JOE]


def test_an_entry_replaces_that_of_the_same_address_and_tenant(database: Database) -> None:
    database.put([JOE])
    database.put([Entry(JOE.address, "", "other"), Entry(JOE.address, "one")])
    assert [(one.tenant, one.bounce_class) for one in database.entries()] == [("", "other"), ("one", "")]


def test_pages(database: Database) -> None:
    entries = [Entry(f"u{number:02}@{name}") for name in ("a.example", "b.example") for number in range(20)]
    database.put(reversed(entries))
    found: list[Entry] = []
    after = None
    while page := database.page(Asked(limit=7, after=after)):
        found += page
        after = (page[-1].address, page[-1].tenant)
    assert found == entries
    last = ("u18@a.example", "")
    assert database.page(Asked(domain="a.example", after=last)) == [entries[19]]
    assert len(database.page(Asked(domain="b.example"))) == 20
    assert database.page(Asked(address="u03@b.example")) == [entries[23]]
    assert database.page(Asked(address="u03@c.example")) == []


def test_pages_of_a_tenant_and_of_a_whole_domain(database: Database) -> None:
    database.put([JOE, ANN, ALL])
    assert database.page(Asked(tenant="one")) == [ANN]
    assert database.page(Asked(tenant="")) == [ALL, JOE]
    assert database.page(Asked(address="@example.net")) == [ALL]
    assert database.page(Asked(domain="example.net")) == [ALL]


def test_removing(database: Database) -> None:
    ours = Entry(ANN.address, "two")
    database.put([JOE, ANN, ours])
    assert database.remove(ANN.address, "two") == [ours]
    assert database.remove(ANN.address, "two") == []
    database.put([ours])
    assert database.remove(ANN.address, None) == [ANN, ours]
    assert list(database.entries()) == [JOE]


def test_the_second_bounce_suppresses_also_after_a_restart(database: Database) -> None:
    assert database.learn(ON, [bounce()]) == []
    database.close()
    database.open()
    [made] = database.learn(ON, [bounce(NOW + 1)])
    assert (made.address, made.tenant, made.source) == ("joe@example.org", "t", Source.BOUNCE)
    assert list(database.entries()) == [made]


def test_two_bounces_together_suppress(database: Database) -> None:
    assert len(database.learn(ON, [bounce(), bounce(address=b"ann@example.org"), bounce()])) == 1


def test_who_is_in_the_list_is_not_learned_again(database: Database) -> None:
    own = Entry("joe@example.org", "t", source=Source.OPERATOR)
    database.put([own])
    assert database.learn(ON, [bounce(), bounce()]) == []
    assert list(database.entries()) == [own]


def test_who_bounces_again_after_an_entry_has_ended_is_learned_again(database: Database) -> None:
    database.put([Entry("joe@example.org", "t", expires=int(NOW))])
    [made] = database.learn(ON, [bounce(NOW), bounce(NOW + 1)])
    assert list(database.entries()) == [made]


def test_who_was_removed_begins_anew(database: Database) -> None:
    database.learn(ON, [bounce(), bounce()])
    assert database.learn(ON, [bounce()]) == []
    database.remove("joe@example.org", None)
    assert database.learn(ON, [bounce()]) == []


def test_what_has_ended_goes_and_so_do_old_bounces(database: Database) -> None:
    database.put([Entry(f"u{number}@example.org", expires=int(NOW) + number) for number in range(5)] + [ANN])
    database.learn(ON, [bounce(NOW - DAY)])
    assert database.expire(NOW + 3, 10 * DAY, limit=3) == [
        (f"u{number}@example.org", "") for number in range(3)
    ]
    assert database.expire(NOW + 3, DAY) == [("u3@example.org", "")]
    assert database.expire(NOW + 3, DAY) == []
    assert [one.address for one in database.entries()] == ["ann@example.org", "u4@example.org"]
    assert database.learn(ON, [bounce()]) == [], "the bounce of a day ago is forgotten"


def test_a_file_that_is_no_list(path: str) -> None:
    Path(path).write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(DamagedFileError, match="not a database"):
        Database(path).open()


def test_a_damaged_file(database: Database, path: str) -> None:
    database.put(Entry(f"u{number}@example.org") for number in range(2000))
    database.close()
    with open(path, "r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 8192)
    with pytest.raises(DamagedFileError):
        database.open()


def test_a_file_of_another_version_is_not_touched(database: Database, path: str) -> None:
    database.put([JOE])
    database.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = Path(path).read_bytes()
    with pytest.raises(OSError, match="version 9"):
        database.open()
    assert Path(path).read_bytes() == before


def test_a_file_somebody_else_has(database: Database, path: str) -> None:
    database.put([JOE])
    with pytest.raises(BlockingIOError, match="somebody else has it open"):
        Database(path).open()


def test_a_link_is_not_followed(database: Database, path: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(OSError, match="symbolic links"):
        database.open()


def test_a_write_that_fails_leaves_the_list_as_it_was(database: Database) -> None:
    database.put([JOE])
    connection = database._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(sqlite3.Error, match="full"):
        database.put(Entry(f"u{number}@example.org", reply="x" * 900) for number in range(200))
    assert list(database.entries()) == [JOE]
    database.put([ANN])
    assert list(database.entries()) == [ANN, JOE]
