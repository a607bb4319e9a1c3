"""End to end against Postfix, in one run: the same loads, the same sink, the same disk, in turn.

    .venv/bin/python bench/relay.py [--runs 3] [--loads w1,w2,w3,w4] [--scale 0.1] [--tuned]

Prints JSON: for each relay and load the medians over the runs, and the ratios. The relays
take turns within each run, because the machine is never quite the same twice.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exim
import measure
from load import LOADS, SINK, SOURCE, CountingSink, Load, bulk, singles
from relays import ROOT, Backstamp, Postfix, Relay, free_port

Figures = dict[str, float]
SINGLES = 200


def main() -> None:
    """Measure and print."""
    options = arguments()
    if not (SOURCE.exists() and SINK.exists()):
        sys.exit("bench: smtp-source and smtp-sink are missing; on Debian: apt-get install postfix")
    directory = Path(options.directory).resolve()
    makers = relays(options)
    results: dict[str, dict[str, list[Figures]]] = {name: {} for name in makers}
    for run in range(options.runs):
        for name in options.loads.split(","):
            for relay, make in makers.items():
                figures = measure_one(name, make, directory / relay, options.scale)
                results[relay].setdefault(name, []).append(figures)
                print(f"run {run + 1} {relay} {name}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    medians = {
        relay: {name: median(runs) for name, runs in loads.items()} for relay, loads in results.items()
    }
    print(
        json.dumps(
            {"machine": machine(), "runs": options.runs, "relays": medians, "ratios": ratios(medians)},
            indent=1,
        )
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1, help="interleaved runs; medians are printed")
    parser.add_argument("--loads", default="w1,w2,w3,w4", help="which loads, by comma")
    parser.add_argument("--only", choices=("backstamp", "postfix", "exim"), help="one relay alone")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of each load, for a quick look")
    parser.add_argument("--tuned", action="store_true", help="Postfix with raised limits (see relays.py)")
    parser.add_argument("--backstamp", type=Path, help="another program: an older version to compare with")
    parser.add_argument(
        "--directory", default=ROOT / "var/bench", help="where the queues are; on a real disk"
    )
    return parser.parse_args()


def relays(options: argparse.Namespace) -> dict[str, Callable[[Path, int], Relay]]:
    """Return how to make each relay."""
    makers: dict[str, Callable[[Path, int], Relay]] = {}
    if options.only in (None, "backstamp"):
        makers["backstamp"] = lambda directory, sink: Backstamp(directory, sink, options.backstamp)
    if options.only in (None, "postfix"):
        if Path("/usr/sbin/postfix").exists() and os.geteuid() == 0:
            makers["postfix"] = lambda directory, sink: Postfix(directory, sink, tuned=options.tuned)
        else:
            print("bench: without Postfix (it is not installed, or this is not root)", file=sys.stderr)
    if options.only in (None, "exim") and exim.available():
        makers["exim"] = exim.Exim
    return makers


def measure_one(name: str, make: Callable[[Path, int], Relay], directory: Path, scale: float) -> Figures:
    """Run one load through one relay, from an empty queue."""
    port = free_port()
    relay = make(directory, port)
    if name == "w4":
        try:
            relay.start()
            return singles(relay.port, port, max(20, int(SINGLES * scale)))
        finally:
            relay.stop()
    load = LOADS[name]
    load = load._replace(messages=max(load.connections, int(load.messages * scale)))
    sink = CountingSink(port)
    try:
        return _bulk(load, relay, relay.start(), sink, directory)
    finally:
        relay.stop()
        sink.close()


def _bulk(load: Load, relay: Relay, root: int, sink: CountingSink, directory: Path) -> Figures:
    transactions = load.messages * -(-load.recipients // relay.recipients_per_transaction)
    bulk(Load(40, load.size, 10), relay.port, sink, 40)  # connections, caches, first segment: not measured
    os.sync()
    disk = measure.written(directory)
    cpu = measure.cpu(measure.tree(root))
    with measure.Peak(root) as peak:
        seconds = bulk(load, relay.port, sink, transactions)
    used = measure.cpu(measure.tree(root)) - cpu
    figures = {
        "messages_per_second": round(load.messages / seconds, 1),
        "peak_pss_mb": round(peak.octets / 1e6, 1),
    }
    if relay.cpu_known:
        figures["cpu_ms_per_message"] = round(used * 1000 / load.messages, 4)
    if load.recipients > 1:
        figures["recipients_per_second"] = round(load.messages * load.recipients / seconds, 1)
    os.sync()
    if disk is not None:
        figures["kib_written_per_message"] = round(
            ((measure.written(directory) or 0) - disk) / 1024 / load.messages, 2
        )
    return figures


def median(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}


def ratios(medians: dict[str, dict[str, Figures]]) -> dict[str, Any]:
    """Return Backstamp's figures over Postfix's."""
    if not {"backstamp", "postfix"} <= set(medians):
        return {}
    ours, theirs = medians["backstamp"], medians["postfix"]
    return {
        name: {
            key: round(ours[name][key] / theirs[name][key], 3) for key in ours[name] if theirs[name].get(key)
        }
        for name in ours
    }


def machine() -> dict[str, Any]:
    """Return what it was measured on."""
    revision = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "revision": revision.stdout.strip(),
    }


if __name__ == "__main__":
    main()
