"""strace around a relay: a system call on one path of its queue that fails, or at which it is killed.

strace counts calls by thread, not by process: the N-th call of every thread is hit. The
relay recovers in one thread and commits in another, so a fault can be set on a relay that
starts (`launch`) or on one that serves already (`attach`).
"""

import asyncio
import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

CALLS = (
    "openat", "newfstatat", "getdents64", "mkdir", "rename", "unlink", "flock", "close",
    "pread64", "pwrite64", "pwritev2", "statfs", "fdatasync", "fsync", "ftruncate",
)  # fmt: skip
"""Every system call the relay makes on its queue."""


class Fault(msgspec.Struct, frozen=True):
    """What happens at which call: `what` and `when` in strace's words; the path is relative to the queue."""

    call: str
    path: str
    what: str = "signal=SIGKILL"
    when: str = "1"

    def __str__(self) -> str:
        return f"{self.call} {self.when} on {self.path or '.'}: {self.what}"


@functools.cache
def missing() -> str | None:
    """Say why strace cannot be used here, None if it can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-qq", "-f", "-o", os.devnull, "-e", "trace=none", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"ptrace is refused: {tried.stderr.strip()[:200]}"


def options(queue: Path, faults: Sequence[Fault], trace: Path) -> list[str]:
    """Return the command line that injects faults; without one every call goes to `trace`."""
    calls = ",".join({fault.call for fault in faults}) or "%file,%desc"
    found = ["strace", "-f", "-y", "-o", str(trace), "-e", "signal=none", "-e", f"trace={calls}"]
    for fault in faults:
        found += ["-e", f"inject={fault.call}:{fault.what}:when={fault.when}"]
    for path in sorted({fault.path for fault in faults}):
        found += ["-P", str(queue / path) if path else str(queue)]
    return found


def made(queue: Path, trace: Path) -> set[tuple[str, str]]:
    """Return path below the queue and name of every call that was made on it."""
    found = set()
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\(", line)
        # Of two paths (rename) the first.
        path = re.search(rf'[<"]{re.escape(str(queue))}(?:/([^>"]*))?[>"]', line)
        if call is not None and path is not None:
            found.add((path[1] or "", call[1]))
    return found


def launch(queue: Path, faults: Sequence[Fault], trace: Path) -> list[str]:
    """Return what to put before a command; strace is its grandchild, so that the child is the relay."""
    # With a seccomp filter it is faster by half, but then strace 6.1 does not inject signals.
    quick = [] if any("signal" in fault.what for fault in faults) else ["--seccomp-bpf"]
    return [*options(queue, faults, trace), "-qq", "-D", *quick]


@contextlib.asynccontextmanager
async def attached(pid: int, queue: Path, faults: Sequence[Fault], trace: Path) -> AsyncIterator[None]:
    """Hold strace on a process that runs."""
    strace = await asyncio.create_subprocess_exec(
        *options(queue, faults, trace), "-p", str(pid), stderr=asyncio.subprocess.PIPE
    )
    assert strace.stderr is not None
    try:
        async with asyncio.timeout(20):
            said = await strace.stderr.readline()
        assert b"attached" in said, said
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            strace.terminate()
        await strace.wait()
