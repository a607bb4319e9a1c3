"""A client that lost the relay's 250 sends again, before and after a kill: one message, one id (Q13)."""

import asyncio
from pathlib import Path

from tests.support.process import Process

from backstamp.sink.server import Received, Sink


async def submit(address: tuple[str, int], key: bytes) -> bytes:
    """Hand in a message with a key; return the reply to its content."""
    reader, writer = await asyncio.open_connection(*address)
    reply = await reader.readline()
    for line in (
        b"HELO client.test\r\n",
        b"MAIL FROM:<s@origin.example>\r\n",
        b"RCPT TO:<a@one.example>\r\n",
        b"DATA\r\n",
        b"Backstamp-Idempotency-Key: " + key + b"\r\nSubject: x\r\n\r\nbody\r\n.\r\n",
    ):
        writer.write(line)
        reply = await reader.readline()
    writer.close()
    return reply


async def test_a_client_that_lost_the_250_sends_again(tmp_path: Path) -> None:
    arrived: list[Received] = []
    async with Sink(received=arrived.append) as sink, Process(tmp_path, sink.address) as relay:
        await relay.start()
        first = await submit(relay.address, b"order 4711")
        assert first.startswith(b"250 2.0.0 Ok: queued as ")
        assert await submit(relay.address, b"order 4711") == first
        async with asyncio.timeout(20):
            # Told when the stamp is durable: a kill before it would keep the segment.
            while "delivered" not in {event["event"] for event in relay.events()}:
                await asyncio.sleep(0.01)
        # Each start finds the segment of the one before finished, and removes it.
        for _ in range(3):
            await relay.kill()
            await relay.start()
            assert await submit(relay.address, b"order 4711") == first
        other = await submit(relay.address, b"order 4712")
        assert other.startswith(b"250 ")
        assert other != first
        async with asyncio.timeout(20):
            while len(arrived) < 2:
                await asyncio.sleep(0.01)
        assert await relay.stop() == 0
    assert len(arrived) == 2
    assert all(b"idempotency" not in message.content.lower() for message in arrived)
    assert not list((relay.queue / "0").glob("*1.mail"))
    assert list((relay.queue / "0").glob("*.keys"))
