"""Files that fail when told to: the disk's bad days, at the seam every system call goes through."""

import errno
import os
from collections.abc import Sequence

from backstamp.queue.files import DiskFiles


class FaultyFiles(DiskFiles):
    """The real thing, but for the calls that are told to fail."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        """Suffix of the file (`.mail`, `.stamps`) → errno of the next durable write to it."""
        self.creating: int | None = None
        self.syncing: int | None = None
        self.syncing_files = 0
        """How many syncs of files fail from now on."""
        self.writing: int | None = None
        """errno of writes that are not to be durable at once."""
        self.room: int | None = None
        self.unreadable: dict[str, int] = {}
        """Suffix of the file → how many reads of it fail from now on."""
        self._names: dict[int, str] = {}

    def create(self, path: str) -> int:
        if self.creating is not None:
            raise OSError(self.creating, os.strerror(self.creating), path)
        descriptor = super().create(path)
        self._names[descriptor] = path
        return descriptor

    def open(self, path: str, *, write: bool) -> int:
        descriptor = super().open(path, write=write)
        self._names[descriptor] = path
        return descriptor

    def free(self, path: str) -> int:
        return super().free(path) if self.room is None else self.room

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        if self.writing is not None:
            raise OSError(self.writing, os.strerror(self.writing))
        super().write(descriptor, buffers, offset)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        for suffix, left in self.unreadable.items():
            if left and self._names[descriptor].endswith(suffix):
                self.unreadable[suffix] -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(descriptor, length, offset)

    def poke(self, descriptor: int, octets: bytes, offset: int) -> None:
        if self.writing is not None:
            raise OSError(self.writing, os.strerror(self.writing))
        super().poke(descriptor, octets, offset)

    def sync(self, descriptor: int) -> None:
        if self.syncing is not None:
            raise OSError(self.syncing, os.strerror(self.syncing))
        if self.syncing_files:
            self.syncing_files -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        for suffix, number in self.failing.items():
            if self._names[descriptor].endswith(suffix):
                if number == errno.ENOSPC:
                    # Half of it fits.
                    super().write(descriptor, [b"".join(buffers)[:50]], offset)
                raise OSError(number, os.strerror(number))
        super().write_durably(descriptor, buffers, offset)
