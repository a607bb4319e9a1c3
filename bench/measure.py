"""What a tree of processes costs: CPU time, memory, and what reaches the disk.

CPU is user and system time of all its processes, those that ended included (a parent is
charged for the children it waited for). Memory is PSS, so that shared pages count once.
Writes are the sectors the device of a directory took meanwhile, whoever wrote them: the
same measure for every relay, and a quiet machine is the operator's business.
"""

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
SECTOR = 512


def tree(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Return /proc/PID/stat from the state on (the name may hold anything)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu(pids: Iterable[int]) -> float:
    """Return the seconds of CPU that processes and their ended children have used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _stat(pid)[11:15]))
    return ticks / TICK


def pss(pids: Iterable[int]) -> int:
    """Return the octets of memory that processes use, shared pages divided among their users."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:")) * 1024
    return total


def written(directory: Path) -> int | None:
    """Return the octets the device of a directory has taken since the machine started, if that is known."""
    device = directory.stat().st_dev
    wanted = (str(os.major(device)), str(os.minor(device)))
    with contextlib.suppress(OSError):
        for row in Path("/proc/diskstats").read_text().splitlines():
            fields = row.split()
            if tuple(fields[:2]) == wanted:
                return int(fields[9]) * SECTOR
    return None


class Peak:
    """Watches the memory of a tree while something runs."""

    def __init__(self, root: int, period: float = 0.25) -> None:
        self.octets = 0
        self._root = root
        self._period = period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._period):
            self._look()

    def _look(self) -> None:
        self.octets = max(self.octets, pss(tree(self._root)))
