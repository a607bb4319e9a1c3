"""How fast mail is taken while nothing of it leaves: the front door, Postfix's beside it, twice.

    .venv/bin/python bench/accept.py [--runs 3] [--messages 10000] [--profile FILE]

The 4 KiB load of `relay.py`, from the first connection to the last 250. The mail is for a smarthost
that never says a word: this relay and a tuned Postfix schedule it and wait. `postfix-hold` is the
same Postfix that puts everything on hold and schedules nothing: the least it can do with a message.
All write each message to the same disk before they say 250. Then all is counted in the queues:
what was said to be taken is there.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import measure
from load import SOURCE
from relays import ROOT, Backstamp, Postfix, Relay

CONNECTIONS = 40
SIZE = 4096


def inject(port: int, messages: int) -> float:
    """Inject messages; return the seconds until the last was taken."""
    command = [
        SOURCE, "-d", "-s", str(CONNECTIONS), "-m", str(messages), "-l", str(SIZE),
        "-f", "sender@example.org", "-t", "recipient@example.com", f"127.0.0.1:{port}",
    ]  # fmt: skip
    started = time.monotonic()
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def once(relay: Relay, directory: Path, messages: int, profile: str | None) -> dict[str, float]:
    """Measure one relay from an empty queue."""
    root = relay.start()
    try:
        inject(relay.port, CONNECTIONS * 2)  # connections, caches, first segment: not measured
        os.sync()
        cpu = measure.cpu(measure.tree(root))
        watcher = None
        if profile and isinstance(relay, Backstamp):
            command = ["py-spy", "record", "-r", "300", "-d", "5", "-f", "raw", "-o", profile]
            watcher = subprocess.Popen([*command, "-g", "-p", str(root)], stdout=subprocess.DEVNULL)
        with measure.Peak(root) as peak:
            seconds = inject(relay.port, messages)
        used = measure.cpu(measure.tree(root)) - cpu
        if watcher is not None:
            watcher.wait(30)
        found = waiting(relay, directory)
        if found != messages + CONNECTIONS * 2:
            raise RuntimeError(f"{relay.name} holds {found} messages")
    finally:
        relay.kill() if isinstance(relay, Backstamp) else relay.stop()
    return {
        "messages_per_second": round(messages / seconds, 1),
        "cpu_ms_per_message": round(used * 1000 / messages, 4),
        "peak_pss_mb": round(peak.octets / 1e6, 1),
    }


def waiting(relay: Relay, directory: Path) -> int:
    """Count the messages in a relay's queue."""
    if isinstance(relay, Backstamp):
        with urllib.request.urlopen(f"http://{relay.admin}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("backstamp_queue_messages "):
                    return int(float(line.split()[1]))
    # What is on hold, or comes in, or waits, or is tried: one file each, which may move while we look.
    parts = ("hold", "incoming", "active", "deferred")
    files = (path for part in parts for path in (directory / "queue" / part).rglob("*"))
    return len({path.name for path in files if path.is_file()})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--only", choices=("backstamp", "postfix", "postfix-hold"))
    parser.add_argument("--backstamp", type=Path, help="another program: an older version to compare with")
    parser.add_argument("--profile", help="file for py-spy's stacks of the last run")
    options = parser.parse_args()
    if not SOURCE.exists() or os.geteuid():
        sys.exit("bench: smtp-source is missing, or this is not root; on Debian: apt-get install postfix")
    directory = ROOT / "var/bench-accept"
    figures: dict[str, list[dict[str, float]]] = {}
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1000)
        smarthost = silent.getsockname()[1]
        for run in range(options.runs):
            makers = {
                "backstamp": lambda at: Backstamp(at, smarthost, options.backstamp),
                "postfix": lambda at: Postfix(at, smarthost, tuned=True),
                "postfix-hold": lambda at: Postfix(at, smarthost, tuned=True, hold=True),
            }
            for name, make in makers.items():
                if options.only in (None, name):
                    # A new place each time: files just removed cost Postfix a third of its rate.
                    at = directory / f"{name}-{run}"
                    one = once(make(at), at, options.messages, options.profile)
                    figures.setdefault(name, []).append(one)
                    print(f"run {run + 1} {name}: {json.dumps(one)}", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    medians = {
        name: {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}
        for name, runs in figures.items()
    }
    result: dict[str, object] = {"runs": options.runs, "relays": dict(medians)}
    if (ours := medians.pop("backstamp", None)) is not None:
        result["ratios"] = {
            name: {key: round(ours[key] / theirs[key], 3) for key in ours} for name, theirs in medians.items()
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
