"""What one client may do, how long it may take; told to it, and to the operator."""

import asyncio
from ipaddress import ip_network

import pytest
from tests.support.door import door
from tests.support.talker import Talker, talker
from tests.unit.listener.test_session import START

from backstamp.listener.settings import Limits
from backstamp.policy.destination import Rate
from backstamp.telemetry import events

MAIL = b"MAIL FROM:<a@b.example>"


def limited(told: list[events.Event]) -> list[str]:
    return [event.limit for event in told if isinstance(event, events.Limited)]


async def test_connections_per_client() -> None:
    """Security 15: one more is sent away; one that left makes room; this host is exempt by default."""
    for exempt, reply in (((), b"421 4.7.0 Too many connections from your address"), (None, b"220 ")):
        changes = {} if exempt is None else {"exempt": exempt}
        async with door(Limits(connections_per_client=2, **changes)) as opened:
            clients = [await Talker.come(opened) for _ in range(2)]
            assert all([(await client.reply()).startswith(b"220") for client in clients])
            async with talker(opened) as third:
                assert (await third.reply()).startswith(reply)
            clients.pop().go()
            async with asyncio.timeout(5):
                while opened.crowd.connections > 1:
                    await asyncio.sleep(0.01)
            async with talker(opened) as fourth:
                assert (await fourth.reply()).startswith(b"220")
            assert limited(opened.events) == ([] if exempt is None else ["connections_per_client"])
            clients.pop().go()


async def test_connection_rate() -> None:
    """Security 15: opening and closing counts, too."""
    async with door(Limits(connection_rate=Rate(2, 3600.0), exempt=())) as opened:
        greetings = [(await opened.talk(b"QUIT\r\n"))[:9] for _ in range(4)]
        assert greetings[:2] == [b"220 relay"] * 2
        assert greetings[-1] == b"421 4.7.0"
        assert "connection_rate" in limited(opened.events)


async def test_message_rate() -> None:
    """Security 15: 450 to MAIL, the session goes on; the count is the client's, over all its connections."""
    async with door(Limits(message_rate=Rate(2, 3600.0), exempt=())) as opened:
        async with talker(opened) as client:
            await client.reply()
            await client.say(b"EHLO client.test")
            replies = [await client.all(MAIL, b"RSET") for _ in range(4)]
            assert replies[:2] == [[b"250", b"250"]] * 2
            assert replies[-1] == [b"450", b"250"]
        async with talker(opened) as client:
            await client.reply()
            await client.say(b"EHLO client.test")
            assert (await client.say(MAIL)).startswith(b"450 4.7.1 Too many messages")
        assert limited(opened.events) == ["message_rate"]


async def test_recipient_rate() -> None:
    """Security 15: 450 to RCPT; those taken are kept."""
    async with door(Limits(recipient_rate=Rate(3, 3600.0), exempt=())) as opened, talker(opened) as client:
        await client.reply()
        await client.all(b"EHLO client.test", MAIL)
        replies = await client.all(*(b"RCPT TO:<r%d@d.example>" % number for number in range(6)))
        assert replies[:3] == [b"250"] * 3
        assert replies[-1] == b"450"
        assert (await client.say(b"DATA")).startswith(b"354")
        assert (await client.say(b"x\r\n.")).startswith(b"250")
        assert len(opened.queue.messages[0].envelope.recipients) == replies.count(b"250")
        assert limited(opened.events) == ["recipient_rate"]


async def test_messages_per_connection() -> None:
    """Security 15: 421 after so many, also behind a pipeline; another connection begins anew."""
    async with door(Limits(messages_per_connection=2, exempt=())) as opened:
        one = START + b"x\r\n.\r\n"
        for _ in range(2):
            replies = await opened.talk(one * 4 + b"QUIT\r\n")
            assert replies.count(b"250 2.0.0 Ok: queued") == 2
            assert replies.splitlines()[-1].startswith(b"421 4.7.0 Enough messages")
        assert len(opened.queue.messages) == 4


async def test_a_command_that_trickles_is_cut_off() -> None:
    """Security 14: octets of a command earn no time."""
    async with door(Limits(idle=0.4)) as opened, talker(opened) as client:
        await client.reply()

        async def trickle() -> None:
            while True:
                client.send(b"N")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await client.rest() == b"421 4.4.2 Idle for too long\r\n"
        trickling.cancel()
        await opened.empty()


async def test_every_command_has_its_own_time() -> None:
    """RFC 5321 §4.5.3.2.7: for the next command, however long the session is without a message."""
    async with door(Limits(idle=1.0)) as opened, talker(opened) as client:
        await client.reply()
        for line in (b"EHLO client.test", MAIL, *[b"RCPT TO:<c@d.example>"] * 3, *[b"NOOP"] * 4):
            await asyncio.sleep(0.2)
            assert (await client.say(line)).startswith(b"250")
        assert await client.rest() == b"421 4.4.2 Idle for too long\r\n"


