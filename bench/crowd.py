"""A crowd at the door (thousands say nothing, hundreds dribble, a line has no end), and good clients.

    .venv/bin/python bench/crowd.py [--idle 5000] [--slow 500] [--rate 0]

Ten good clients hand in messages of 4 KiB, one after the other on each connection; what they hand in is for
a smarthost that never says a word. First alone (`quiet`), then beside the crowd (`crowd`): idle connections
that were greeted, slow ones that send one octet a second (half of them in a command, half in a content),
and one line without an end, as fast as it is taken: 64 MiB and more. At the end every idle one says NOOP.
Wanted: `ratios` of 2 at most, `peak_pss_mb` of 300 at most, `idle_served` all. Exit code 1: one was missed.
"""

import argparse
import asyncio
import json
import resource
import shutil
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any, cast

import uvloop

import measure
from client import Client
from relays import ROOT, Backstamp

GOOD = 10
CONTENT = b"Subject: one\r\n\r\n" + (b"x" * 76 + b"\r\n") * 52
PIECE = b"x" * 65_536
LIMIT = 90.0
"""Seconds after which all is over, done or not."""
AT_ONCE = 200
"""Connections that are opened at a time."""


class Member(asyncio.Protocol):
    """One of the crowd: it was greeted, and waits."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.said: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if self.heard.endswith(b"\r\n") and not self.said.done():
            self.said.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.said.done():
            self.said.set_result(None)

    async def ask(self, octets: bytes = b"") -> bytes:
        """Say something (at first: nothing) and wait for the reply."""
        if octets:
            self.said = asyncio.get_running_loop().create_future()
            self.heard.clear()
            self.transport.write(octets)
        await self.said
        return bytes(self.heard)


async def arrive(port: int, count: int) -> list[Member]:
    """Open connections; each is greeted."""
    members: list[Member] = []

    async def one() -> None:
        _, member = await asyncio.get_running_loop().create_connection(Member, "127.0.0.1", port)
        if not (await member.ask()).startswith(b"220"):
            raise RuntimeError(f"greeted by {bytes(member.heard)!r}")
        members.append(member)

    for begin in range(0, count, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(min(AT_ONCE, count - begin))))
    return members


async def begin_content(member: Member) -> None:
    """Come to where a content is to be sent."""
    for command in (b"EHLO c.example", b"MAIL FROM:<s@bench.invalid>", b"RCPT TO:<r@bench.invalid>", b"DATA"):
        await member.ask(command + b"\r\n")


async def dribble(members: list[Member]) -> None:
    """Send an octet a second from each, spread over the second."""
    while True:
        for begin in range(20):
            for member in members[begin::20]:
                member.transport.write(b"x")
            await asyncio.sleep(0.05)


async def endless(port: int, rate: float, sent: list[int]) -> None:
    """Send a line that does not end: so many MiB a second, or (0) as fast as it is taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    while True:
        writer.write(PIECE)
        await writer.drain()
        sent[0] += len(PIECE)
        if rate:
            await asyncio.sleep(sent[0] / (rate * 2**20) - (time.monotonic() - began))


async def hand_in(port: int, seconds: float) -> list[float]:
    """Let the good clients work; return how long each message took, in milliseconds."""
    took: list[float] = []

    async def one(number: int) -> None:
        async with Client(port) as client:
            await client.send([f"u{number}@quiet.example"], CONTENT)
            end = time.monotonic() + seconds
            while (began := time.monotonic()) < end:
                await client.send([f"u{number}@quiet.example"], CONTENT)
                took.append((time.monotonic() - began) * 1000)

    await asyncio.gather(*map(one, range(GOOD)))
    return took


def figures(took: list[float]) -> dict[str, float]:
    """Return what is said of the times of many messages."""
    hundredths = statistics.quantiles(took, n=100)
    return {"messages": len(took), "p50_ms": round(hundredths[49], 2), "p99_ms": round(hundredths[98], 2)}


async def run(relay: Backstamp, root: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one relay that runs."""
    port = relay.port
    with measure.Peak(root) as peak:
        await hand_in(port, 1)  # caches, the first segment: not measured
        quiet = figures(await hand_in(port, options.seconds))
        before = measure.pss([root])
        began = time.monotonic()
        idle = await arrive(port, options.idle)
        arrived = time.monotonic() - began
        each = (measure.pss([root]) - before) / max(1, options.idle)
        slow = await arrive(port, options.slow)
        await asyncio.gather(*map(begin_content, slow[::2]))
        sent = [0]
        others = [asyncio.create_task(dribble(slow))]
        if options.rate >= 0:
            others.append(asyncio.create_task(endless(port, options.rate, sent)))
        await asyncio.sleep(2)
        beside = figures(await hand_in(port, options.seconds))
        began = time.monotonic()
        served = 0
        for start in range(0, len(idle), AT_ONCE):
            replies = await asyncio.gather(*(one.ask(b"NOOP\r\n") for one in idle[start : start + AT_ONCE]))
            served += sum(reply.startswith(b"250") for reply in replies)
        all_served = time.monotonic() - began
        alive = sum(not one.transport.is_closing() for one in slow)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    for one in (*idle, *slow):
        one.transport.abort()
    return {
        "quiet": quiet,
        "crowd": beside,
        "ratios": {key: round(beside[key] / quiet[key], 2) for key in ("p50_ms", "p99_ms")},
        "idle": len(idle),
        "idle_arrived_seconds": round(arrived, 2),
        "octets_per_idle": round(each),
        "idle_served": served,
        "idle_served_seconds": round(all_served, 2),
        "slow": len(slow),
        "slow_alive": alive,
        "line_mib": sent[0] >> 20,
        "peak_pss_mb": round(peak.octets / 1e6, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        help="MiB/s of the endless line; 0: all there is, -1: no line",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the two measurements")
    parser.add_argument("--backstamp", type=Path, help="another program: an older version to compare with")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = ROOT / "var/bench-crowd"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        relay = Backstamp(directory, silent.getsockname()[1], options.backstamp, limits="connections = 8000")
        root = relay.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(asyncio.wait_for(run(relay, root, options), LIMIT))
        finally:
            relay.kill()
    shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(found, indent=1))
    good = max(found["ratios"].values()) <= 2 and found["peak_pss_mb"] <= 300
    return 0 if good and found["idle_served"] == found["idle"] else 1


if __name__ == "__main__":
    sys.exit(main())
