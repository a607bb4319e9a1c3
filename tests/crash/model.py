"""A disk that can lose power: files in memory, every change recorded, every legal remainder enumerable.

What was not yet synced may or may not have reached the platter, each 512-octet sector, each file's
length and each directory entry for itself. A sector holds one of the versions it went through since
the last sync (the kernel writes what the page holds at that moment). A length that got there before its
data shows zeros or garbage. Which syncs carry directory entries along is the model:

- `ordered` (ext4, XFS): entries persist in order, and any sync carries all earlier ones;
- `per inode` (btrfs): a file's sync carries its own name;
- `posix`: only the directory's sync carries entries.

No named tuples: a coroutine of a killed life that is collected while one is made cannot even be warned of.
"""

import errno
import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

MODELS = ("ordered", "per inode", "posix")
SECTOR = 512
EXHAUSTIVE = 256
"""Combinations of unsynced things up to which all are tried; above, edges and a seeded sample."""

SAMPLE = 60


class Name(msgspec.Struct, frozen=True):
    """A directory entry set (or cleared, where there is no inode); a rename clears `old` in the same step."""

    path: str
    inode: int | None
    old: str = ""


class Data(msgspec.Struct, frozen=True):
    """A sector's new version; in limbo where a sync failed: perhaps on the platter, clean to the kernel."""

    inode: int
    sector: int
    octets: bytes
    limbo: bool = False


class Size(msgspec.Struct, frozen=True):
    """A file's new length."""

    inode: int
    size: int


class Sync(msgspec.Struct, frozen=True):
    """Content and length of a file are durable; of a durable write only the sectors it touched."""

    inode: int
    sectors: range | None = None


class SyncDirectory(msgspec.Struct, frozen=True):
    """The entries of a directory are durable."""

    path: str


class Mark(msgspec.Struct, frozen=True):
    """Something the world may rely on from here on."""

    what: str
    about: Any


Op = Name | Data | Size | Sync | SyncDirectory | Mark


