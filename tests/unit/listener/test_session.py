"""The session on the wire: ends of data, line ends, bounds, time, failures of the queue."""

import asyncio
import smtplib
import socket
import struct
import tracemalloc
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.door import door
from tests.support.talker import talker

from backstamp.listener import contents, wire
from backstamp.listener.budget import UNKNOWN
from backstamp.listener.conversation import Conversation
from backstamp.listener.settings import Limits
from backstamp.mail.reply import Reply
from backstamp.queue.port import QueueRefusedError
from backstamp.telemetry import events

START = b"EHLO client.test\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
AGAIN = b"MAIL FROM:<smuggled@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\n"
FALSE_ENDS = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n.\0\r\n",
]  # fmt: skip


def content_of(raw: bytes) -> bytes:
    """Return what stands below the Received field."""
    return raw.partition(b"+0000\r\n")[2]


@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
async def test_only_crlf_dot_crlf_ends_data(end: bytes) -> None:
    """Security 1: each false end makes one message or none, never two."""
    async with door() as opened:
        said = START + b"Subject: x\r\n\r\nfirst" + end + AGAIN + b"Subject: y\r\n\r\nsecond\r\n.\r\nQUIT\r\n"
        replies = (await opened.talk(said)).decode()
        assert len(opened.queue.messages) <= 1
        assert not any(message.envelope.sender.startswith(b"smuggled") for message in opened.queue.messages)
        assert "550 5.6.0" in replies
        assert replies.count("\r\n250 2.1.0") == 1


async def test_bare_line_feeds_end_no_command() -> None:
    """Security 3: a bare LF is no line end, so what stands before it is no command."""
    async with door() as opened:
        replies = await opened.talk(b"EHLO x.test\nNOOP\nQUIT\r\n")
        assert replies.splitlines()[1:] == [
            b"500 5.5.2 Syntax error: a command is one line of ASCII ended by CRLF",
            b"500 5.5.2 Syntax error: a command is one line of ASCII ended by CRLF",
            b"221 2.0.0 Bye",
        ]


@pytest.mark.parametrize("line", [b"NO\0OP", b"NOOP a\rb", b"NOOP \x1b[31m", b"RCPT TO:<a\0@b.example>"])
async def test_control_characters_in_commands(line: bytes) -> None:
    """Security 5: none in a command, wherever it stands."""
    async with door() as opened:
        assert b"\r\n500 5.5.2" in await opened.talk(line + b"\r\nQUIT\r\n")


async def test_content_is_kept_octet_for_octet() -> None:
    sent = (
        b"Subject: x\r\n\r\n" + bytes(range(1, 10)) + bytes(range(14, 256)) + b"\r\n.\r\n..\r\n...x\r\n\r\n"
    )
    stuffed = sent.replace(b"\r\n.", b"\r\n..")
    async with door() as opened:
        await opened.talk(START + stuffed + b".\r\nQUIT\r\n")
        [message] = opened.queue.messages
        assert content_of(message.content) == sent


async def test_an_empty_content_is_a_message() -> None:
    async with door() as opened:
        replies = await opened.talk(START + b".\r\nQUIT\r\n")
        assert b"250 2.0.0 Ok: queued as" in replies
        assert content_of(opened.queue.messages[0].content) == b""


async def test_a_content_without_a_header_does_not_become_one() -> None:
    async with door(submission=True) as opened:
        await opened.talk(START + b"just words\r\n.\r\nQUIT\r\n")
        header, _, body = opened.queue.messages[0].content.partition(b"\r\n\r\n")
        assert body == b"just words\r\n"
        assert b"\r\nMessage-ID: <" in header


async def test_submission_adds_what_is_missing_and_relaying_does_not() -> None:
    """RFC 6409: §8; Date and Message-ID."""
    for submission in (True, False):
        async with door(submission=submission) as opened:
            await opened.talk(START + b"Subject: x\r\n\r\n.\r\nQUIT\r\n")
            content = opened.queue.messages[0].content
            assert (b"\r\nDate: " in content) is submission
            assert (b"\r\nMessage-ID: <" in content) is submission
    async with door(submission=True) as opened:
        await opened.talk(START + b"date : then\r\nMESSAGE-ID: <a@b>\r\n\r\n.\r\nQUIT\r\n")
        content = opened.queue.messages[0].content.lower()
        assert content.count(b"date") == 1
        assert content.count(b"message-id") == 1


