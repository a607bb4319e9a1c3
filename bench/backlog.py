"""A start with a million recipients waiting: when the first is delivered, all are scheduled, what they cost.

    .venv/bin/python bench/backlog.py [--recipients 1000000] [--each 1]

The queue is written by the store itself, messages of 1 KiB to a thousand domains. Then the
relay starts twice on it, each time as a new process: `restart`, mail of an hour ago, whose
next attempts are spread over time, and a peer that takes everything; `stalled`, on a copy of
mail that is all due at once, and a peer that takes the connection and says nothing. Times are
seconds from the start of the process. Memory is what the process has more than one that
starts on an empty queue, for each recipient that waits at that moment.
"""

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import measure
from backstamp.mail.envelope import Envelope, Recipient
from backstamp.queue import ids, recovery
from backstamp.queue.files import DiskFiles
from backstamp.queue.port import Message
from backstamp.queue.store import Append, Store
from backstamp.sink.server import Received, Sink
from relays import ROOT, free_port

BACKSTAMP = ROOT / ".venv/bin/backstamp"
CONFIG = """
hostname = "relay.example.org"
[queue]
directory = "{queue}"
[[listen]]
address = "127.0.0.1:{port}"
[[route]]
match = "*"
via = "127.0.0.1:{sink}"
"""
DOMAINS = 1000
BATCH = 256
CONTENT = b"Subject: waiting\r\n\r\n" + b"x" * 1000 + b"\r\n"
SETTLED = 3.0
"""Seconds after which the memory of a start that has nothing more to do is taken."""


def fill(root: Path, recipients: int, each: int, age: float) -> None:
    """Write a queue of messages that arrived `age` seconds ago."""
    files = DiskFiles()
    lock = recovery.prepare(files, str(root))
    store = Store(
        files,
        f"{root}/{recovery.PARTITION}",
        numbers=itertools.count(1).__next__,
        salt=lambda: os.urandom(16),
        sealed=lambda _: None,
    )
    arrival = time.time() - age
    for first in range(0, recipients, BATCH * each):
        starts = range(first, min(first + BATCH * each, recipients), each)
        store.commit([_append(start, min(each, recipients - start), arrival) for start in starts], _announced)
    store.seal()
    files.close(lock)


def _append(first: int, count: int, arrival: float) -> Append:
    queue_id = ids.make(int(arrival * 1000), os.urandom(10))
    domain = first % DOMAINS
    to = tuple(Recipient(b"u%d@d%d.example" % (first + n, domain)) for n in range(count))
    return Append(
        Message(queue_id, int(arrival * 1e6) + first, Envelope(b"s@origin.example", to), CONTENT), _announced
    )


def _announced(_: object) -> None:
    """Nobody waits for it."""


class Start:
    """One start of the relay on a queue, and its events with the time of each."""

    def __init__(self, queue: Path, sink: int) -> None:
        self._config = queue.with_suffix(".toml")
        self._config.write_text(CONFIG.format(queue=queue, port=free_port(), sink=sink))
        self.recovered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.delivered = 0

    async def __aenter__(self) -> "Start":
        self.began = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            BACKSTAMP, "serve", "--config", self._config, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if b'"event":"delivered"' in line:
                self.delivered += 1
            elif b'"event":"recovered"' in line and not self.recovered.done():
                self.recovered.set_result(time.monotonic() - self.began)
            elif b'"event":"alarm"' in line:
                print(line.decode(), file=sys.stderr, end="")

    def memory(self) -> int:
        """Return what it uses now, in octets."""
        return measure.pss([self._process.pid])


async def empty(directory: Path) -> int:
    """Return the memory of a relay that starts on an empty queue."""
    async with Start(directory / "empty", 1) as start:
        await start.recovered
        await asyncio.sleep(SETTLED)
        return start.memory()


async def restart(queue: Path, recipients: int, base: int) -> dict[str, float]:
    """Start on mail of an hour ago, with a peer that takes it."""
    first: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def take(_: Received) -> None:
        if not first.done():
            first.set_result(time.monotonic())

    async with Sink(received=take) as sink, Start(queue, sink.address[1]) as start:
        began = start.began
        until_first = await first - began
        scheduled = await start.recovered
        waiting = recipients - start.delivered
        return {
            "first_delivery_s": round(until_first, 2),
            "scheduled_s": round(scheduled, 2),
            "delivered_meanwhile": start.delivered,
            "octets_each": round((start.memory() - base) / waiting),
        }


async def stalled(queue: Path, recipients: int, base: int) -> dict[str, float]:
    """Start on mail that is all due at once, with a peer that says nothing."""
    async with Sink() as sink:
        sink.script.do("CONNECT", delay=3600)
        async with Start(queue, sink.address[1]) as start:
            scheduled = await start.recovered
            await asyncio.sleep(SETTLED)
            return {
                "scheduled_s": round(scheduled, 2),
                "octets_each": round((start.memory() - base) / recipients),
            }


async def measured(directory: Path, recipients: int, each: int, runs: int) -> dict[str, Any]:
    """Fill, start, and return the figures."""
    base = await empty(directory)
    found: dict[str, list[dict[str, float]]] = {"restart": [], "stalled": []}
    for _ in range(runs):
        for name, age, run in (("restart", 3600.0, restart), ("stalled", 0.0, stalled)):
            queue = directory / name
            fill(queue, recipients, each, age)
            print(f"{name}: {recipients} recipients are written", file=sys.stderr)
            found[name].append(await run(queue, recipients, base))
            print(json.dumps(found[name][-1]), file=sys.stderr)
            shutil.rmtree(queue)
    return {
        "recipients": recipients,
        "recipients_each_message": each,
        "empty_relay_octets": base,
        **{
            name: {figure: statistics.median(run[figure] for run in figures) for figure in figures[0]}
            for name, figures in found.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=1, help="recipients of each message")
    parser.add_argument("--runs", type=int, default=1, help="medians are printed")
    options = parser.parse_args()
    directory = ROOT / "var/backlog"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        found = asyncio.run(measured(directory, options.recipients, options.each, options.runs))
    finally:
        shutil.rmtree(directory)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