class ModelFiles:
    """The files a workload runs on. Faithful to what a running process sees; keeps all it did."""

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self.ops: list[Op] = []
        self.names: dict[str, int] = {}
        self.inodes: dict[int, bytearray] = {}
        self.dropped: set[str] = set()
        """Barriers that are left out: mutation control."""
        self.fails: dict[int, str] = {}
        """Which durable write fails, by number; `old`: nothing of it is seen, `new`: all of it is."""
        self.durable_writes = 0
        self._numbers = itertools.count(1)
        for path, octets in (contents or {}).items():
            inode = next(self._numbers)
            self.names[path] = inode
            self.inodes[inode] = bytearray(octets)

    def mark(self, what: str, about: Any) -> None:
        self.ops.append(Mark(what, about))

    # ---- the port ----

    def make_directory(self, path: str) -> None:
        """Directories are taken for granted."""

    def is_directory(self, path: str) -> bool:
        return True

    def listing(self, path: str) -> list[str]:
        prefix = f"{path}/"
        return sorted(
            {name[len(prefix) :].partition("/")[0] for name in self.names if name.startswith(prefix)}
        )

    def create(self, path: str) -> int:
        if path in self.names:
            raise FileExistsError(path)
        inode = next(self._numbers)
        self.inodes[inode] = bytearray()
        self._name(path, inode)
        return inode

    def _name(self, path: str, inode: int | None) -> None:
        self.ops.append(Name(path, inode))
        if inode is None:
            del self.names[path]
        else:
            self.names[path] = inode

    def open(self, path: str, *, write: bool) -> int:
        if path not in self.names:
            raise FileNotFoundError(path)
        return self.names[path]

    def close(self, descriptor: int) -> None:
        """Descriptors are inodes."""

    def size(self, descriptor: int) -> int:
        return len(self.inodes[descriptor])

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        return bytes(self.inodes[descriptor][offset : offset + length])

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        octets = b"".join(buffers)
        content = self.inodes[descriptor]
        end = offset + len(octets)
        grown = end > len(content)
        if grown:
            content.extend(bytes(end - len(content)))
        content[offset:end] = octets
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            start = sector * SECTOR
            self.ops.append(Data(descriptor, sector, bytes(content[start : start + SECTOR])))
        if grown:
            self.ops.append(Size(descriptor, end))

    def poke(self, descriptor: int, octets: bytes, offset: int) -> None:
        self.write(descriptor, [octets], offset)

    def write_durably(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        self.durable_writes += 1
        if (failing := self.fails.get(self.durable_writes)) is not None:
            if failing == "new":
                before = len(self.ops)
                self.write(descriptor, buffers, offset)
                self.ops[before:] = [
                    msgspec.structs.replace(op, limbo=True) if isinstance(op, Data) else op
                    for op in self.ops[before:]
                ]
            raise OSError(errno.EIO, "the disk failed")
        self.write(descriptor, buffers, offset)
        end = offset + sum(map(len, buffers))
        suffix = next(
            (
                path.rpartition("/")[2].partition(".")[2]
                for path, inode in self.names.items()
                if inode == descriptor
            ),
            "",
        )
        if f"write {suffix}" not in self.dropped:
            self.ops.append(Sync(descriptor, range(offset // SECTOR, -(-end // SECTOR))))

    def truncate(self, descriptor: int, length: int) -> None:
        del self.inodes[descriptor][length:]
        self.ops.append(Size(descriptor, length))

    def sync(self, descriptor: int) -> None:
        suffix = next(
            (
                path.rpartition("/")[2].partition(".")[2]
                for path, inode in self.names.items()
                if inode == descriptor
            ),
            "",
        )
        if f"sync {suffix}" not in self.dropped:
            self.ops.append(Sync(descriptor))

    def sync_directory(self, path: str) -> None:
        if "sync directory" not in self.dropped:
            self.ops.append(SyncDirectory(path))

    def unlink(self, path: str) -> None:
        if path not in self.names:
            raise FileNotFoundError(path)
        self._name(path, None)

    def rename(self, path: str, new_path: str) -> None:
        inode = self.names[path]
        self.names[new_path] = self.names.pop(path)
        self.ops.append(Name(new_path, inode, path))

    def free(self, path: str) -> int:
        return 1 << 40

    def lock(self, path: str) -> int:
        return 0

    def killed(self, after: int) -> "ModelFiles":
        """Return the files as they were behind a step: the next life's, with what was not synced yet."""
        files = ModelFiles()
        files.ops = self.ops[:after]
        for op in files.ops:
            if isinstance(op, Name):
                _link(files.names, op)
                if op.inode is not None:
                    files.inodes.setdefault(op.inode, bytearray())
            elif isinstance(op, Data):
                _put(files.inodes[op.inode], {op.sector: op.octets})
            elif isinstance(op, Size):
                _resize(files.inodes[op.inode], op.size, 0)
        files._numbers = itertools.count(max(files.inodes, default=0) + 1)
        return files

    def contents(self) -> dict[str, bytes]:
        """Return every file as a running process sees it: what a kill leaves."""
        return {path: bytes(self.inodes[inode]) for path, inode in self.names.items()}


class _Disk:
    """What is durable for certain, and what may or may not be, at one moment."""

    def __init__(self, model: str, start: dict[str, bytes]) -> None:
        self.model = model
        self.names: dict[str, int] = {path: number for number, path in enumerate(start, 1)}
        self.free_names: list[Name] = []
        self.content = {number: bytearray(octets) for number, octets in enumerate(start.values(), 1)}
        self.versions: dict[int, dict[int, list[Data]]] = {}
        self.sizes: dict[int, list[int]] = {}

    def apply(self, op: Op) -> None:
        if isinstance(op, Name):
            self.free_names.append(op)
        elif isinstance(op, Data):
            self.versions.setdefault(op.inode, {}).setdefault(op.sector, []).append(op)
        elif isinstance(op, Size):
            self.sizes.setdefault(op.inode, []).append(op.size)
        elif isinstance(op, Sync):
            self._sync(op.inode, op.sectors)
        elif isinstance(op, SyncDirectory):
            self._entries(lambda name: self.model == "ordered" or name.path.rpartition("/")[0] == op.path)

    def _sync(self, inode: int, sectors: range | None) -> None:
        content = self.content.setdefault(inode, bytearray())
        versions = self.versions.get(inode, {})
        chosen = [
            sector
            for sector, found in versions.items()
            if (sectors is None or sector in sectors) and not found[-1].limbo
        ]
        _put(content, {sector: versions.pop(sector)[-1].octets for sector in chosen})
        if not versions:
            self.versions.pop(inode, None)
        sizes = self.sizes.pop(inode, [])
        if sizes:
            _resize(content, sizes[-1], 0)
        if self.model == "ordered":
            self._entries(lambda _: True)
        elif self.model == "per inode":
            self._entries(lambda name: name.inode == inode)

    def _entries(self, carried: Any) -> None:
        kept = []
        for name in self.free_names:
            if carried(name):
                _link(self.names, name)
            else:
                kept.append(name)
        self.free_names = kept

    # ---- what a power cut may leave ----

    def remainders(self, seed: int) -> Iterator[dict[str, bytes]]:
        """Yield what may be on the platter now."""
        axes: list[int] = []
        if self.model == "ordered":
            axes.append(len(self.free_names) + 1)
        else:
            axes += [2] * len(self.free_names)
        sectors = [(inode, sector) for inode, found in self.versions.items() for sector in found]
        axes += [len(self.versions[inode][sector]) + 1 for inode, sector in sectors]
        sized = list(self.sizes)
        axes += [len(self.sizes[inode]) + 1 for inode in sized]
        fills = (0, 0xA5) if sized else (0,)
        for choice in _choices(axes, seed):
            for fill in fills:
                yield self._remainder(choice, sectors, sized, fill)

    def everything(self) -> dict[str, bytes]:
        """Return the files as a running process sees them."""
        sectors = [(inode, sector) for inode, found in self.versions.items() for sector in found]
        sized = list(self.sizes)
        choice = [1] * len(self.free_names)
        choice += [len(self.versions[inode][sector]) for inode, sector in sectors]
        choice += [len(self.sizes[inode]) for inode in sized]
        return self._remainder(choice, sectors, sized, 0)

    def _remainder(
        self, choice: Sequence[int], sectors: list[tuple[int, int]], sized: list[int], fill: int
    ) -> dict[str, bytes]:
        chosen = iter(choice)
        names = dict(self.names)
        if self.model == "ordered":
            for name in self.free_names[: next(chosen)]:
                _link(names, name)
        else:
            for name in self.free_names:
                if next(chosen):
                    _link(names, name)
        written: dict[int, dict[int, bytes]] = {}
        for inode, sector in sectors:
            if version := next(chosen):
                written.setdefault(inode, {})[sector] = self.versions[inode][sector][version - 1].octets
        sizes = {}
        for inode in sized:
            if version := next(chosen):
                sizes[inode] = self.sizes[inode][version - 1]
        return {
            path: self._content(inode, written.get(inode, {}), sizes, fill) for path, inode in names.items()
        }

    def _content(self, inode: int, written: dict[int, bytes], sizes: dict[int, int], fill: int) -> bytes:
        durable = self.content.get(inode, bytearray())
        if not written and inode not in sizes:
            return bytes(durable)
        content = bytearray(durable)
        size = sizes.get(inode, len(durable))
        _resize(content, size, fill)
        _put(content, written)
        _resize(content, size, fill)
        return bytes(content)


def _link(names: dict[str, int], name: Name) -> None:
    names.pop(name.old, None)
    if name.inode is None:
        names.pop(name.path, None)
    else:
        names[name.path] = name.inode


def _put(content: bytearray, sectors: dict[int, bytes]) -> None:
    for sector, octets in sectors.items():
        start = sector * SECTOR
        if len(content) < start + len(octets):
            content.extend(bytes(start + len(octets) - len(content)))
        content[start : start + len(octets)] = octets


def _resize(content: bytearray, size: int, fill: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes([fill]) * (size - len(content)))


def _choices(axes: list[int], seed: int) -> Iterator[tuple[int, ...]]:
    """Yield combinations: all if they are few, else the edges and a sample."""
    total = 1
    for axis in axes:
        total *= axis
    if total <= EXHAUSTIVE:
        yield from itertools.product(*map(range, axes))
        return
    nothing = tuple(0 for _ in axes)
    everything = tuple(axis - 1 for axis in axes)
    yield nothing
    yield everything
    chance = random.Random(seed)
    edges = range(len(axes)) if len(axes) <= SAMPLE else chance.sample(range(len(axes)), SAMPLE)
    for index in edges:
        yield (*nothing[:index], everything[index], *nothing[index + 1 :])
        yield (*everything[:index], 0, *everything[index + 1 :])
    for _ in range(SAMPLE):
        yield tuple(chance.randrange(axis) for axis in axes)


class State(msgspec.Struct, frozen=True):
    """One thing a power cut may leave: the files, and what the world had been told by then."""

    files: dict[str, bytes]
    marks: list[Mark]
    cut: int


def left_by_a_cut(
    ops: Sequence[Op], model: str, start: dict[str, bytes], chance: random.Random
) -> dict[str, bytes]:
    """Return one of the things that a cut behind the last step may leave."""
    disk = _Disk(model, start)
    for op in ops:
        disk.apply(op)
    found = [*itertools.islice(disk.remainders(chance.randrange(1 << 30)), SAMPLE)]
    return chance.choice(found)


def states(
    ops: Sequence[Op], model: str, start: dict[str, bytes] | None = None, begin: int = 0
) -> Iterator[State]:
    """Yield every distinct state that a cut may leave, at any point from `begin` on, in their order."""
    disk = _Disk(model, start or {})
    marks: list[Mark] = []
    seen: set[bytes] = set()
    for cut in range(len(ops) + 1):
        # A cut inside one write leaves some of its sectors: the cut behind it tries them all.
        inside = 0 < cut < len(ops) and isinstance(ops[cut], Data | Size) and isinstance(ops[cut - 1], Data)
        for files in () if inside or cut < begin else disk.remainders(cut):
            digest = _digest(files, len(marks))
            if digest not in seen:
                seen.add(digest)
                yield State(files, list(marks), cut)
        if cut < len(ops):
            op = ops[cut]
            if isinstance(op, Mark):
                marks.append(op)
            disk.apply(op)


def kills(ops: Sequence[Op]) -> Iterator[State]:
    """Yield the state behind every step, as a kill leaves it: everything done is there, synced or not."""
    disk = _Disk("posix", {})
    marks: list[Mark] = []
    for cut, op in enumerate(ops):
        if isinstance(op, Mark):
            marks.append(op)
        disk.apply(op)
        yield State(disk.everything(), list(marks), cut)


def _digest(files: dict[str, bytes], marks: int) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        found.update(path.encode())
        found.update(files[path])
        found.update(b"\0")
    found.update(marks.to_bytes(4, "big"))
    return found.digest()
