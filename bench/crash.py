"""kill -9 under full load, again and again: what is lost, what comes twice, and was it foretold.

    .venv/bin/python bench/crash.py [--kills 200] [--clients 40] [--seed 1]

Clients send numbered messages to one to three recipients each, every number once: what was
not acknowledged is never sent again, so a second copy is the relay's. At a random moment the
relay is killed; `backstamp queue doubt` names who is in doubt on its disk; it starts again
under the same load. At the end it delivers what is left. A second copy of a recipient who
was in doubt at a kill before is the window that stays by nature; any other is a bug, and so
is a message that was acknowledged and never arrived: exit code 1.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from backstamp.sink.server import OK, Received, Sink
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
[retry]
schedule = ["1s"]
"""
BODY = "x" * 4000
QUIET = 15.0
"""Seconds without an arrival after which nothing more is expected."""


class Relay:
    """The relay under test, one life after the other."""

    def __init__(self, directory: Path, sink: int) -> None:
        self.port = free_port()
        self.queue = directory / "queue"
        self._config = directory / "backstamp.toml"
        self._config.write_text(CONFIG.format(queue=self.queue, port=self.port, sink=sink))
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a life, and wait until the ports answer."""
        self._process = await asyncio.create_subprocess_exec(
            BACKSTAMP, "serve", "--config", self._config, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert self._process.stdout is not None
        while b'"event":"started"' not in (line := await self._process.stdout.readline()):
            if not line:
                raise RuntimeError("the relay did not start")
        self._reading = asyncio.create_task(self._drain(self._process.stdout))

    async def _drain(self, events: asyncio.StreamReader) -> None:
        while line := await events.readline():
            if b'"event":"alarm"' in line:
                print(line.decode(), file=sys.stderr, end="")

    async def end(self, number: signal.Signals) -> None:
        """End this life."""
        assert self._process is not None
        self._process.send_signal(number)
        await self._process.wait()
        if self._reading is not None:
            await self._reading

    async def doubts(self) -> set[str]:
        """Return who is in doubt on the disk of the dead relay."""
        asked = await asyncio.create_subprocess_exec(
            BACKSTAMP, "queue", "doubt", "--queue", self.queue, "--json", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asked.communicate()
        return {one["recipient"] for one in json.loads(output)}


class Clients:
    """What was sent, and what was acknowledged."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._number = 0
        self.acknowledged: set[str] = set()
        self.ending = False

    async def run(self) -> None:
        """Send on one connection after the other."""
        while not self.ending:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await _expect(reader, b"220")
                    writer.write(b"EHLO bench.example.org\r\n")
                    await _expect(reader, b"250")
                    while not self.ending:
                        await self._message(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(0.02)

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        recipients = [f"u{self._number}-{n}@d{n}.example" for n in range(self._chance.randrange(1, 4))]
        lines = ["MAIL FROM:<sender@example.org>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
        writer.write("".join(f"{line}\r\n" for line in lines).encode())
        for code in (b"250",) * (len(lines) - 1) + (b"354",):
            await _expect(reader, code)
        writer.write(f"X-Number: {self._number}\r\n\r\n{BODY}\r\n.\r\n".encode())
        await _expect(reader, b"250")
        self.acknowledged.update(recipients)


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    line = b"   -"
    while line[3:4] == b"-":
        line = await reader.readuntil(b"\n")
    if not line.startswith(code):
        raise OSError(f"unexpected reply {line!r}")


async def soak(kills: int, clients: int, chance: random.Random) -> int:
    """Kill so often, then compare; print the figures and return the exit code."""
    arrived: Counter[str] = Counter()
    foretold: Counter[str] = Counter()
    in_doubt: list[int] = []

    def take(message: Received) -> None:
        arrived.update(recipient.decode() for recipient in message.recipients)

    with tempfile.TemporaryDirectory(dir=ROOT / "var") as directory:
        async with Sink(received=take) as sink, asyncio.TaskGroup() as group:
            # The peer takes its time over the reply, so that transactions are in flight at any moment.
            sink.script.do("DOT", octets=OK, delay=0.003)
            relay = Relay(Path(directory), sink.address[1])
            await relay.start()
            load = Clients(relay.port, chance)
            for _ in range(clients):
                group.create_task(load.run())
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(0.05, 1.0))
                await relay.end(signal.SIGKILL)
                await asyncio.sleep(0.05)
                doubts = await relay.doubts()
                foretold.update(doubts)
                in_doubt.append(len(doubts))
                await relay.start()
            load.ending = True
            # What is left is delivered; lost is what does not come though nothing else does either.
            before = -1
            while load.acknowledged - arrived.keys() and arrived.total() > before:
                before = arrived.total()
                await asyncio.sleep(QUIET)
            await asyncio.sleep(2)
            await relay.end(signal.SIGTERM)
    lost = load.acknowledged - set(arrived)
    twice = {recipient: count - 1 for recipient, count in arrived.items() if count > 1}
    unforetold = {recipient for recipient, extra in twice.items() if extra > foretold[recipient]}
    figures = {
        "kills": kills,
        "recipients_accepted": len(load.acknowledged),
        "recipients_delivered": len(arrived),
        "lost": len(lost),
        "second_copies": sum(twice.values()),
        "second_copies_not_foretold": len(unforetold),
        "in_doubt_at_a_kill": {
            "total": sum(in_doubt),
            "median": statistics.median(in_doubt),
            "most": max(in_doubt),
        },
    }
    print(json.dumps(figures, indent=2))
    return 1 if lost or unforetold else 0


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    (ROOT / "var").mkdir(exist_ok=True)
    raise SystemExit(asyncio.run(soak(options.kills, options.clients, random.Random(options.seed))))


if __name__ == "__main__":
    main()
