"""The process may open too few files: it says so before it matters, and blames no host for it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.client import send
from tests.support.process import Process
from tests.support.relay import RunningRelay, relay, via

from backstamp.delivery import feedback
from backstamp.mail.fault import Fault, Phase
from backstamp.net import dial
from backstamp.sink.server import Sink
from backstamp.telemetry import events

NOTHING = Fault(Phase.CONNECT, "resources", "no connection: too many open files")


class Machine:
    """How many more connections there are to be had, and how often there was none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1000
        self.refused = 0
        self._dial = dial.dial
        monkeypatch.setattr(dial, "dial", self._given)
        monkeypatch.setattr(feedback, "STARVED", 0.3)

    async def _given(self, *where: Any, **how: Any) -> socket.socket | Fault:
        if self.left <= 0:
            self.refused += 1
            return NOTHING
        self.left -= 1
        return await self._dial(*where, **how)


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
async def running(tmp_path: Path, machine: Machine) -> AsyncIterator[RunningRelay]:
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)]) as running:
        yield running


async def test_too_few_files_for_the_connections_are_told_at_the_start_and_at_a_reload(
    tmp_path: Path,
) -> None:
    async with Sink() as sink, Process(tmp_path, sink.address) as running:
        few = "[limits]\nconnections = 50\n[delivery]\ntotal_connections = 50\n"
        whole = running.config.read_text()
        running.config.write_text(whole.replace("[delivery]\n", few))
        await running.launch("prlimit", "--nofile=300:300")
        assert await running.ready()
        assert "alarm" not in [one["event"] for one in running.events()]
        running.config.write_text(whole)
        running.reload()
        async with asyncio.timeout(20):
            while not (alarms := [one for one in running.events() if one["event"] == "alarm"]):
                await asyncio.sleep(0.02)
        assert alarms[0]["problem"] == (
            "this process may open 300 files; the connections it is allowed to have may take 3100"
        )
        await running.stop()
        await running.launch("prlimit", "--nofile=3099:3099")
        assert await running.ready()
        alarms = [one for one in running.events() if one["event"] == "alarm"]
        assert "may open 3099 files" in alarms[1]["problem"]


async def test_mail_waits_for_a_connection_and_nobody_is_blamed(
    machine: Machine, running: RunningRelay
) -> None:
    machine.left = 0
    for number in range(10):
        await send(running.address, [f"u{number}@y.test"])
    await running.until(events.Throttled, 2)
    told = running.events(events.Throttled)[0]
    assert (told.destination, told.change, told.why) == ("all", "no new connections", NOTHING.text)
    assert running.relay.queue.ledger.waiting == 10
    machine.left = 1000
    await running.until(events.Delivered, 10)
    assert not running.events(events.Deferred)
    assert not running.events(events.HostDown)
    # One connect finds out for all: nobody else tries meanwhile.
    assert machine.refused == len(running.events(events.Throttled))


async def test_a_session_that_is_open_goes_on(machine: Machine, running: RunningRelay) -> None:
    await send(running.address, ["first@y.test"])
    await running.until(events.Delivered)
    machine.left = 0
    for number in range(5):
        await send(running.address, [f"u{number}@y.test"])
    await running.until(events.Delivered, 6)
    assert not running.events(events.Deferred)
    assert not running.events(events.HostDown)


async def test_a_session_that_breaks_off_gives_its_mail_back(tmp_path: Path, machine: Machine) -> None:
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)]) as running:
        sink.script.do("DATA", close=True, times=1)
        machine.left = 1
        await send(running.address, ["u@y.test"])
        await running.until(events.Throttled)
        machine.left = 1
        await running.until(events.Delivered)
        assert not running.events(events.Deferred)
        assert not running.events(events.HostDown)
