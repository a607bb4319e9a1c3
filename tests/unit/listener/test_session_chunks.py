"""BDAT in a session: octets as they are, in any cut, and what is forgotten on the way (RFC 3030)."""

import asyncio
import errno

import pytest
from tests.support.door import Gathered, door
from tests.support.talker import talker
from tests.unit.listener.test_session import FALSE_ENDS, content_of, reset

from backstamp.listener import budget
from backstamp.listener.settings import Limits
from backstamp.telemetry import events

HELLO = b"EHLO client.test\r\n"
OPEN = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
HEADER = b"Subject: x\r\n\r\n"


def chunk(octets: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(octets), b" LAST" if last else b"", octets)


def cut(content: bytes, *sizes: int) -> bytes:
    """Return chunks of so many octets, one of what is left, and a last one of nothing."""
    made, start = [], 0
    for size in sizes:
        made.append(chunk(content[start : start + size]))
        start += size
    return b"".join([*made, chunk(content[start:]), chunk(b"", last=True)])


def letter(size: int) -> bytes:
    return HEADER + b"".join(b".%06d\r\n" % number for number in range(size // 9)) + b"\r\n.\r\n..\r\n"


@pytest.mark.parametrize("piece", [None, 7])
@pytest.mark.parametrize(
    "said",
    [
        chunk(letter(0), last=True),
        chunk(letter(0)) + chunk(b"", last=True),
        chunk(b"") + chunk(letter(0), last=True),
        cut(letter(0), 1, 2, 3, 11, 1, 1, 1),
        chunk(letter(0)).replace(b"BDAT", b"bdat") + chunk(b"", last=True).replace(b"LAST", b"last"),
    ],
)
async def test_chunks_are_the_content_octet_for_octet(said: bytes, piece: int | None) -> None:
    """RFC 3030: dots are octets like others; a chunk may be of nothing and end in the middle of a line."""
    async with door() as opened:
        replies = await opened.talk(HELLO + OPEN + said + b"QUIT\r\n", piece=piece)
        assert replies.count(b" octets received") + 1 == said.upper().count(b"BDAT")
        assert b"\r\n250 2.0.0 Ok: queued as" in replies
        [message] = opened.queue.messages
        assert content_of(message.content) == letter(0)
        assert b" with ESMTP id " in message.content
        assert opened.budget.used == 0


async def test_a_chunk_of_nothing_is_answered_though_nothing_follows() -> None:
    async with door() as opened, talker(opened) as client:
        await client.reply()
        for line in (b"EHLO client.test", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>"):
            assert (await client.say(line)).startswith(b"250")
        assert await client.say(b"BDAT 0") == b"250 2.0.0 0 octets received\r\n"
        client.send(chunk(letter(0)))
        assert await client.reply() == b"250 2.0.0 %d octets received\r\n" % len(letter(0))
        assert (await client.say(b"BDAT 0 LAST")).startswith(b"250 2.0.0 Ok: queued as")
        [message] = opened.queue.messages
        assert content_of(message.content) == letter(0)


@pytest.mark.parametrize(
    "sizes",
    [
        (),
        (1_000_000, 100_000),
        (1, 262_143, 262_144, 262_145, 900_000),
        (1024 * 1024 - 64, 1),
        (10,) * 2000,
        (3_000_000,),
    ],
    ids=len,
)
async def test_large_messages_in_chunks_of_any_size(sizes: tuple[int, ...]) -> None:
    """RFC 3030: more than is kept in memory, octet for octet."""
    content = letter(3_500_000)
    async with door() as opened:
        replies = await opened.talk(HELLO + OPEN + cut(content, *sizes) + OPEN + cut(letter(0)) + b"QUIT\r\n")
        assert replies.count(b"250 2.0.0 Ok: queued as") == 2
        assert [content_of(message.content) for message in opened.queue.messages] == [content, letter(0)]
        assert opened.budget.used == 0


@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
@pytest.mark.parametrize("size", [0, 1_200_000])
async def test_bare_line_ends_in_chunks_are_refused(end: bytes, size: int) -> None:
    """Security 1: chunks pass by the search for the final dot, not by the rule of line ends."""
    content = letter(size) + b"a" + end + b"MAIL FROM:<smuggled@b.example>\r\n"
    async with door() as opened:
        replies = await opened.talk(HELLO + OPEN + cut(content, 100) + b"QUIT\r\n")
        assert b"\r\n550 5.6.0" in replies
        assert opened.queue.messages == []
        assert opened.budget.used == 0


async def test_a_line_end_cut_in_two_is_one() -> None:
    """RFC 3030: a chunk may end between CR and LF."""
    content = HEADER + b"a\r\n"
    async with door() as opened:
        await opened.talk(HELLO + OPEN + cut(content, len(content) - 1) + b"QUIT\r\n")
        assert content_of(opened.queue.messages[0].content) == content


@pytest.mark.parametrize("forget", [b"RSET\r\n", b"EHLO again.test\r\n", b"QUIT\r\n", b""])
@pytest.mark.parametrize("size", [100, 1_500_000])
async def test_what_is_given_up_in_the_middle_is_forgotten(forget: bytes, size: int) -> None:
    """RFC 3030 §2: RSET and EHLO begin anew; the memory comes back, and nothing is in the queue."""
    async with door() as opened:
        said = HELLO + OPEN + chunk(letter(size)) + forget
        if forget[:4] in (b"RSET", b"EHLO"):
            said += b"BDAT 2 LAST\r\nxxNOOP\r\n" + OPEN + chunk(HEADER, last=True) + b"QUIT\r\n"
            replies = await opened.talk(said)
            assert b"503 5.5.1" in replies
            assert [content_of(message.content) for message in opened.queue.messages] == [HEADER]
        else:
            await opened.talk(said)
            assert opened.queue.messages == []
        await opened.empty()
        assert opened.budget.used == 0
        assert {deposit.ended for deposit in opened.queue.deposits} <= {"abandoned"}


@pytest.mark.parametrize("size", [10, 300_000])
async def test_chunks_nobody_wants_are_dropped(size: int) -> None:
    """RFC 3030 §4.2: their octets are no commands, whatever they say."""
    evil = (b"NOOP\r\n" + OPEN) * (size // 10)
    async with door() as opened:
        replies = await opened.talk(
            HELLO
            + chunk(evil)
            + b"MAIL FROM:<a@b.example>\r\n"
            + chunk(evil, last=True)
            + b"RSET\r\nQUIT\r\n"
        )
        codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
        assert codes == [b"220", b"250", b"503", b"250", b"554", b"250", b"221"]
        assert opened.queue.messages == []


async def test_a_refused_chunk_is_taken_before_it_is_refused() -> None:
    """RFC 3030 §2: its octets are discarded before the reply is sent; one of nothing has none."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        client.send(b"BDAT 8\r\nNOOP\r")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.reader.readline()
        client.send(b"\n\r\nNOOP\r\n")
        assert (await client.reply()).startswith(b"503 5.5.1")
        assert (await client.reply()).startswith(b"250 2.0.0")
        assert (await client.say(b"BDAT 0 LAST")).startswith(b"503 5.5.1")


async def test_between_chunks_nothing_else_is_in_order() -> None:
    """RFC 3030 §3: DATA, RCPT, MAIL and AUTH wait for the last chunk; NOOP and VRFY do not disturb."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        client.send(HELLO + OPEN + chunk(HEADER))
        assert [(await client.reply())[:3] for _ in range(4)] == [b"250"] * 4
        lines = (b"DATA", b"RCPT TO:<e@d.example>", b"MAIL FROM:<e@b.example>", b"NOOP", b"VRFY x")
        assert await client.all(*lines) == [b"503", b"503", b"503", b"250", b"252"]
        client.send(chunk(b"body\r\n", last=True))
        assert (await client.reply()).startswith(b"250 2.0.0 Ok: queued")
        [message] = opened.queue.messages
        assert content_of(message.content) == HEADER + b"body\r\n"
        assert [one.address for one in message.envelope.recipients] == [b"c@d.example"]


async def test_a_binary_content_is_not_taken() -> None:
    """RFC 3030 §3: BINARYMIME is not offered, and who asks for it is told so."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        offers = await client.say(b"EHLO client.test")
        assert b"250-CHUNKING\r\n" in offers
        assert b"BINARYMIME" not in offers
        assert (await client.say(b"MAIL FROM:<a@b.example> BODY=BINARYMIME"))[:3] in (b"501", b"504", b"555")


@pytest.mark.parametrize("argument", [b"", b"x", b"-1", b"1 FIRST", b"99999999999999999999", b"1 LAST LAST"])
async def test_a_chunk_without_a_size_ends_the_session(argument: bytes) -> None:
    """RFC 3030 §2: where the next command begins nobody knows."""
    async with door() as opened:
        replies = await opened.talk(HELLO + OPEN + b"BDAT " + argument + b"\r\n" + OPEN)
        assert replies.splitlines()[-1].startswith(b"421 ")


async def test_chunks_beyond_the_limit_are_refused_at_the_end() -> None:
    """RFC 1870 §6.3: 552, and the session goes on; far beyond it ends."""
    async with door(Limits(message_size=20_000)) as opened:
        said = HELLO + OPEN + cut(letter(30_000), 10_000, 10_000) + OPEN + chunk(HEADER, last=True)
        replies = await opened.talk(said + OPEN + b"BDAT 60001\r\n" + b"x" * 60_001)
        codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
        assert codes[2:].count(b"552") == 1
        assert codes[-1] == b"421"
        assert len(opened.queue.messages) == 1


async def test_a_declared_size_beyond_the_limit_is_refused_before_a_chunk() -> None:
    """RFC 1870: at MAIL."""
    async with door(Limits(message_size=20_000)) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await client.say(b"MAIL FROM:<a@b.example> SIZE=20001")).startswith(b"552 5.3.4")
        assert (await client.say(b"MAIL FROM:<a@b.example> SIZE=20000")).startswith(b"250")


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("way", ["BDAT", "chunks", "DATA"])
async def test_many_large_messages_in_little_memory(way: str, declared: bool) -> None:
    """Security 15: who finds no room waits; all are taken whole, and all memory comes back.

    Clients send content behind BDAT at once, so it is there before there is room for it.
    """
    async with door(Limits(content_memory=1)) as opened:
        assert opened.budget.limit == budget.LEAST
        content = letter(1_500_000)
        if way == "DATA":
            said = b"DATA\r\n" + content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        elif way == "BDAT":
            said = chunk(content, last=True)
        else:
            said = cut(content, *[100_000] * 14)
        size = b" SIZE=%d" % len(content) if declared else b""
        mail = OPEN.replace(b".example>\r\nRCPT", b".example>%b\r\nRCPT" % size)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, opened.budget.used)
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(opened.talk(HELLO + mail + said + b"QUIT\r\n") for _ in range(20)))
        watching.cancel()
        assert all(b"250 2.0.0 Ok: queued as" in answer for answer in answers)
        assert [content_of(message.content) == content for message in opened.queue.messages] == [True] * 20
        assert opened.budget.used == opened.budget.waiting == 0
        assert budget.SPARE // 2 < most <= budget.LEAST


async def test_small_chunks_of_an_undeclared_message_are_counted() -> None:
    """Security 15: what is gathered of a message counts, not only what came of its last chunk."""
    async with door() as opened, talker(opened) as client:
        await client.reply()
        client.send(HELLO + OPEN + chunk(HEADER))
        for _ in range(4):
            await client.reply()
        assert opened.budget.used == budget.UNKNOWN
        for _ in range(10):
            client.send(chunk(b"x" * 98_000 + b"\r\n"))
            await client.reply()
        assert opened.budget.used == budget.SPARE
        client.send(b"RSET\r\n")
        await client.reply()
        assert opened.budget.used == 0


@pytest.mark.parametrize("waits", ["to begin", "to grow"])
async def test_who_goes_while_it_waits_for_room_waits_no_more(waits: str) -> None:
    """Security 15: nobody's place in the queue for memory is kept, nor its connection counted.

    Who only sends no more (FIN) may still wait for its reply, and keeps both.
    """
    async with door(Limits(content_memory=1)) as opened:
        if waits == "to begin":
            hold = opened.budget.take(budget.SPARE)
        else:
            hold = await opened.budget.wait(budget.SMALLEST)
            await hold.grow(budget.SPARE)
        assert hold is not None
        async with talker(opened) as client:
            client.send(HELLO + OPEN + b"DATA\r\n" + b"x" * 200_000)
            async with asyncio.timeout(10):
                while not opened.budget.waiting:
                    await asyncio.sleep(0.01)
            assert opened.listener.connections == 1
            reset(client.writer)
        await opened.empty()
        hold.release()
        assert opened.budget.used == opened.budget.waiting == 0
        assert b"250 2.0.0 Ok" in await opened.talk(HELLO + OPEN + chunk(letter(1_500_000), last=True))
        assert not any(isinstance(event, events.Alarm) for event in opened.events)


async def test_no_room_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security 15: 452 to DATA, or behind the octets of a chunk (RFC 3030 §2), and the session goes on."""
    monkeypatch.setattr("backstamp.listener.reception.ROOM", 0.1)
    async with door(Limits(content_memory=1)) as opened:
        hold = opened.budget.take(budget.SPARE)
        assert hold is not None
        async with talker(opened) as client:
            await client.reply()
            client.send(HELLO + OPEN)
            for _ in range(3):
                await client.reply()
            assert (await client.say(b"DATA")).startswith(b"452 4.3.1")
            hold.release()
            assert (await client.say(b"DATA")).startswith(b"354")
            assert (await client.say(b"x\r\n.")).startswith(b"250 2.0.0")
        hold = opened.budget.take(budget.SPARE)
        replies = await opened.talk(HELLO + OPEN + chunk(OPEN) + chunk(OPEN, last=True) + b"QUIT\r\n")
        codes = [line[:9] for line in replies.splitlines()[-3:]]
        assert codes == [b"452 4.3.1", b"503 5.5.1", b"221 2.0.0"]
        told = [event.command for event in opened.events if isinstance(event, events.Refused)]
        assert told == ["DATA", "BDAT", "BDAT"]


@pytest.mark.parametrize("padding", [b" " * 3000, b" " * 300_000])
async def test_behind_a_chunk_s_line_that_is_too_long_nothing_is_a_command(padding: bytes) -> None:
    """RFC 3030: where its octets end nobody knows, and they may look like commands."""
    async with door() as opened:
        said = b"EHLO c.test\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 9 LAST" + padding
        replies = await opened.talk(said + b"\r\nNOOP\r\nNOOP\r\n")
        assert replies.splitlines()[-1].startswith(b"421 4.7.0 BDAT without a size")
        assert not opened.queue.messages


async def test_a_draft_that_cannot_be_let_go_of_costs_neither_memory_nor_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Security 15: the client went in the middle of its message, and the disk is ill: close(2) fails."""

    async def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Gathered, "abandon", fail)
    async with door() as opened:
        async with talker(opened) as client:
            await client.reply()
            client.send(HELLO + OPEN + b"DATA\r\n" + letter(2_000_000)[:-7])
            async with asyncio.timeout(20):
                while not opened.queue.deposits:
                    await asyncio.sleep(0.01)
            client.go()
        await opened.empty()
        assert opened.budget.used == 0
        [alarm] = [event for event in opened.events if isinstance(event, events.Alarm)]
        assert alarm.problem.endswith("cannot be closed: input/output error")
