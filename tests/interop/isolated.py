"""A mail server of its own: a process tree in namespaces, which ends as a whole and leaves nothing.

Programs that have their paths and users compiled in get them: a mount namespace with directories
of the test over those of the system, a password file with a few rows more. The process at the root
of a PID namespace is ended, and with it everything the server started.
"""

import asyncio
import contextlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class Isolated:
    """A command as root in a mount and a PID namespace. `over`: directories of the test, by those they cover.

    `users` are rows for the password file; each is a group too.
    """

    def __init__(
        self,
        directory: Path,
        command: Sequence[str | Path],
        *,
        over: Mapping[str, Path] | None = None,
        users: Mapping[str, int] | None = None,
        home: Path | None = None,
    ) -> None:
        self._directory = directory
        mounts = []
        rows = {"passwd": "", "group": ""}
        for name, number in (users or {}).items():
            rows["passwd"] += f"{name}:x:{number}:{number}::{home or '/nonexistent'}:/bin/sh\n"
            rows["group"] += f"{name}:x:{number}:\n"
        for name, text in rows.items():
            copy = directory / name
            copy.write_text(Path("/etc", name).read_text() + text)
            mounts.append(f"mount --bind {copy} /etc/{name}")
        mounts += [f"mount --bind {ours} {theirs}" for theirs, ours in (over or {}).items()]
        # The shell stays at the root: a signal at the parent's death is lost with a change of user.
        line = " && ".join([*mounts, "{ " + shlex.join(map(str, command)) + " & wait; }"])
        self._command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc",
                         "--kill-child", "sh", "-c", line]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self.output = directory / "output"

    async def start(self, port: int) -> None:
        """Start it and wait until it greets."""
        with self.output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            async with asyncio.timeout(30):
                while not await greets(port):
                    assert self._process.returncode is None, self.said()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"nothing greets: {self.said()}") from None

    async def stop(self) -> None:
        """End it and all it started."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def said(self) -> str:
        """Return what it printed."""
        return self.output.read_text(errors="replace")[-4000:]


async def greets(port: int) -> bool:
    """Tell whether an SMTP server answers there."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    line = b""
    with contextlib.suppress(OSError):
        line = await reader.readline()
    writer.close()
    return line.startswith(b"220")


async def until(met: Callable[[], bool], what: Callable[[], str], seconds: float = 40) -> None:
    """Wait until something holds; `what` tells, where it does not come to that."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.05)
