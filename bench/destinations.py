"""Ten thousand destinations at once, some of them bad: do the good ones wait for the bad ones?

    .venv/bin/python bench/destinations.py [--destinations 10000] [--runs 1]

Every destination has an MX of its own; the good ones share 250 loopback addresses. Of a hundred
one is dead (by turns a port that refuses and one that never answers a SYN) and one takes the connection
and says nothing. A run is a new relay with an empty queue that gets one recipient at each
destination, 1,000 a message; its time is from the first MAIL until the last good one has its
message. `ratio` is the time with the bad ones over that without: the demand is 1.2.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

import measure
from backstamp.sink.server import Received, Sink
from client import Client
from names import Names
from relays import ROOT, Backstamp, free_port

GOOD = tuple(f"127.1.{number // 200}.{1 + number % 200}" for number in range(250))
EACH = 1000
"""Recipients of a message."""

LIMIT = 240.0
"""Seconds after which a run is over, done or not."""

MORE = """
[dns]
nameservers = ["127.0.0.1:{dns}"]
[delivery]
port = {port}
private_addresses = true
"""


def kind(number: int) -> str:
    """Return what a destination is like, where there are bad ones."""
    return {17: "dead", 67: "stalling"}.get(number % 100, "good")


def bad_address(number: int) -> str:
    """Return the address that a bad destination has for itself."""
    return f"127.{2 if kind(number) == 'dead' else 3}.{number // 100 // 200}.{1 + number // 100 % 200}"


class Hosts:
    """The hosts behind the destinations, all on one port."""

    def __init__(self, destinations: int) -> None:
        self._numbers = range(destinations)
        self._stack = contextlib.AsyncExitStack()
        self.port = free_port()
        self.wanted: set[bytes] = set()
        self.done = asyncio.Event()

    async def __aenter__(self) -> "Hosts":
        for host in GOOD:
            await self._stack.enter_async_context(Sink(host, self.port, received=self._received))
        for number in self._numbers:
            if kind(number) == "stalling":
                stalling = await self._stack.enter_async_context(Sink(bad_address(number), self.port))
                stalling.script.do("CONNECT", delay=3600)
            elif kind(number) == "dead" and number // 100 % 2:
                self._black_hole(bad_address(number))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _black_hole(self, host: str) -> None:
        """Listen and never accept: once the backlog is full no SYN is answered."""
        listening = self._stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, self.port))
        listening.listen(0)
        filling = self._stack.enter_context(socket.socket())
        filling.connect((host, self.port))

    def _received(self, message: Received) -> None:
        self.wanted.difference_update(message.recipients)
        if not self.wanted:
            self.done.set()


async def run(program: Path, directory: Path, destinations: int, *, bad: bool) -> dict[str, Any]:
    """Run once, with or without the bad ones; the good ones are the same."""
    chosen = [number for number in range(destinations) if bad or kind(number) == "good"]
    async with (
        Hosts(destinations) as hosts,
        Names(
            lambda number: GOOD[number % len(GOOD)] if kind(number) == "good" else bad_address(number)
        ) as dns,
    ):
        hosts.wanted = {b"u@d%d.example" % number for number in chosen if kind(number) == "good"}
        good = len(hosts.wanted)
        relay = Backstamp(directory, None, program, more=MORE.format(dns=dns.address[1], port=hosts.port))
        root = await asyncio.to_thread(relay.start)
        try:
            cpu = measure.cpu([root])
            with measure.Peak(root) as peak:
                began = time.monotonic()
                async with Client(relay.port) as client:
                    for at in range(0, len(chosen), EACH):
                        await client.send([f"u@d{number}.example" for number in chosen[at : at + EACH]])
                handed_in = time.monotonic() - began
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LIMIT - handed_in):
                        await hosts.done.wait()
                seconds = time.monotonic() - began
            return {
                "seconds": round(seconds, 2),
                "good": good,
                "good_not_served": len(hosts.wanted),
                "good_per_second": round((good - len(hosts.wanted)) / seconds),
                "cpu_ms_each": round((measure.cpu([root]) - cpu) * 1000 / good, 3),
                "questions_each": round(dns.questions / len(chosen), 2),
                "peak_pss_mb": round(peak.octets / 1e6, 1),
            }
        finally:
            relay.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--destinations", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1, help="interleaved; medians are printed")
    parser.add_argument("--backstamp", type=Path, default=ROOT / ".venv/bin/backstamp")
    options = parser.parse_args()
    directory = ROOT / "var/destinations"
    found: dict[str, list[dict[str, Any]]] = {"good_only": [], "with_bad": []}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            for name, runs in found.items():
                one = run(options.backstamp, directory, options.destinations, bad=name == "with_bad")
                runs.append(runner.run(one))
                print(f"{name}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    medians = {
        name: {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
        for name, runs in found.items()
    }
    ratio = medians["with_bad"]["seconds"] / medians["good_only"]["seconds"]
    print(json.dumps({**medians, "ratio": round(ratio, 3)}, indent=1))


if __name__ == "__main__":
    main()
