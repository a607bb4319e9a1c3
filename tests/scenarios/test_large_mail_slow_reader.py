"""A large message to a host that reads slowly: the relay's memory does not grow with it."""

import asyncio
from pathlib import Path

from tests.support.client import send
from tests.support.operator import written
from tests.support.peer import ExactPeer, ExactSession
from tests.support.process import Process

MIB = 1024 * 1024
SIZE = 20 * MIB
BOUND = 12 * MIB


def highest(process: Process) -> int:
    """Return the most memory the process ever had resident, in octets."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


class SlowReader:
    """Takes one message, reads none of it until it is told to, and then no more than a window at a time."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.taken = asyncio.Event()
        self.content = b""

    async def __call__(self, session: ExactSession) -> None:
        # MAIL and RCPT come with DATA in one group.
        await session.hear(3)
        await session.say(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go ahead\r\n")
        session.stop_reading()
        self.begun.set()
        await self.go_on.wait()
        self.content = await session.content()
        await session.say(b"250 2.0.0 Ok\r\n")
        self.taken.set()
        await session.hear()
        await session.say(b"221 2.0.0 Bye\r\n")


async def test_it_arrives_whole_and_memory_is_bounded(tmp_path: Path) -> None:
    line = b"x" * 74 + b"\r\n"
    content = b"Subject: large\r\n\r\n" + line * (SIZE // len(line))
    reader = SlowReader()
    async with (
        ExactPeer(reader, window=65536) as peer,
        Process(tmp_path, peer.address) as process,
    ):
        route = '[[route]]\nmatch = "*"\nvia = "{}:{}"'.format(*peer.address)
        written(tmp_path, route, listen=process.address[1], admin=process.admin)
        await process.start()
        before = highest(process)
        await send(process.address, ["r@y.test"], content=content)
        accepted = highest(process)
        async with asyncio.timeout(20):
            await reader.begun.wait()
        await asyncio.sleep(0.3)
        reader.go_on.set()
        async with asyncio.timeout(60):
            await reader.taken.wait()
        assert accepted - before < BOUND, (before, accepted)
        assert highest(process) - before < BOUND, (before, accepted, highest(process))
        assert reader.content.endswith(content)
        assert await process.stop() == 0
        [event] = [one for one in process.events() if one["event"] == "delivered"]
        assert event["recipient"] == "r@y.test"
