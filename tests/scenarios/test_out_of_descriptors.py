"""The system gives the relay no more file descriptors: clients are told so, and so is the operator.

What accept(2) does then nobody hears of by itself: the loop takes and closes whoever comes.
"""

import asyncio
import resource
from pathlib import Path
from typing import Any

import aiohttp
from tests.support.process import Process
from tests.support.talker import Talker

LIMIT = 96
SHELL = ("sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh")


async def readiness(relay: Process) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{relay.admin}/readyz") as response,
    ):
        return response.status, await response.text()


def told(relay: Process, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind; of alarms those about file descriptors."""
    found = [event for event in relay.events() if event["event"] == kind]
    return [event for event in found if kind != "alarm" or event["problem"].startswith("file descriptors")]


async def until(relay: Process, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not (found := told(relay, kind)):
            await asyncio.sleep(0.05)
    return found[0]


def allow(relay: Process, number: int) -> None:
    """Change the soft limit of a relay that runs (prlimit(2))."""
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (number, hard))


async def come(relay: Process) -> Talker:
    return Talker(*await asyncio.open_connection(*relay.address))


async def test_who_gets_no_descriptor_is_told_and_an_operator_sees_why(tmp_path: Path) -> None:
    """Security 15: 421, one alarm, not ready; who is in hands in mail; all is well once some have left."""
    async with Process(tmp_path, ("127.0.0.1", 9)) as relay:
        await relay.launch(*SHELL)
        assert await relay.ready()
        assert (await readiness(relay))[0] == 200
        clients: list[Talker] = []
        refused = b""
        while not refused and len(clients) < LIMIT:
            client = await come(relay)
            if (greeting := await client.reply()).startswith(b"220"):
                clients.append(client)
            else:
                refused = greeting
                client.go()
        assert refused == b"421 4.3.2 Too many connections\r\n"
        assert LIMIT // 3 < len(clients) < LIMIT - 10
        alarm = await until(relay, "alarm")
        assert alarm["problem"].startswith("file descriptors run out")
        assert str(LIMIT) in alarm["problem"]
        assert "LimitNOFILE" in alarm["action"]
        assert (await until(relay, "limited"))["client"] == "127.0.0.1"
        status, why = await readiness(relay)
        assert (status, why) == (503, "file descriptors run out\n")

        for _ in range(50):
            other = await come(relay)
            if (greeting := await other.reply()) == refused:
                other.go()
            else:
                clients.append(other)  # somewhere inside one was given back meanwhile
        assert greeting == refused
        assert len(told(relay, "alarm")) == len(told(relay, "limited")) == 1

        assert (await clients[0].say(b"EHLO client.test")).startswith(b"250")
        assert (await clients[0].hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")

        for client in clients:
            client.go()
        async with asyncio.timeout(20):
            while (await readiness(relay))[0] != 200:
                await asyncio.sleep(0.05)
        again = await come(relay)
        assert (await again.reply()).startswith(b"220")
        again.go()
        assert await relay.stop() == 0


async def test_a_relay_without_any_descriptor_tells_of_it_and_comes_back_by_itself(tmp_path: Path) -> None:
    """On a day on which not even accept(2) gets one; an operator may allow more while it runs."""
    async with Process(tmp_path, ("127.0.0.1", 9)) as relay:
        await relay.start()
        allow(relay, 8)
        client = await come(relay)
        alarm = await until(relay, "alarm")
        assert alarm["problem"] == "file descriptors run out: all of 8 are open"
        allow(relay, 1024)
        assert (await client.reply()).startswith(b"220")
        client.go()
        assert (await readiness(relay))[0] == 200
        assert await relay.stop() == 0
