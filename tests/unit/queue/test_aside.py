"""What cannot be read is kept whole, or not under its name."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles
from tests.support.recording import RecordingFiles

from backstamp.queue.aside import put_aside


def never() -> Iterator[bytes]:
    raise AssertionError("looked at")
    yield b""


def test_parts_are_kept_once(tmp_path: Path) -> None:
    (tmp_path / "corrupt").mkdir()
    files = FaultyFiles()
    put_aside(files, str(tmp_path), "1-16.corrupt", [b"one", b"two"])
    put_aside(files, str(tmp_path), "1-16.corrupt", never())
    [kept] = (tmp_path / "corrupt").iterdir()
    assert (kept.name, kept.read_bytes()) == ("1-16.corrupt", b"onetwo")


def test_what_was_cut_short_has_no_name_and_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "corrupt").mkdir()
    files = FaultyFiles()
    files.writing = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        put_aside(files, str(tmp_path), "1-16.corrupt", [b"one"])
    assert not (tmp_path / "corrupt" / "1-16.corrupt").exists()
    files.writing = None
    put_aside(files, str(tmp_path), "1-16.corrupt", [b"one"])
    [kept] = (tmp_path / "corrupt").iterdir()
    assert (kept.name, kept.read_bytes()) == ("1-16.corrupt", b"one")


def test_a_copy_is_durable_before_it_has_its_name_and_then_its_name_is(tmp_path: Path) -> None:
    """Q9: what it is a copy of may go as soon as this returns."""
    (tmp_path / "corrupt").mkdir()
    files = RecordingFiles()
    put_aside(files, str(tmp_path), "7-16.tail", [b"one", b"two"])
    new = "7-16.tail.new"
    assert files.done == [f"create {new}", *[f"write {new}"] * 2, f"sync {new}", "sync directory corrupt"]
