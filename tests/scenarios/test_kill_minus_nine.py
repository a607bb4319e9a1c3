"""kill -9 in the middle of 2,000 messages under load: nothing acknowledged is lost.

A message counts as acknowledged when its client has read 250. A recipient was in flight at
the kill if the peer had its message and its stamp on disk was not `D`: read from the files
before the restart. Only those may come twice.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.load import Load
from tests.support.process import Process

from backstamp.queue.files import DiskFiles
from backstamp.queue.views import stopped
from backstamp.sink.server import OK, Received, Sink

MESSAGES = 2000
CLIENTS = 20
KILL_AT = 700


async def test_kill_minus_nine_under_load(tmp_path: Path, say: Callable[[str], None]) -> None:
    arrived: Counter[int] = Counter()

    def take(message: Received) -> None:
        [recipient] = message.recipients
        arrived[int(recipient[1:].partition(b"@")[0])] += 1

    async with Sink(received=take) as sink, Process(tmp_path, sink.address) as relay:
        # The peer takes its time over the reply, so that transactions are in flight at any moment.
        sink.script.do("DOT", octets=OK, delay=0.004)
        await relay.start()
        load = Load(relay.address, range(MESSAGES))
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(load.client()) for _ in range(CLIENTS)]
            while len(load.acknowledged) < KILL_AT:
                await asyncio.sleep(0.005)
            await relay.kill()
            before = Counter(arrived)
            waiting = {
                int(recipient.address[1:].partition("@")[0])
                for message in stopped(DiskFiles(), str(relay.queue))
                for recipient in message.recipients
                if recipient.stamp != "D"
            }
            in_flight = waiting & set(before)
            await relay.start()
        assert all(task.done() for task in clients)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while load.acknowledged - set(arrived):
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        assert await relay.stop() == 0

    lost = load.acknowledged - set(arrived)
    twice = {number for number, count in arrived.items() if count > 1}
    say(
        f"{len(load.acknowledged)} acknowledged, {len(lost)} lost, {len(waiting)} waiting and"
        f" {len(in_flight)} in flight at the kill, {len(twice)} came twice"
    )
    assert len(load.acknowledged) >= MESSAGES - CLIENTS
    assert not lost
    assert twice <= in_flight
    assert max(arrived.values()) <= 2
    assert len(in_flight) <= 20  # one a connection
