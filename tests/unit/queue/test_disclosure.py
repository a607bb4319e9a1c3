"""What others on the machine see of the queue."""

import errno
import os
import stat
from pathlib import Path

import pytest
from tests.support.queues import local_queue, message

from backstamp.queue.files import DiskFiles


async def test_nobody_else_reads_the_queue(tmp_path: Path) -> None:
    """Security 21: directories 0700, files 0600, whatever the umask; no address in a name."""
    root = tmp_path / "queue"
    before = os.umask(0)
    try:
        queue = await local_queue(root)
        sent = message(b"recipient@example.com")
        await queue.append(sent)
        await queue.close()
    finally:
        os.umask(before)
    found = [root, *root.rglob("*")]
    assert sum(path.is_file() for path in found) >= 1
    for path in found:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        assert "@" not in path.name
        for address in (sent.envelope.sender, *(one.address for one in sent.envelope.recipients)):
            assert address.partition(b"@")[0].decode() not in path.name.split(".")


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    """Security 21: whichever way the queue opens a file."""
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    elsewhere.write_bytes(b"not the queue's")
    link.symlink_to(elsewhere)
    files = DiskFiles()
    for opened in (
        lambda: files.create(str(link)),
        lambda: files.open(str(link), write=True),
        lambda: files.open(str(link), write=False),
        lambda: files.lock(str(link)),
    ):
        with pytest.raises(OSError) as told:
            opened()
        assert told.value.errno in (errno.ELOOP, errno.EEXIST)
    assert elsewhere.read_bytes() == b"not the queue's"
