"""The relay as a process of its own, for tests that kill it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

CONFIG = """\
hostname = "relay.example.org"
[queue]
directory = "{queue}"
[[listen]]
address = "127.0.0.1:{port}"
allow = ["127.0.0.0/8"]
submission = false
[retry]
schedule = ["1s", "2s"]
lifetime = "1h"
[delivery]
private_addresses = true
[[route]]
match = "*"
via = "{via}"
[admin]
address = "127.0.0.1:{admin}"
"""


def free_port() -> int:
    """Return a port nobody has at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def reserve() -> socket.socket:
    """Return a socket that keeps a port on 127.0.0.1 from everybody but who binds it on purpose.

    Between two lives of a relay nobody listens there: somebody else's relay must not either.
    """
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    # Set after the bind: the system gives the port to nobody, a listener that reuses addresses may take it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


class Process:
    """`backstamp serve` in a directory, started again as often as wanted."""

    def __init__(
        self,
        directory: Path,
        via: tuple[str, int],
        *,
        queue: Path | None = None,
        program: Sequence[str] = ("-m", "backstamp"),
    ) -> None:
        self.directory = directory
        self.queue = queue or directory / "queue"
        self.program = program
        self._reserved = [reserve(), reserve()]
        ports = [int(sock.getsockname()[1]) for sock in self._reserved]
        self.address = ("127.0.0.1", ports[0])
        self.admin = ports[1]
        self.config = directory / "backstamp.toml"
        self.log = directory / "events.json"
        self.config.write_text(
            CONFIG.format(queue=self.queue, port=self.address[1], via="{}:{}".format(*via), admin=self.admin)
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until its ports answer."""
        await self.launch()
        assert await self.ready(), self.log.read_text()[-2000:]

    async def launch(self, *under: str) -> None:
        """Start it, under another program if one is given; that program must become it."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *under, sys.executable, *self.program, "serve", "--config", str(self.config),
                stdout=log, stderr=log, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip

    async def ready(self) -> bool:
        """Wait until its ports answer; False where it ended instead."""
        async with asyncio.timeout(30):
            while self.code is None:
                if await self.answers():
                    return True
                await asyncio.sleep(0.02)
        return False

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    async def answers(self) -> bool:
        """Tell whether it greets."""
        try:
            reader, writer = await asyncio.open_connection(*self.address)
        except OSError:
            return False
        line = b""
        with contextlib.suppress(OSError):
            line = await reader.readline()
        writer.close()
        return line.startswith(b"220")

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    async def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(60):
            code = await self._process.wait()
        self._process = None
        return code

    def reload(self) -> None:
        """SIGHUP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def events(self) -> list[dict[str, Any]]:
        """Return every whole event it wrote, of all its lives."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.kill()
        for sock in self._reserved:
            sock.close()