async def test_an_endless_line_is_cut_off() -> None:
    """Security 14: a line that never ends is no command either, however fast it comes."""
    async with door(Limits(idle=0.4)) as opened, talker(opened) as client:
        await client.reply()

        async def flood() -> None:
            while True:
                client.send(b"x" * 10_000)
                await asyncio.sleep(0.01)

        flooding = asyncio.create_task(flood())
        assert (await client.rest()).startswith(b"421 4.4.2 Idle")
        flooding.cancel()


@pytest.mark.parametrize("way", [b"DATA\r\n", b"BDAT 1000000 LAST\r\n"])
async def test_a_content_slower_than_the_least_rate_is_cut_off(way: bytes) -> None:
    """Security 14: octets earn the time the rate gives them, no more."""
    async with door(Limits(block=0.5, min_data_rate=100_000)) as opened, talker(opened) as client:
        await client.reply()
        client.send(START.removesuffix(b"DATA\r\n") + way)
        for _ in range(3 + way.startswith(b"DATA")):
            await client.reply()

        async def trickle() -> None:
            while True:
                client.send(b"x" * 70 + b"\r\n")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await client.rest() == b"421 4.4.2 The message took too long\r\n"
        trickling.cancel()
        await opened.empty()
        assert opened.queue.messages == []
        assert opened.budget.used == 0


async def test_a_content_of_many_chunks_has_one_end() -> None:
    """Security 14: memory is not held for ever by a chunk now and then, whatever is said between."""
    async with door(Limits(message=1.0, block=0.9)) as opened, talker(opened) as client:
        await client.reply()
        await client.all(b"EHLO client.test", MAIL, b"RCPT TO:<c@d.example>")
        replies = [b""]
        while (reply := await client.say(b"BDAT 3\r\nx")).startswith(b"250"):
            replies.append(reply)
            await asyncio.sleep(0.1)
            assert len(replies) < 100
        assert reply == b"421 4.4.2 The message took too long\r\n"
        assert len(replies) > 1
        await opened.empty()
        assert opened.budget.used == 0


async def test_a_content_that_stands_still_is_cut_off() -> None:
    """Security 14: for `block` seconds, though a command had more."""
    async with door(Limits(block=0.2, min_data_rate=0)) as opened, talker(opened) as client:
        client.send(START + b"half a mess")
        for _ in range(5):
            await client.reply()
        assert await client.rest() == b"421 4.4.2 The message took too long\r\n"
        await opened.empty()


@pytest.mark.parametrize("way", [b"DATA\r\nhalf", b"BDAT 9\r\nhalf", b"BDAT 4\r\nhalf"])
async def test_a_message_that_was_cut_off_is_told(way: bytes) -> None:
    """Security 14: the operator hears of it, and whose it was; also between chunks."""
    async with door(Limits(block=0.2, message=0.4, min_data_rate=0)) as opened, talker(opened) as client:
        client.send(START.removesuffix(b"DATA\r\n") + way)
        assert (await client.rest()).endswith(b"421 4.4.2 The message took too long\r\n")
        await opened.empty()
        [told] = [event for event in opened.events if isinstance(event, events.Refused)]
        assert (told.command, told.reply, told.sender) == (
            "DATA",
            "421 4.4.2 The message took too long",
            "a@b.example",
        )


async def test_who_was_idle_is_told_once_a_minute() -> None:
    """Security 14: also of clients that are exempt from limits of their own."""
    async with door(Limits(idle=0.2)) as opened:
        for _ in range(2):
            async with talker(opened) as client:
                assert (await client.rest()).endswith(b"421 4.4.2 Idle for too long\r\n")
        assert limited(opened.events) == ["command_timeout"]


