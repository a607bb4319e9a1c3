"""Every syscall on the queue, and nothing else: the seam where tests put faults and power cuts.

Paths are text, files are descriptors. Nothing here decides anything; what must be synced
before what is said in `store`, `segment` and `recovery`.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from typing import Protocol


class QueueLockedError(Exception):
    """Another process has the queue (Q10)."""


class Files(Protocol):
    """What the queue asks of a file system. Every method may raise OSError."""

    def make_directory(self, path: str) -> None:
        """Create a directory (0700) where there is none."""
        ...

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory, or a link to one, is there."""
        ...

    def listing(self, path: str) -> list[str]:
        """Return the names in a directory."""
        ...

    def create(self, path: str) -> int:
        """Create a file (0600) that must not exist yet."""
        ...

    def open(self, path: str, *, write: bool) -> int:
        """Open an existing file, never a symbolic link."""
        ...

    def close(self, descriptor: int) -> None:
        """Close a file. Does not fail."""
        ...

    def size(self, descriptor: int) -> int:
        """Return a file's length."""
        ...

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Return up to `length` octets from `offset`; fewer only at the end of the file."""
        ...

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers one behind the other from `offset` on."""
        ...

    def poke(self, descriptor: int, octets: bytes, offset: int) -> None:
        """Write a few octets over others; they survive the process, not the power."""
        ...

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers one behind the other from `offset` on; durable on return."""
        ...

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut a file."""
        ...

    def sync(self, descriptor: int) -> None:
        """Make a file's content and length durable (fdatasync)."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make a directory's entries durable."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a directory entry."""
        ...

    def rename(self, path: str, new_path: str) -> None:
        """Give a file another name in the same file system; a file of that name is replaced."""
        ...

    def free(self, path: str) -> int:
        """Return the octets that may still be written to the file system of a directory."""
        ...

    def lock(self, path: str) -> int:
        """Take the lock file, creating it if need be; raises QueueLockedError."""
        ...


IOV_MAX = 1024

_SECTOR = 512
_TRIES = 3


def read_around(read: Callable[[int, int], bytes], length: int, offset: int) -> bytes:
    """Read up to `length` octets; what the disk does not give however often it is asked reads as zeros.

    `read` takes length and offset, and may raise OSError.
    """
    data = b""
    while len(data) < length:
        at = offset + len(data)
        wanted = min(_SECTOR - at % _SECTOR, length - len(data))
        part = bytes(wanted)
        for _ in range(_TRIES):
            with contextlib.suppress(OSError):
                part = read(wanted, at)
                break
        data += part
        if len(part) < wanted:
            break
    return data


class DiskFiles:
    """The real thing."""

    def make_directory(self, path: str) -> None:
        """Create a directory (0700) where there is none."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory, or a link to one, is there."""
        return os.path.isdir(path)

    def listing(self, path: str) -> list[str]:
        """Return the names in a directory."""
        return os.listdir(path)

    def create(self, path: str) -> int:
        """Create a file (0600) that must not exist yet."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open(self, path: str, *, write: bool) -> int:
        """Open an existing file, never a symbolic link."""
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        # What matters was synced before; the descriptor is gone even if the call fails.
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def size(self, descriptor: int) -> int:
        """Return a file's length."""
        return os.fstat(descriptor).st_size

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Return up to `length` octets from `offset`; fewer only at the end of the file."""
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers one behind the other from `offset` on."""
        self._write(descriptor, buffers, offset, 0)

    def poke(self, descriptor: int, octets: bytes, offset: int) -> None:
        """Write a few octets over others; they survive the process, not the power."""
        if os.pwrite(descriptor, octets, offset) != len(octets):
            raise OSError(errno.EIO, "a stamp was written in part")

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers one behind the other from `offset` on; durable on return.

        One call for write and fdatasync: each system call of the commit thread costs a
        hand-over of the interpreter's lock, which is dearer than the call.
        """
        self._write(descriptor, buffers, offset, os.RWF_DSYNC)

    def _write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int, flags: int) -> None:
        for start in range(0, len(buffers), IOV_MAX):
            part = buffers[start : start + IOV_MAX]
            total = sum(map(len, part))
            written = os.pwritev(descriptor, part, offset, flags)
            if written < total:
                # A short write happens at a full disk or beyond 2 GiB: the rest either fits or raises.
                rest = memoryview(b"".join(part))
                while written < total:
                    written += os.pwritev(descriptor, [rest[written:]], offset + written, flags)
            offset += total

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Make a file's content and length durable (fdatasync)."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: str) -> None:
        """Make a directory's entries durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: str) -> None:
        """Remove a directory entry."""
        os.unlink(path)

    def rename(self, path: str, new_path: str) -> None:
        """Give a file another name in the same file system; a file of that name is replaced."""
        os.rename(path, new_path)

    def free(self, path: str) -> int:
        """Return the octets that may still be written to the file system of a directory."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def lock(self, path: str) -> int:
        """Take the lock file, creating it if need be; raises QueueLockedError."""
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise QueueLockedError(path) from None
        return descriptor
