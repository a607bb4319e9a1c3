"""The process may open too few files: it says so before it matters, and blames no host for it."""

import asyncio
from pathlib import Path

from tests.support.process import Process

from backstamp.sink.server import Sink


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