async def test_a_recipient_that_is_too_long_is_told_by_its_begin() -> None:
    """Security 15: and not by its end, which may look like another command."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        await client.all(b"EHLO client.test", MAIL)
        client.send(b"RCPT TO:<" + b"x" * 4000)
        await asyncio.sleep(0.1)  # the end comes alone
        assert (await client.say(b"RCPT TO:<the@end.example>")).startswith(b"500 5.5.2 Command line too long")
        [told] = [event for event in opened.events if isinstance(event, events.Refused)]
        assert (told.command, told.recipient) == ("RCPT", "TO:<" + "x" * 311)


@pytest.mark.parametrize(("content", "reply"), [(b"x", b"250 2.0.0"), (b"bare\n", b"550 5.6.0")])
async def test_who_is_idle_behind_a_message_is_cut_off(content: bytes, reply: bytes) -> None:
    """Security 14: for `idle` seconds, though the content had more; also where it was refused at once."""
    async with door(Limits(idle=0.5)) as opened, talker(opened) as client:
        client.send(START)
        for _ in range(5):
            await client.reply()
        await asyncio.sleep(0.7)
        client.send(content + b"\r\n.\r\n")
        assert (await client.reply()).startswith(reply)
        assert await client.rest() == b"421 4.4.2 Idle for too long\r\n"


async def test_who_waits_for_memory_is_not_slow() -> None:
    """Security 14: the time is the relay's own."""
    async with door(Limits(content_memory=1, block=0.3, idle=0.3)) as opened:
        hold = opened.budget.take(opened.budget.limit // 2)
        assert hold is not None
        asyncio.get_running_loop().call_later(1.0, hold.release)
        replies = await opened.talk(START.removesuffix(b"DATA\r\n") + b"BDAT 3 LAST\r\nx\r\nQUIT\r\n")
        assert b"250 2.0.0 Ok: queued" in replies


@pytest.mark.parametrize("behind", [b"MAIL FROM:<a@b.example>\r\n", b"QUIT\r\n", b"x"])
async def test_who_said_helo_may_not_send_ahead(behind: bytes) -> None:
    """Security 9: commands ahead of replies, of who was told of no PIPELINING, are another's."""
    async with door() as opened:
        replies = await opened.talk(b"HELO client.test\r\n" + behind)
        assert replies.splitlines()[-1].startswith(b"421 4.7.0 Only who said EHLO")
        assert opened.queue.messages == []


@pytest.mark.parametrize("size", [10, 1_500_000])
async def test_who_said_helo_may_send_nothing_behind_the_final_dot(size: int) -> None:
    """Security 9: what follows a content before its reply may be of who wrote the content, smuggled."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        lines = (b"HELO client.test", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"DATA")
        assert await client.all(*lines) == [b"250", b"250", b"250", b"354"]
        client.send(b"x" * size + b"\r\n.\r\nMAIL FROM:<smuggled@b.example>\r\n")
        replies = (await client.rest()).splitlines()
        assert replies[0].startswith(b"250 2.0.0 Ok: queued")
        assert replies[1:] == [b"421 4.7.0 Only who said EHLO may send commands ahead"]
        assert len(opened.queue.messages) == 1


async def test_who_said_helo_may_not_send_a_content_ahead() -> None:
    """Security 9: RFC 5321 §4.1.1.4: nothing of it before the 354."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        lines = (b"HELO client.test", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>")
        assert await client.all(*lines) == [b"250"] * 3
        client.send(b"DATA\r\nx\r\n.\r\n")
        assert (await client.rest()).startswith(b"421 4.7.0 Only who said EHLO")
        assert opened.queue.messages == []


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1", b"GET /", b"CONNECT x:25 HTTP/1.0", b"post / x"])
async def test_a_browser_is_sent_away(line: bytes) -> None:
    """Security 9: what a web form carries are no commands."""
    async with door() as opened:
        replies = await opened.talk(line + b"\r\nHost: x\r\n\r\n" + START + b"x\r\n.\r\n")
        assert replies.splitlines()[1:] == [b"421 4.7.0 This is a mail server"]
        assert opened.queue.messages == []


async def test_a_reload_changes_limits_for_who_comes_next() -> None:
    """What a session began with it keeps."""
    async with door(Limits(message_size=20_000)) as opened, talker(opened) as old:
        await old.reply()
        opened.reload(limits=Limits(message_size=1000, recipients=1), allow=(ip_network("192.0.2.0/24"),))
        assert b"250-SIZE 20000\r\n" in await old.say(b"EHLO client.test")
        assert (await old.hand_in(b"x" * 5000)).startswith(b"250 2.0.0")
        async with talker(opened) as new:
            await new.reply()
            assert b"250-SIZE 1000\r\n" in await new.say(b"EHLO client.test")
            assert (await new.say(MAIL + b" SIZE=1001")).startswith(b"552")
            assert (await new.hand_in(b"x")).startswith(b"550 5.7.1")


async def test_many_clients_that_come_and_go_leave_nothing() -> None:
    """Security 15: in whatever state."""
    async with door(Limits(exempt=())) as opened:
        halves = [
            b"",
            b"EH",
            START[:40],
            START,
            START + b"x" * 200_000,
            START + b"x\r\n.\r\n",
            b"BDAT 9\r\nx",
        ]
        for _ in range(10):
            clients = [await Talker.come(opened, first=half) for half in halves]
            await asyncio.sleep(0.02)
            for client in clients:
                client.go()
        await opened.empty()
        assert opened.budget.used == 0
        assert not any(isinstance(event, events.Alarm) for event in opened.events)


async def test_listeners_share_the_crowd_they_are_given() -> None:
    """Security 15: a limit holds over all of them, also where the crowd was empty when they were made."""
    async with door(Limits(connections=1)) as opened:
        assert opened.crowd.connections == 0
        async with talker(opened) as client:
            await client.reply()
            assert opened.crowd.connections == 1
        await opened.empty()
