"""The loads and where they go: Postfix's own generator and sink where present, else none.

W1 10,000 messages of 4 KiB on 40 connections reused; W2 5,000 of 50 KiB; W3 10 messages of
1,000 recipients at one domain; W4 single messages, one after the other, timed.
"""

import asyncio
import contextlib
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from backstamp.sink.server import Received, Sink
from relays import end

SOURCE = Path("/usr/sbin/smtp-source")
SINK = Path("/usr/sbin/smtp-sink")


class Load(NamedTuple):
    """One bulk load; `recipients` of each message, octets of each."""

    messages: int
    size: int
    connections: int
    recipients: int = 1


LOADS = {
    "w1": Load(10_000, 4096, 40),
    "w2": Load(5_000, 51200, 40),
    "w3": Load(10, 4096, 10, 1000),
}


class CountingSink:
    """`smtp-sink`, which counts what it has taken."""

    def __init__(self, port: int) -> None:
        self._counters = tempfile.NamedTemporaryFile(prefix="sink-")  # noqa: SIM115 - as long as the sink
        self._process = subprocess.Popen(
            [SINK, "-u", "postfix", "-c", f"127.0.0.1:{port}", "1000"],
            stdout=self._counters,
            stderr=subprocess.DEVNULL,
        )

    def count(self) -> int:
        """Return the messages taken so far."""
        path = Path(self._counters.name)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200))
            found = re.findall(rb"mesg=(\d+)", file.read())
        return int(found[-1]) if found else 0

    def close(self) -> None:
        """End it."""
        end(self._process)
        self._counters.close()


def bulk(load: Load, port: int, sink: CountingSink, transactions: int, limit: float = 300) -> float:
    """Inject a load; return the seconds until the sink has had so many transactions."""
    before = sink.count()
    started = time.monotonic()
    command = [
        SOURCE, "-d", "-s", str(load.connections), "-m", str(load.messages), "-l", str(load.size),
        "-f", "sender@example.org", "-t", "recipient@example.com", f"127.0.0.1:{port}",
    ]  # fmt: skip
    if load.recipients > 1:
        command[1:1] = ["-r", str(load.recipients)]
    subprocess.run(command, check=True, timeout=limit, stdout=subprocess.DEVNULL)
    while sink.count() - before < transactions:
        if time.monotonic() - started > limit:
            raise RuntimeError(f"the sink had {sink.count() - before} of {transactions} after {limit} s")
        time.sleep(0.005)
    return time.monotonic() - started


def singles(port: int, sink_port: int, count: int) -> dict[str, float]:
    """Send messages one after the other; return milliseconds to the 250 and to the sink."""
    return asyncio.run(_singles(port, sink_port, count))


async def _singles(port: int, sink_port: int, count: int) -> dict[str, float]:
    arrived = asyncio.Event()
    moment = 0.0

    def take(_: Received) -> None:
        nonlocal moment
        moment = time.perf_counter()
        arrived.set()

    acknowledged, delivered = [], []
    async with Sink(port=sink_port, received=take), asyncio.timeout(120):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _reply(reader)
        writer.write(b"EHLO bench.example.org\r\n")
        await _reply(reader)
        for _ in range(count):
            arrived.clear()
            for line in (b"MAIL FROM:<s@example.org>", b"RCPT TO:<r@example.com>", b"DATA"):
                writer.write(line + b"\r\n")
                await _reply(reader)
            writer.write(b"Subject: one\r\n\r\n" + b"x" * 998 + b"\r\n.\r\n")
            started = time.perf_counter()
            await _reply(reader)
            acknowledged.append(time.perf_counter() - started)
            await arrived.wait()
            delivered.append(moment - started)
            await asyncio.sleep(0.01)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return {
        "ack_ms_p50": _milliseconds(acknowledged, 50), "ack_ms_p99": _milliseconds(acknowledged, 99),
        "end_to_end_ms_p50": _milliseconds(delivered, 50), "end_to_end_ms_p99": _milliseconds(delivered, 99),
    }  # fmt: skip


async def _reply(reader: asyncio.StreamReader) -> None:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    if line[:1] not in b"23" or not line:
        raise RuntimeError(f"unexpected reply {line!r}")


def _milliseconds(seconds: list[float], percentile: int) -> float:
    return round(statistics.quantiles(seconds, n=100, method="inclusive")[percentile - 1] * 1000, 3)
