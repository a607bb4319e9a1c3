"""A mailing to 100,000, and one message to the same domain in its midst: how long does that one take?

    .venv/bin/python bench/mailing.py [--recipients 100000] [--singles 20] [--runs 1]

The mailing is messages of 1,000 recipients; the sink takes 0.2 s for each transaction, whatever
is in it. Once a tenth of the mailing was delivered, single messages are handed in, 0.4 s apart until
nine tenths were, each timed from its 250 until the sink has it. `idle_ms` is what one takes with no mailing
under way. `transactions` is the median in the mailing over that: the demand is two.
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

import measure
from backstamp.sink.server import OK, Received, Sink
from client import Client
from relays import ROOT, Backstamp

EACH = 1000
"""Recipients of a message of the mailing."""

DELAY = 0.2
"""Seconds the sink takes for a transaction."""

APART = 0.4
"""Seconds between two single messages."""

IDLE = 10
LIMIT = 120.0
"""Seconds one message may take, and the rest of the mailing."""


class Watch:
    """Who was delivered, and when the single messages came."""

    def __init__(self) -> None:
        self.mailing = 0
        self._waited: dict[bytes, asyncio.Future[float]] = {}
        self._sending = asyncio.Lock()

    def take(self, message: Received) -> None:
        """Note a message whose final reply is `DELAY` away."""
        for recipient in message.recipients:
            if (waited := self._waited.pop(recipient, None)) is not None:
                waited.set_result(time.monotonic())
            else:
                self.mailing += 1

    async def single(self, client: Client, name: str) -> float:
        """Send one message; return the seconds from its 250 until it came, `LIMIT` if it did not."""
        waited: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waited[name.encode()] = waited
        async with self._sending:
            await client.send([name])
        handed_in = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                return max(0.0, await waited - handed_in) + DELAY
        return LIMIT


async def run(program: Path, directory: Path, recipients: int, singles: int) -> dict[str, Any]:
    """Run once."""
    watch = Watch()
    sink = Sink(received=watch.take)
    sink.script.do("DOT", octets=OK, delay=DELAY)
    async with sink:
        relay = Backstamp(directory, sink.address[1], program)
        root = await asyncio.to_thread(relay.start)
        try:
            async with Client(relay.port) as one, Client(relay.port) as many:
                idle = [await watch.single(one, f"idle{number}@one.example") for number in range(IDLE)]
                with measure.Peak(root) as peak:
                    began = time.monotonic()
                    mailing = asyncio.create_task(_mailing(many, recipients))
                    while watch.mailing < recipients / 10 and time.monotonic() - began < LIMIT:
                        await asyncio.sleep(0.01)
                    waiting: list[asyncio.Task[float]] = []
                    while watch.mailing < recipients * 9 // 10 and len(waiting) < singles:
                        single = watch.single(one, f"single{len(waiting)}@one.example")
                        waiting.append(asyncio.create_task(single))
                        await asyncio.sleep(APART)
                    took = await asyncio.gather(*waiting)
                    handed_in = await mailing
                    while watch.mailing < recipients and time.monotonic() - began < 2 * LIMIT:
                        await asyncio.sleep(0.01)
                    seconds = time.monotonic() - began
        finally:
            relay.kill()
    if not took:
        raise RuntimeError("the mailing was over before a single message was handed in: make it larger")
    base = statistics.median(idle)
    return {
        "idle_ms": round(base * 1000, 1),
        "single_ms_median": round(statistics.median(took) * 1000, 1),
        "single_ms_most": round(max(took) * 1000, 1),
        "transactions": round(statistics.median(took) / base, 2),
        "transactions_most": round(max(took) / base, 2),
        "singles": len(took),
        "mailing_handed_in_s": round(handed_in, 2),
        "mailing_s": round(seconds, 2),
        "mailing_not_delivered": recipients - watch.mailing,
        "peak_pss_mb": round(peak.octets / 1e6, 1),
    }


async def _mailing(client: Client, recipients: int) -> float:
    began = time.monotonic()
    for start in range(0, recipients, EACH):
        await client.send(
            [f"u{start + number}@one.example" for number in range(min(EACH, recipients - start))]
        )
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipients", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1, help="medians are printed")
    parser.add_argument("--backstamp", type=Path, default=ROOT / ".venv/bin/backstamp")
    options = parser.parse_args()
    directory = ROOT / "var/mailing"
    runs = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.runs):
            runs.append(runner.run(run(options.backstamp, directory, options.recipients, options.singles)))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    print(
        json.dumps({figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}, indent=1)
    )


if __name__ == "__main__":
    main()
