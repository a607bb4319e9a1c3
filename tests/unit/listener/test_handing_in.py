"""A content that came whole is with the queue, and no task waits for it: what its client does meanwhile."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.certificates import written
from tests.support.door import Door, RecordingQueue, door
from tests.support.talker import Talker, talker

from backstamp.listener.session import Session
from backstamp.listener.settings import Limits, TlsSettings
from backstamp.mail.reply import Reply
from backstamp.queue.port import Message, QueueRefusedError, Told
from backstamp.telemetry import events

HELLO = b"EHLO client.test\r\n"
MAIL = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
DATA = MAIL + b"DATA\r\n"
FULL = QueueRefusedError(Reply(452, "4.3.1 Insufficient system storage"))


class Holding(RecordingQueue):
    """Keeps what is handed in until the test says what becomes of it; or refuses at once, or breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: asyncio.Queue[tuple[Message, Told, Callable[[], None]]] = asyncio.Queue()

    def hand_in(self, message: Message, told: Told, settled: Callable[[], None]) -> None:
        if isinstance(self.error, QueueRefusedError):
            told(self.error)
        elif self.error is not None:
            raise self.error
        else:
            self.handed.put_nowait((message, told, settled))

    async def comes(self) -> Callable[[Exception | None], None]:
        """Wait for the next message; return what ends it."""
        async with asyncio.timeout(20):
            message, told, settled = await self.handed.get()

        def end(error: Exception | None = None) -> None:
            told(error or message.queue_id)
            if error is None:
                settled()

        return end


async def greeted(client: Talker) -> None:
    await client.reply()
    assert (await client.say(HELLO.strip())).startswith(b"250")


async def left(opened: Door) -> None:
    """Wait until nothing is left of all clients."""
    await opened.empty()
    assert opened.budget.used == 0


async def noticed(opened: Door) -> None:
    """Wait until the listener knows that the only client went."""
    [session] = opened.listener._sessions
    async with asyncio.timeout(20):
        while session.transport is not None:
            await asyncio.sleep(0.005)


async def replies(client: Talker, count: int) -> list[bytes]:
    return [(await client.reply())[:3] for _ in range(count)]


async def test_what_comes_while_a_content_is_with_the_queue_waits_for_its_reply() -> None:
    """RFC 2920: replies in the order of what they answer, by DATA and by BDAT, taken and refused."""
    queue = Holding()
    async with door(behind=queue) as opened, talker(opened) as client:
        await greeted(client)
        client.send(DATA + b"1\r\n.\r\nNOOP\r\n")
        client.send(MAIL + b"BDAT 3 LAST\r\n2\r\n" + DATA + b"3\r\n.\r\nQUIT\r\n")
        assert await replies(client, 3) == [b"250", b"250", b"354"]
        end = await queue.comes()
        await asyncio.sleep(0.05)
        assert queue.handed.empty()
        end(FULL)
        assert await replies(client, 4) == [b"452", b"250", b"250", b"250"]
        end = await queue.comes()
        end(None)
        assert await replies(client, 4) == [b"250", b"250", b"250", b"354"]
        end = await queue.comes()
        end(None)
        assert [line[:3] for line in (await client.rest()).splitlines()] == [b"250", b"221"]
        await left(opened)


async def test_refused_at_once_one_behind_the_other() -> None:
    """However many: in order, each in a turn of the loop of its own, and who comes between has theirs."""
    queue = Holding()
    queue.error = FULL
    count = 2000  # deeper than calls may nest
    async with door(behind=queue) as opened, talker(opened) as other:
        await greeted(other)
        talking = asyncio.create_task(opened.talk(HELLO + (DATA + b"x\r\n.\r\n") * count + b"QUIT\r\n"))
        while not opened.events:
            await asyncio.sleep(0)
        assert await other.all(b"NOOP") == [b"250"]
        assert len(opened.events) < count
        said = [line[:3] for line in (await talking).splitlines() if not line.startswith((b"220", b"250-"))]
        assert said == [b"250", *[b"250", b"250", b"354", b"452"] * count, b"221"]


@pytest.mark.parametrize("mode", ["none", "starttls"])
async def test_who_goes_while_its_content_is_with_the_queue_is_known_until_it_is_answered(
    mode: str, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    queue = Holding()
    tls = TlsSettings(mode, (written(authority, tmp_path, "relay.example.org"),))
    async with door(behind=queue, tls=tls) as opened:
        for error in (None, FULL):
            async with talker(opened) as client:
                if mode == "none":
                    await greeted(client)
                else:
                    await client.starttls(context)
                    await client.say(HELLO.strip())
                client.send(DATA + b"1\r\n.\r\n" + DATA + b"2\r\n.\r\n")
                end = await queue.comes()
            await noticed(opened)
            assert opened.listener.connections == opened.crowd.connections == 1
            assert opened.budget.used
            end(error)
            await left(opened)
        assert queue.handed.empty()
        assert [type(event) for event in opened.events] == [events.Accepted, events.Refused]


async def test_closing_says_nothing_to_whom_the_queue_may_still_say_250() -> None:
    """Neither a 421 in its place, which would have the message sent again, nor for the time it takes."""
    queue = Holding()
    async with door(Limits(idle=0.1, block=0.1, message=0.1), behind=queue) as opened:
        async with talker(opened) as early, talker(opened) as late:
            ends = []
            for client in (early, late):
                await greeted(client)
                client.send(DATA + b"x\r\n.\r\n")
                assert await replies(client, 3) == [b"250", b"250", b"354"]
                ends.append(await queue.comes())
            await asyncio.sleep(1.5)  # the timer fires at least once a second
            closing = asyncio.create_task(opened.listener.close(0.5))
            await asyncio.sleep(0)
            ends[0](None)
            said = [line[:3] for line in (await early.rest()).splitlines()]
            assert said == [b"250", b"421"]
            await closing
            assert await late.rest() == b""
        assert opened.listener.connections == 1
        ends[1](None)
        await left(opened)


async def test_a_bug_behind_the_door_costs_no_mail_and_no_session() -> None:
    """What the queue raises is a 451, as all trouble of the relay's own (promise 4); the session goes on."""
    queue = Holding()
    async with door(behind=queue) as opened, talker(opened) as client:
        await greeted(client)
        queue.error = RuntimeError("secret detail")
        client.send(DATA + b"x\r\n.\r\nNOOP\r\n")
        assert await replies(client, 5) == [b"250", b"250", b"354", b"451", b"250"]
        assert isinstance(opened.events[0], events.Alarm)


@pytest.mark.parametrize("stays", [True, False])
async def test_a_bug_in_the_answer_ends_the_session_also_of_who_went(
    stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    queue = Holding()
    async with door(behind=queue) as opened:
        async with talker(opened) as client:
            await greeted(client)
            client.send(DATA + b"x\r\n.\r\n")
            end = await queue.comes()
            if not stays:
                client.go()
                await noticed(opened)
            monkeypatch.setattr(Session, "_answer", broken)
            end(None)
            if stays:
                assert (await client.rest()).splitlines()[-1].startswith(b"421 4.3.0")
        await left(opened)
        assert [type(event) for event in opened.events] == [events.Accepted, events.Alarm]
