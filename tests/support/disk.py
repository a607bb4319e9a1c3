"""A file system in a file, whose power can be cut: what was not synced is gone."""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SHUTDOWN = 0x8004587D
"""The ioctl of ext4, XFS and f2fs that ends a file system where it stands (`_IOR('X', 125, __u32)`)."""

NO_LOG_FLUSH = 2
"""Not even what is in the journal's buffers gets to the disk."""

SIZE = 256 * 1024 * 1024


class Disk:
    """A file system of a kind, in a file below a directory."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.kind = kind
        self.image = directory / "image"
        self.root = directory / "mounted"

    def missing(self) -> str | None:
        """Make the file system; say why that cannot be done here, None if it was."""
        if os.geteuid() != 0:
            return "only root may mount"
        if shutil.which(f"mkfs.{self.kind}") is None:
            return f"mkfs.{self.kind} is not installed"
        self.root.mkdir()
        with self.image.open("wb") as image:
            image.truncate(SIZE)
        made = _run(f"mkfs.{self.kind}", "-q", str(self.image)) or self._mount()
        if made is None:
            self._unmount()
        return made

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount it, and let go of it whatever happens."""
        assert (problem := self._mount()) is None, problem
        try:
            yield self.root
        finally:
            self._unmount()

    def cut(self) -> None:
        """Cut the power. From now on every write fails, until it is mounted again."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def _mount(self) -> str | None:
        return _run("mount", "-o", "loop", str(self.image), str(self.root))

    def _unmount(self) -> None:
        for _ in range(50):
            if (problem := _run("umount", str(self.root))) is None:
                return
            time.sleep(0.1)
        _run("umount", "--lazy", str(self.root))
        raise AssertionError(problem)


def _run(*command: str) -> str | None:
    """Run a command; return what it complained of, None if it worked."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{command[0]}: {done.stderr.strip()[:200]}"
