"""Files that remember what was done with them, in order: what crash tests and order tests read."""

from collections.abc import Sequence

from backstamp.queue.files import DiskFiles


class RecordingFiles(DiskFiles):
    """The real thing, with a list of what changed or synced anything."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._names: dict[int, str] = {}

    def _note(self, verb: str, path: str) -> None:
        self.done.append(f"{verb} {path.rpartition('/')[2].lstrip('0')}")

    def create(self, path: str) -> int:
        descriptor = super().create(path)
        self._names[descriptor] = path
        self._note("create", path)
        return descriptor

    def open(self, path: str, *, write: bool) -> int:
        descriptor = super().open(path, write=write)
        self._names[descriptor] = path
        return descriptor

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        super().write(descriptor, buffers, offset)
        self._note("write", self._names[descriptor])

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        super().write_durably(descriptor, buffers, offset)
        self._note("write+sync", self._names[descriptor])

    def truncate(self, descriptor: int, length: int) -> None:
        super().truncate(descriptor, length)
        self._note("truncate", self._names[descriptor])

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self._note("sync", self._names[descriptor])

    def sync_directory(self, path: str) -> None:
        super().sync_directory(path)
        self._note("sync directory", path)

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._note("unlink", path)
