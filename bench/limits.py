"""A host that takes five connections and tells 421 to more: how soon is that learned, what does it cost?

    .venv/bin/python bench/limits.py [--messages 3000] [--runs 1]

The sink takes 50 ms for each message, so five connections carry at most 100 messages a second.
By turns the relay knows nothing (`learning`), or is told `connections = 5` (`told`). Once a
third of the messages is through, the share of 421 among what was tried is counted on the
sink: `refused_share`, wanted below 0.01. `ratio` is the rate of the learning relay over that of
the one that was told, from a third to nine tenths of the messages: wanted 0.9 at least. `seconds` is for all
of them: what was put off by a 421 comes at its next attempt.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from backstamp.sink.server import OK, Options, Received, Sink
from client import Client
from relays import ROOT, Backstamp

CONNECTIONS = 5
DELAY = 0.05
LIMIT = 240.0
"""Seconds after which a run is over, done or not."""


class Watch:
    """What came, when, and how many connections were refused by then."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self.sink: Sink
        self.moments: list[tuple[float, int]] = []
        self.done = asyncio.Event()

    def take(self, _: Received) -> None:
        """Count a message."""
        self.moments.append((time.monotonic(), self.sink.refused))
        if len(self.moments) >= self._messages:
            self.done.set()


async def run(program: Path, directory: Path, messages: int, *, told: bool) -> dict[str, Any]:
    """Run once."""
    watch = Watch(messages)
    sink = Sink(options=Options(connections=CONNECTIONS), received=watch.take)
    sink.script.do("DOT", octets=OK, delay=DELAY)
    watch.sink = sink
    async with sink:
        more = f"[delivery]\nconnections = {CONNECTIONS}\n" if told else ""
        relay = Backstamp(directory, sink.address[1], program, more=more)
        await asyncio.to_thread(relay.start)
        try:
            began = time.monotonic()
            async with Client(relay.port) as client:
                for number in range(messages):
                    await client.send([f"u{number}@limited.example"])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIMIT):
                    await watch.done.wait()
            seconds = time.monotonic() - began
            deferred = sum(
                b'"event":"deferred"' in line and b"421" in line
                for line in relay.events.read_bytes().splitlines()
            )
        finally:
            relay.kill()
    third, late = messages // 3, messages * 9 // 10
    got = len(watch.moments)
    figures = {"messages_per_second": 0.0, "refused_share": 1.0}  # of a run that did not come so far
    if got > late:
        carried = late - third
        refused = watch.moments[late][1] - watch.moments[third][1]
        took = watch.moments[late][0] - watch.moments[third][0]
        figures = {
            "messages_per_second": round(carried / took, 1),
            "refused_share": round(refused / (carried + refused), 4),
        }
    return {
        **figures,
        "refused": sink.refused,
        "deferred_by_421": deferred,
        "seconds": round(seconds, 1),
        "not_delivered": messages - got,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=1, help="interleaved; medians are printed")
    parser.add_argument("--backstamp", type=Path, default=ROOT / ".venv/bin/backstamp")
    options = parser.parse_args()
    directory = ROOT / "var/limits"
    found: dict[str, list[dict[str, Any]]] = {"learning": [], "told": []}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            for name, runs in found.items():
                runs.append(
                    runner.run(run(options.backstamp, directory, options.messages, told=name == "told"))
                )
                print(f"{name}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    medians = {
        name: {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
        for name, runs in found.items()
    }
    rates = [medians[name]["messages_per_second"] for name in found]
    print(json.dumps({**medians, "ratio": round(rates[0] / rates[1], 3) if rates[1] else None}, indent=1))


if __name__ == "__main__":
    main()
