"""A model disk that fails, fills up, runs out of descriptors, and takes its relay's life at any call."""

import errno
import random
from collections.abc import Sequence

import msgspec
from tests.crash.model import SECTOR, Data, ModelFiles, Sync


class KilledError(BaseException):
    """The process is gone: no code of its runs any more, whatever it catches."""


class FailingFiles(ModelFiles):
    """Model files with descriptors of their own. What fails may have been done, in part or whole."""

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        super().__init__(contents)
        self.found = contents or {}
        self.descriptors: dict[int, int] = {}
        self.dead = False
        self.left: int | None = None
        """Calls until the relay is killed."""
        self.chances: dict[str, float] = {}
        """Call, or `*`, → how likely it fails."""
        self.full = False
        self.limit: int | None = None
        """Descriptors there are."""
        self.misused: list[str] = []
        self._chance = random.Random(0)
        self._last = 0

    def begin(self, seed: float) -> None:
        """Begin a life."""
        self._chance = random.Random(seed)
        self.descriptors.clear()
        self.dead, self.left = False, None
        self.well()

    def well(self) -> None:
        """Let nothing fail any more."""
        self.chances, self.full, self.limit = {}, False, None

    def path_of(self, descriptor: int) -> str:
        """Return the path of an open file, empty where it has none any more."""
        inode = self.descriptors[descriptor]
        return next((path for path, one in self.names.items() if one == inode), "")

    def _call(self, name: str, *descriptors: int) -> bool:
        """Note a call; tell whether it fails."""
        if self.left is not None:
            self.left -= 1
            self.dead = self.dead or self.left < 0
        if self.dead:
            raise KilledError
        if not {*descriptors} <= self.descriptors.keys():
            self.misused.append(f"{name} of a file that is not open")
        return self._chance.random() < self.chances.get(name, self.chances.get("*", 0.0))

    def _check(self, name: str, *descriptors: int) -> None:
        if self._call(name, *descriptors):
            raise OSError(errno.EIO, f"{name} failed")

    def _opened(self, inode: int) -> int:
        self._last += 1
        self.descriptors[self._last] = inode
        return self._last

    def _limited(self) -> None:
        if self.limit is not None and len(self.descriptors) >= self.limit:
            raise OSError(errno.EMFILE, "too many open files")

    # ---- the port ----

    def listing(self, path: str) -> list[str]:
        self._check("listing")
        return super().listing(path)

    def create(self, path: str) -> int:
        self._check("create")
        self._limited()
        if self.full:
            raise OSError(errno.ENOSPC, "no space left")
        return self._opened(super().create(path))

    def open(self, path: str, *, write: bool) -> int:
        self._check("open")
        self._limited()
        return self._opened(super().open(path, write=write))

    def close(self, descriptor: int) -> None:
        if self.dead:
            return
        if self.descriptors.pop(descriptor, None) is None:
            self.misused.append("close of a file that is not open")

    def size(self, descriptor: int) -> int:
        self._check("size", descriptor)
        return super().size(self.descriptors[descriptor])

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self._check("read", descriptor)
        return super().read(self.descriptors[descriptor], length, offset)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        fails = self._call("write", descriptor)
        self._written("write", self.descriptors[descriptor], b"".join(buffers), offset, fails=fails)

    def poke(self, descriptor: int, octets: bytes, offset: int) -> None:
        self._check("poke", descriptor)
        ModelFiles.write(self, self.descriptors[descriptor], [octets], offset)

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        fails = self._call("write_durably", descriptor)
        inode, octets = self.descriptors[descriptor], b"".join(buffers)
        before = len(self.ops)
        try:
            self._written("write_durably", inode, octets, offset, fails=fails)
        except OSError:
            self._clean(inode, before)
            raise
        if self.left == 0 and self._chance.random() < 0.5:
            self.dead = True  # in the page cache, and the sync never came
            raise KilledError
        self.ops.append(Sync(inode, range(offset // SECTOR, -(-(offset + len(octets)) // SECTOR))))

    def _written(self, name: str, inode: int, octets: bytes, offset: int, *, fails: bool) -> None:
        short = self.full and offset + len(octets) > len(self.inodes[inode])
        if fails or short:
            some = self._chance.choice((0, len(octets) // 2, len(octets) - 1 if short else len(octets)))
            if some > 0:
                ModelFiles.write(self, inode, [octets[:some]], offset)
            raise OSError(errno.ENOSPC if short else errno.EIO, f"{name} failed")
        ModelFiles.write(self, inode, [octets], offset)

    def truncate(self, descriptor: int, length: int) -> None:
        self._check("truncate", descriptor)
        super().truncate(self.descriptors[descriptor], length)

    def sync(self, descriptor: int) -> None:
        fails, inode = self._call("sync", descriptor), self.descriptors[descriptor]
        if fails:
            self._clean(inode, 0)
            raise OSError(errno.EIO, "sync failed")
        self.ops.append(Sync(inode))

    def _clean(self, inode: int, start: int) -> None:
        """Pages whose sync failed are clean to the kernel, and perhaps not on the platter."""
        safe: set[int] = set()
        for at in range(len(self.ops) - 1, start - 1, -1):
            op = self.ops[at]
            if isinstance(op, Sync) and op.inode == inode:
                if op.sectors is None:
                    break
                safe.update(op.sectors)
            if isinstance(op, Data) and op.inode == inode and op.sector not in safe:
                self.ops[at] = msgspec.structs.replace(op, limbo=True)

    def sync_directory(self, path: str) -> None:
        self._check("sync_directory")
        super().sync_directory(path)

    def unlink(self, path: str) -> None:
        self._check("unlink")
        super().unlink(path)

    def rename(self, path: str, new_path: str) -> None:
        self._check("rename")
        super().rename(path, new_path)

    def lock(self, path: str) -> int:
        self._check("lock")
        return self._opened(-1)

    def free(self, path: str) -> int:
        return 0 if self.full else super().free(path)