async def test_the_received_field() -> None:
    """RFC 3848, RFC 5321: one field, of §4.4's grammar, with the protocol's name."""
    async with door() as opened:
        await opened.talk(START + b"Subject: x\r\n\r\n.\r\nQUIT\r\n")
        field = opened.queue.messages[0].content.partition(b"\r\nSubject")[0].decode()
        assert field.startswith(
            "Received: from client.test ([127.0.0.1])\r\n\tby relay.example.org with ESMTP id "
        )
        assert parsedate_to_datetime(field.rpartition("\t")[2]).tzinfo is not None


async def test_a_loop_is_refused() -> None:
    """Security 13, RFC 5321: at more than a hundred Received fields (§6.3)."""
    hop = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    for count, reply in ((100, b"250 2.0.0"), (101, b"554 5.4.6")):
        async with door() as opened:
            replies = await opened.talk(START + hop * count + b"\r\nbody\r\n.\r\nQUIT\r\n")
            assert replies.splitlines()[-2].startswith(reply)


@pytest.mark.parametrize("padding", [0, 3_000_000])
async def test_a_tenant_is_noted_and_not_passed_on(padding: int) -> None:
    """Of large mail too, which comes in pieces."""
    body = b"\r\nbody\r\n" + (b"x" * 98 + b"\r\n") * (padding // 100)
    header = b"Subject: x\r\nBackstamp-Tenant: Acme\r\nTo: y\r\n"
    for honoured, kept in ((True, b"TENANT=Acme"), (False, b"TENANT=shop")):
        async with door(tenant="shop", tenant_header=honoured) as opened:
            await opened.talk(START + header + body + b".\r\nQUIT\r\n")
            [message] = opened.queue.messages
            assert content_of(message.content) == b"Subject: x\r\nTo: y\r\n" + body
            assert message.envelope.parameters == kept
            assert len(opened.queue.deposits) == bool(padding)


@pytest.mark.parametrize(
    "field", [b"", b"a b", b"x" * 65, b"=", b"a;b", b"\xc3\xbc", b"a\r\nBackstamp-Tenant: a", b"a\r\n b"]
)
@pytest.mark.parametrize("padding", [0, 3_000_000])
async def test_what_is_no_tenant_is_refused(field: bytes, padding: int) -> None:
    body = b"\r\n" + (b"x" * 98 + b"\r\n") * (padding // 100)
    async with door() as opened:
        replies = await opened.talk(START + b"Backstamp-Tenant: " + field + b"\r\n" + body + b".\r\nQUIT\r\n")
        assert b"\r\n554 5.6.0 Backstamp-Tenant is not one name" in replies
        assert opened.queue.messages == []


async def test_without_its_only_field_a_content_does_not_become_a_header() -> None:
    async with door() as opened:
        await opened.talk(START + b"Backstamp-Tenant: a\r\njust words\r\n.\r\nQUIT\r\n")
        assert content_of(opened.queue.messages[0].content) == b"\r\njust words\r\n"


# ---- who, and how much ----


async def test_only_who_is_allowed_may_relay() -> None:
    """Security 10: by the address of the connection."""
    async with door(allow=(ip_network("192.0.2.0/24"),)) as opened:
        replies = await opened.talk(START + b"QUIT\r\n")
        assert b"550 5.7.1 Relaying denied" in replies
        assert b"554 5.5.1 No valid recipients" in replies
        [denied, _] = [event for event in opened.events if isinstance(event, events.Refused)]
        assert (denied.command, denied.client, denied.recipient) == ("RCPT", "127.0.0.1", "TO:<c@d.example>")


async def test_recipients_beyond_the_limit_are_refused_and_the_others_kept() -> None:
    async with door(Limits(recipients=2)) as opened:
        more = b"".join(b"RCPT TO:<r%d@d.example>\r\n" % number for number in range(3))
        said = START.replace(b"DATA\r\n", more + b"DATA\r\n") + b".\r\nQUIT\r\n"
        replies = await opened.talk(said)
        assert replies.count(b"452 4.5.3") == 2
        assert len(opened.queue.messages[0].envelope.recipients) == 2


@pytest.mark.parametrize("piece", [None, 1000])
async def test_a_message_above_the_limit_is_read_to_its_end_and_refused(piece: int | None) -> None:
    """RFC 1870: 552 after the final dot."""
    async with door(Limits(message_size=20_000)) as opened:
        said = START + b"x" * 998 * 30 + b"\r\n.\r\nMAIL FROM:<a@b.example>\r\nQUIT\r\n"
        replies = (await opened.talk(said, piece=piece)).splitlines()
        assert replies[-3].startswith(b"552 5.3.4")
        assert replies[-2].startswith(b"250 2.1.0")
        assert not opened.queue.messages


async def test_a_message_far_above_the_limit_ends_the_session() -> None:
    async with door(Limits(message_size=20_000)) as opened:
        replies = await opened.talk(START + b"x" * 2_000_000 + b"\r\n.\r\nNOOP\r\nQUIT\r\n")
        # The last word may be lost: the client is still sending when the connection closes.
        assert b"221 " not in replies
        assert not opened.queue.messages
        [refused] = [event for event in opened.events if isinstance(event, events.Refused)]
        assert refused.reply.startswith("552 5.3.4")
        assert opened.listener.connections == 0


async def test_a_message_of_exactly_the_limit_is_taken() -> None:
    """RFC 1870: the limit is of octets of content with their CRLFs."""
    async with door(Limits(message_size=20_000)) as opened:
        await opened.talk(START + b"x" * 19_998 + b"\r\n.\r\nQUIT\r\n")
        assert len(opened.queue.messages) == 1


async def test_while_the_queue_takes_nothing_mail_is_refused_before_its_content() -> None:
    """RFC 1870 §6.1: 452 to MAIL, and the client keeps what it would have sent in vain; promise 4."""
    async with door() as opened:
        opened.queue.closed = Reply(452, "4.3.1 Insufficient system storage, try again later")
        replies = (await opened.talk(START + b"QUIT\r\n")).splitlines()
        assert replies[-4:] == [
            b"452 4.3.1 Insufficient system storage, try again later",
            *[b"503 5.5.1 Bad sequence of commands"] * 2,
            b"221 2.0.0 Bye",
        ]
        refused = next(event for event in opened.events if isinstance(event, events.Refused))
        assert (refused.command, refused.sender) == ("MAIL", "FROM:<a@b.example>")
        opened.queue.closed = None
        await opened.talk(START + b"x\r\n.\r\nQUIT\r\n")
        assert len(opened.queue.messages) == 1


async def test_an_endless_line_costs_no_memory() -> None:
    """Security 15: what no line end comes for is dropped as it comes."""
    async with door() as opened:
        reader, writer = await opened.connect()
        await reader.readline()
        tracemalloc.start()
        for _ in range(160):
            writer.write(b"x" * 100_000)
            await writer.drain()
        await asyncio.sleep(0.05)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.write(b"\r\nNOOP\r\nQUIT\r\n")
        answer = await reader.read()
        assert answer.startswith(b"500 5.5.2 Command line too long\r\n250 2.0.0")
        assert size < 4_000_000
        writer.close()


async def test_the_limit_is_of_the_content_not_of_its_doubled_dots() -> None:
    content = b".\r\n" * 10_000
    for size, reply in ((30_000, b"250 2.0.0"), (29_999, b"552 5.3.4")):
        async with door(Limits(message_size=size)) as opened:
            replies = await opened.talk(START + content.replace(b".", b"..") + b".\r\nQUIT\r\n")
            assert replies.splitlines()[-2].startswith(reply)


async def test_many_messages_in_one_segment() -> None:
    """RFC 2920: more than the reader keeps; contents around the size at which they are taken out of it."""
    sizes = [
        0,
        10,
        wire.BUFFER - 10,
        wire.BUFFER + 10,
        contents.LARGE - 10,
        contents.LARGE,
        contents.LARGE + 2 * contents.PIECE,
        5,
        *[100] * 500,
    ]
    sent = [b"Subject: x\r\n\r\n" + b"y" * size + b"\r\n" for size in sizes]
    one = START.removeprefix(b"EHLO client.test\r\n")
    said = b"EHLO client.test\r\n" + b"".join(one + content + b".\r\n" for content in sent)
    async with door() as opened:
        replies = await opened.talk(said + b"QUIT\r\n")
        assert replies.count(b"\r\n250 2.0.0 Ok: queued as") == len(sent)
        assert [content_of(message.content) for message in opened.queue.messages] == sent


async def test_recipients_far_beyond_the_limit_are_no_errors() -> None:
    """Security 15: a pipelined list gets a 452 for each too many, and is taken (RFC 5321 §4.5.3.1.10)."""
    async with door(Limits(recipients=10)) as opened:
        more = b"".join(b"RCPT TO:<r%d@d.example>\r\n" % number for number in range(500))
        more += b"RCPT TO:<not an address>\r\n" * 50
        replies = await opened.talk(START.replace(b"DATA\r\n", more + b"DATA\r\n") + b".\r\nQUIT\r\n")
        assert replies.count(b"452 4.5.3") == 491
        assert replies.count(b"553 5.1.3") == 50
        assert len(opened.queue.messages[0].envelope.recipients) == 10


async def test_a_message_that_is_taken_clears_the_count_of_errors() -> None:
    async with door() as opened:
        one = b"WHAT\r\n" * 15 + START + b"x\r\n.\r\n"
        await opened.talk(one * 4)
        assert len(opened.queue.messages) == 4


async def test_too_many_errors_end_the_session() -> None:
    async with door() as opened:
        replies = (await opened.talk(b"WHAT\r\n" * 50)).splitlines()
        assert len(replies) == 22
        assert replies[-1].startswith(b"421 4.7.0")


async def test_too_many_connections_are_told_so() -> None:
    async with door(Limits(connections=1)) as opened:
        reader, writer = await opened.connect()
        assert (await reader.readline()).startswith(b"220")
        assert (await opened.talk(b"")).startswith(b"421 4.3.2")
        writer.close()


# ---- clients that end badly ----


@pytest.mark.parametrize("half", [b"", b"NOO", b"NOOP\r", START + b"half a mess", START + b"x\r\n.\r"])
async def test_what_is_not_ended_is_not_done(half: bytes) -> None:
    """A client that closes its side in the middle gets the replies it is owed, and the session ends."""
    async with door() as opened:
        replies = await opened.talk(b"NOOP\r\n" + half)
        assert replies.splitlines()[1] == b"250 2.0.0 Ok"
        assert not opened.queue.messages
        assert opened.listener.connections == 0


def reset(writer: asyncio.StreamWriter) -> None:
    """Drop a connection with a RST, as a client does that dies."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_client_that_goes_during_the_write_leaves_a_message_and_its_event() -> None:
    """Nothing is in the queue that no event told of; nothing behind it is done for nobody."""
    async with door() as opened:
        opened.queue.delay = 0.2
        _, writer = await opened.connect()
        writer.write(START + b"x\r\n.\r\n" + START + b"y\r\n.\r\n")
        await asyncio.sleep(0.1)
        reset(writer)
        await asyncio.sleep(0.05)
        assert opened.listener.connections == 1
        await asyncio.sleep(0.3)
        assert len(opened.queue.messages) == 1
        assert [type(event) for event in opened.events] == [events.Accepted]
        assert opened.listener.connections == 0


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last reply can never be written: the close must not wait for that."""
    monkeypatch.setattr(wire, "LINGER", 0.1)
    async with door(Limits(idle=0.2)) as opened:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.setblocking(False)
            await loop.sock_connect(client, opened.listener.address)
            with pytest.raises(ConnectionError):
                await loop.sock_sendall(client, b"NOOP\r\n" * 5_000_000)
        assert opened.listener.connections == 0


async def test_a_bug_in_a_session_is_told_and_ends_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    async with door() as opened:
        with monkeypatch.context() as patch:
            patch.setattr(Conversation, "command", broken)
            replies = await opened.talk(b"NOOP\r\n")
        assert replies.splitlines()[1:] == [b"421 4.3.0 Local error, closing"]
        [alarm] = opened.events
        assert isinstance(alarm, events.Alarm)
        assert "secret detail" in alarm.problem
        assert b"250" in await opened.talk(b"NOOP\r\nQUIT\r\n")


# ---- time ----


async def test_an_idle_client_is_told_and_sent_away() -> None:
    async with door(Limits(idle=0.1)) as opened:
        reader, writer = await opened.connect()
        await reader.readline()
        async with asyncio.timeout(5):
            assert await reader.read() == b"421 4.4.2 Idle for too long\r\n"
        writer.close()


async def test_the_relays_own_slowness_is_not_the_clients() -> None:
    async with door(Limits(idle=0.1)) as opened:
        opened.queue.delay = 0.4
        assert b"250 2.0.0 Ok: queued" in await opened.talk(START + b"x\r\n.\r\nQUIT\r\n")


async def test_a_message_may_not_take_for_ever() -> None:
    async with door(Limits(idle=5.0, message=0.2)) as opened:
        reader, writer = await opened.connect()
        writer.write(START)
        async with asyncio.timeout(5):
            while not (await reader.readline()).startswith(b"354"):
                pass
            dripping = asyncio.create_task(_drip(writer))
            assert (await reader.readline()).startswith(b"421 4.4.2")
            dripping.cancel()
        writer.close()
        assert not opened.queue.messages


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"drip\r\n")
        await asyncio.sleep(0.02)


async def test_closing_sends_idle_clients_away_and_lets_a_message_end() -> None:
    async with door() as opened:
        idle, idle_writer = await opened.connect()
        await idle.readline()
        busy, busy_writer = await opened.connect()
        busy_writer.write(START)
        while not (await busy.readline()).startswith(b"354"):
            pass
        closing = asyncio.create_task(opened.listener.close(5))
        assert (await idle.readline()).startswith(b"421 4.3.2")
        busy_writer.write(b"Subject: late\r\n\r\n.\r\n")
        assert (await busy.readline()).startswith(b"250 2.0.0 Ok: queued")
        assert (await busy.readline()).startswith(b"421 4.3.2")
        await closing
        assert len(opened.queue.messages) == 1
        idle_writer.close()
        busy_writer.close()


@pytest.mark.parametrize("way", [b"DATA\r\n", b"BDAT 100 LAST\r\n", b"BDAT 4\r\nhalfNOOP\r\n"])
async def test_a_message_that_does_not_end_in_time_is_cut_off_by_closing(way: bytes) -> None:
    """RFC 5321 §3.8: with a 421; also between two chunks, where the client may be about to send the next."""
    async with door() as opened:
        reader, writer = await opened.connect()
        writer.write(START.removesuffix(b"DATA\r\n") + way + b"half a mess")
        while not (await reader.readline()).startswith((b"250 2.1.5", b"354")):
            pass
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await opened.listener.close(0.1)
            replies = await reader.read()
        assert replies.splitlines()[-1] == b"421 4.3.2 The relay is closing"
        assert opened.listener.connections == 0
        assert not opened.queue.messages
        writer.close()


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        (b"DATA\r\n", [b"354", b"250", b"421"]),
        (b"BDAT 3 LAST\r\nx\r\n", [b"250", b"421"]),
    ],
)
async def test_closing_at_the_very_moment_a_content_begins_to_wait_for_room(
    line: bytes, taken: list[bytes]
) -> None:
    """What is under way is answered first, and the client is sent away once."""
    async with door(Limits(content_memory=1)) as opened, talker(opened) as client:
        hold = opened.budget.take(opened.budget.limit // 2)
        assert hold is not None
        await client.reply()
        await client.all(b"EHLO x.test", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>")
        [session] = opened.listener._sessions
        session.data_received(line)
        session.end()
        hold.release()
        client.send(b"" if line.startswith(b"BDAT") else b"x\r\n.\r\n")
        assert [said[:3] for said in (await client.rest()).splitlines()] == taken
        assert len(opened.queue.messages) == 1


# ---- the queue says no ----


async def test_local_trouble_is_4yz_and_never_250() -> None:
    """Promise 4."""
    async with door() as opened:
        opened.queue.error = QueueRefusedError(Reply(452, "4.3.1 Insufficient system storage"))
        assert b"452 4.3.1 Insufficient system storage\r\n" in await opened.talk(
            START + b"x\r\n.\r\nQUIT\r\n"
        )
        opened.queue.error = RuntimeError("secret detail")
        replies = await opened.talk(START + b"x\r\n.\r\nQUIT\r\n")
        assert b"451 4.3.0" in replies
        assert b"secret" not in replies
        assert any(isinstance(event, events.Alarm) and "secret" in event.problem for event in opened.events)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        writer.write(START + b"half a mess")
        await reader.readline()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        assert not opened.queue.messages
        assert opened.listener.connections == 0


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_content_arrives_as_it_was_or_is_refused(content: bytes, piece: int) -> None:
    """However it is cut; and what follows is a command again (security 1)."""
    wire = content.replace(b"\r\n.", b"\r\n..")
    wire = b"." + wire if wire.startswith(b".") else wire

    async def run() -> None:
        async with door() as opened:
            replies = await opened.talk(START + wire + b"\r\n.\r\nQUIT\r\n", piece=piece)
            lines = replies.splitlines()
            assert lines[-1].startswith(b"221 ")
            if lines[-2].startswith(b"250 2.0.0 Ok: queued"):
                assert content_of(opened.queue.messages[0].content).endswith(content + b"\r\n")
            else:
                assert lines[-2].startswith(b"550 5.6.0")
                assert not opened.queue.messages

    asyncio.run(run())


async def test_smtplib() -> None:
    mail = EmailMessage()
    mail["Subject"] = "Grüße"
    mail["From"], mail["To"] = "a@b.example", "c@d.example"
    mail.set_content("Hallo\n.\nWelt\n")

    async with door() as opened:

        def send() -> None:
            with smtplib.SMTP(*opened.listener.address, timeout=10) as client:
                client.send_message(mail)
                client.send_message(mail, to_addrs=["x@y.example", "z@y.example"])

        await asyncio.to_thread(send)
        assert [len(message.envelope.recipients) for message in opened.queue.messages] == [1, 2]
        told = [event for event in opened.events if isinstance(event, events.Accepted)]
        assert [event.recipients for event in told] == [1, 2]
        assert told[0].sender == "a@b.example"


async def test_what_came_ahead_is_taken_once_there_is_room() -> None:
    """Nothing of a content that was there before its room is lost, by the final dot or in chunks."""
    chunk = b"Subject: chunk\r\n\r\n" + b"y" * 2000 + b"\r\n"
    for said in (
        START + b"Subject: dot\r\n\r\n" + b"x" * 2000 + b"\r\n.\r\nQUIT\r\n",
        START.replace(b"DATA\r\n", b"BDAT %d LAST\r\n" % len(chunk)) + chunk + b"QUIT\r\n",
    ):
        async with door() as opened:
            budget = opened.listener._house.budget
            others = []
            while (one := budget.take(UNKNOWN)) is not None:
                others.append(one)
            talking = asyncio.create_task(opened.talk(said))
            while not budget.waiting:
                await asyncio.sleep(0.005)
            assert not opened.queue.messages
            for one in others:
                one.release()
            assert b"\r\n250 2.0.0 Ok: queued as" in await talking
            assert len(content_of(opened.queue.messages[0].content)) > 2000
            assert budget.used == 0
