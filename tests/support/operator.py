"""What an operator has: a relay with a configuration file of its own, and hosts that tell what they heard."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.relay import RunningRelay, run

from backstamp.config import Settings
from backstamp.config.load import load
from backstamp.sink.server import Heard, Options, Received, Sink

FILE = """\
hostname = "relay.example.org"
[queue]
directory = "{directory}/queue"
[[listen]]
address = "127.0.0.1:{listen}"
submission = false
[admin]
address = "127.0.0.1:{admin}"
[dns]
nameservers = [{nameservers}]
[log]
attempts = true
[retry]
schedule = {schedule}
lifetime = "1h"
[delivery]
port = {port}
private_addresses = {private}
{delivery}
{tables}
"""

SOON = '["300ms", "500ms", "1s"]'
LATE = '["1h"]'
"""A wait no test lives to see the end of: what comes before it is not a retry."""


class Host(Sink):
    """A host somewhere: a sink that keeps what it takes and hears, and how many connections stood."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        super().__init__(address, port, options=Options(**options), received=self._receive, heard=self._hear)
        self.taken: list[Received] = []
        self.said: list[Heard] = []
        """What clients said, in order."""
        self.times: list[float] = []
        """When each was said, in seconds of the loop."""
        self.most = 0
        """Connections open at a time, at most."""
        self.noticed: Callable[[], None] = lambda: None
        """Called when something was said."""
        self._news = asyncio.Event()

    def _receive(self, message: Received) -> None:
        self.taken.append(message)
        self._news.set()

    def _hear(self, heard: Heard) -> None:
        self.said.append(heard)
        self.times.append(asyncio.get_running_loop().time())
        self.most = max(self.most, len(self.open))
        self.noticed()
        self._news.set()

    def lines(self, verb: bytes) -> list[bytes]:
        """Return the lines that began with a verb."""
        return [one.line for one in self.said if one.line.startswith(verb)]

    def moments(self, verb: bytes) -> list[float]:
        """Return when they came."""
        return [at for one, at in zip(self.said, self.times, strict=True) if one.line.startswith(verb)]

    async def until(self, verb: bytes, count: int = 1) -> None:
        """Wait until a verb was heard so often."""
        async with asyncio.timeout(20):
            while len(self.lines(verb)) < count:
                self._news.clear()
                await self._news.wait()


def written(
    directory: Path,
    tables: str = "",
    *,
    delivery: str = "",
    port: int = 25,
    nameservers: Sequence[tuple[str, int]] = (),
    schedule: str = SOON,
    private: bool = True,
    listen: int = 0,
    admin: int = 0,
) -> Path:
    """Write a configuration file: `tables` come at its end, `delivery` into that table."""
    file = directory / "backstamp.toml"
    file.write_text(
        FILE.format(
            directory=directory,
            listen=listen,
            admin=admin,
            nameservers=", ".join(f'"{host}:{number}"' for host, number in nameservers),
            schedule=schedule,
            port=port,
            private="true" if private else "false",
            delivery=delivery,
            tables=tables,
        )
    )
    return file


def read(directory: Path, tables: str = "", **how: Any) -> Settings:
    """Return what a configuration file written so comes to."""
    return load(str(written(directory, tables, **how)))


@contextlib.asynccontextmanager
async def configured(directory: Path, tables: str = "", **how: Any) -> AsyncIterator[RunningRelay]:
    """Run a relay with a configuration file."""
    async with run(read(directory, tables, **how), directory) as running:
        yield running


def to(*hosts: Sink, match: str = "*", more: str = "") -> str:
    """Return the table of a route to hosts."""
    via = ", ".join('"{}:{}"'.format(*host.address) for host in hosts)
    return f'[[route]]\nmatch = "{match}"\nvia = [{via}]\n{more}\n'
