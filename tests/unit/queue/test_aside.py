"""What cannot be read is kept whole, or not under its name."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.faults import FaultyFiles

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
