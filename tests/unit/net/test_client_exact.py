"""The client against peers that are exact about their octets: cut anywhere, too early, or for ever."""

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.support.peer import ONE_BY_ONE, PIPELINING, ExactPeer, ExactSession
from tests.support.session import connect

from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.net.connection import Connection
from backstamp.net.transaction import Result, Transaction
from backstamp.policy.destination import Timeouts

QUICK = Timeouts(connect=0.5, greeting=0.5, mail=0.5, rcpt=0.5, data=0.5, block=0.5, final=0.5, quit=0.3)
TWO = (Recipient(b"a@y.example"), Recipient(b"b@y.example"))
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"


class Sent(msgspec.Struct):
    result: Result
    settled: list[tuple[Reply, list[int]]]
    connection: Connection


async def opened(peer: ExactPeer, timeouts: Timeouts = QUICK, **how: Any) -> Connection:
    host, port = peer.address
    connection = await connect(host, port, timeouts=timeouts, **how)
    assert isinstance(connection, Connection), connection
    return connection


async def send(
    peer: ExactPeer,
    recipients: tuple[Recipient, ...] = TWO,
    *,
    content: bytes = CONTENT,
    timeouts: Timeouts = QUICK,
) -> Sent:
    connection = await opened(peer, timeouts)
    settled: list[tuple[Reply, list[int]]] = []

    def note(reply: Reply, accepted: Sequence[int]) -> None:
        settled.append((reply, list(accepted)))

    transaction = Transaction(b"s@x.example", recipients, content)
    async with asyncio.timeout(10):
        result = await connection.transact(transaction, note)
    assert result.fault is None or not connection.usable
    await connection.close()
    return Sent(result, settled, connection)


# ---- cuts ----

GROUP = b"250 2.1.0 s\r\n250-2.1.5 a\r\n250 2.1.5 taken\r\n550 5.1.1 b\r\n354 go\r\n"
FINAL = b"250-2.0.0 it is\r\n250 2.0.0 queued\r\n"
PHASES = [Phase.MAIL, Phase.RCPT, Phase.RCPT, Phase.DATA, Phase.FINAL]


async def test_replies_cut_in_two_anywhere_are_the_same() -> None:
    cut = 0

    async def play(session: ExactSession) -> None:
        at = cut
        await session.hear(4)
        if 0 < at < len(GROUP):
            await session.say(GROUP[:at], alone=True)
        await session.say(GROUP[at:] if at < len(GROUP) else GROUP)
        await session.hear_content()
        if at > len(GROUP):
            await session.say(FINAL[: at - len(GROUP)], alone=True)
        await session.say(FINAL[max(0, at - len(GROUP)) :])

    expected = Result(
        [Reply(250, "2.1.5 a\n2.1.5 taken"), Reply(550, "5.1.1 b")],
        Reply(250, "2.1.0 s"),
        Reply(354, "go"),
        Reply(250, "2.0.0 it is\n2.0.0 queued"),
    )
    async with ExactPeer(play) as peer:
        for cut in range(len(GROUP + FINAL)):
            sent = await send(peer)
            assert sent.result == expected, cut
            assert sent.settled == [(expected.final, [0])], cut
    assert peer.sessions[0].heard[-1] == b"Subject: x\r\n\r\n..dot\r\n.\r\n"


async def test_a_disconnect_behind_any_octet_has_its_phase_and_doubt() -> None:
    cut = 0

    async def play(session: ExactSession) -> None:
        at = cut
        await session.hear(4)
        await session.say(GROUP[:at])
        if at >= len(GROUP):
            await session.hear_content()
            await session.say(FINAL[: at - len(GROUP)])

    ends = [GROUP.index(b"s\r\n") + 3, GROUP.index(b"taken\r\n") + 7, GROUP.index(b"b\r\n") + 3, len(GROUP)]
    async with ExactPeer(play) as peer:
        for cut in range(len(GROUP + FINAL)):
            sent = await send(peer)
            complete = sum(end <= cut for end in ends)
            fault = sent.result.fault
            assert fault is not None, cut
            assert (fault.phase, fault.problem) == (PHASES[complete], "disconnected"), cut
            assert sent.result.in_doubt is (complete == 4), cut
            assert not sent.settled, cut


# ---- replies nobody asked for ----


async def test_a_reply_to_the_content_before_the_content_is_not_believed() -> None:
    """Otherwise mail that nobody took would be stamped delivered."""

    async def play(session: ExactSession) -> None:
        await session.hear(4)
        await session.say(b"250 s\r\n250 a\r\n250 b\r\n354 go\r\n250 queued\r\n")
        await session.hear_content()

    async with ExactPeer(play) as peer:
        sent = await send(peer)
        await asyncio.sleep(0.02)
    assert sent.result.fault is not None
    assert (sent.result.fault.phase, sent.result.fault.problem) == (Phase.DATA, "protocol")
    assert not sent.settled
    assert not sent.result.in_doubt
    assert peer.sessions[0].heard[-1] == b"DATA", "the content stayed here"


@pytest.mark.parametrize("behind", [b"250 more\r\n", b"550 more\r\n", b"2"], ids=["250", "550", "a part"])
async def test_one_by_one_a_surplus_reply_counts_for_nobody(behind: bytes) -> None:
    """Otherwise each recipient would get the reply of the one before."""

    async def play(session: ExactSession) -> None:
        await session.hear()
        await session.say(b"250 s\r\n")
        await session.hear()
        await session.say(b"250 a\r\n" + behind)
        await session.wait()

    async with ExactPeer(play, ehlo=ONE_BY_ONE) as peer:
        sent = await send(peer)
    assert sent.result.recipients == [None, None]
    assert sent.result.fault is not None
    assert (sent.result.fault.phase, sent.result.fault.problem) == (Phase.RCPT, "protocol")


async def test_421_may_come_right_behind_a_refusal() -> None:
    """Postfix hangs up so on too many errors; the refusals count."""

    async def one_by_one(session: ExactSession) -> None:
        await session.hear()
        await session.say(b"250 s\r\n")
        await session.hear()
        await session.say(b"550 a\r\n421 4.7.0 too many errors\r\n")

    async with ExactPeer(one_by_one, ehlo=ONE_BY_ONE) as peer:
        sent = await send(peer)
    assert sent.result.recipients == [Reply(550, "a"), Reply(421, "4.7.0 too many errors")]

    async def pipelining(session: ExactSession) -> None:
        await session.hear(4)
        await session.say(b"250 s\r\n550 a\r\n550 b\r\n554 nobody\r\n421 4.7.0 too many errors\r\n")

    async with ExactPeer(pipelining) as peer:
        sent = await send(peer)
    assert sent.result.recipients == [Reply(550, "a"), Reply(550, "b")]
    assert sent.result.fault is None
    assert not sent.connection.usable


@pytest.mark.parametrize("octets", [b"421 4.4.2 idle for too long\r\n", b"4"], ids=["421", "a part"])
async def test_words_to_an_idle_client_end_the_session(octets: bytes) -> None:
    speak = asyncio.Event()

    async def play(session: ExactSession) -> None:
        await speak.wait()
        await session.say(octets)
        await session.hear()

    async with ExactPeer(play) as peer:
        connection = await opened(peer)
        assert connection.usable
        speak.set()
        async with asyncio.timeout(5):
            while connection.usable:
                await asyncio.sleep(0.005)
        result = await connection.transact(Transaction(b"", TWO, CONTENT), lambda *_: None)
        assert result.fault is not None
        assert not result.in_doubt
        await connection.close()
        await asyncio.sleep(0.02)
    assert len(peer.sessions[0].heard) == 1, "nothing was said behind EHLO"


# ---- waits ----


async def test_a_peer_that_stops_reading_and_refuses_is_let_go() -> None:
    """A content that stays half sent is nobody's to wait for."""

    async def play(session: ExactSession) -> None:
        await session.hear(4)
        session.stop_reading()
        await session.say(b"250 s\r\n250 a\r\n250 b\r\n354 go\r\n")
        await asyncio.sleep(0.3)
        await session.say(b"552 5.3.4 too big\r\n")
        await session.wait()

    async with ExactPeer(play) as peer:
        sent = await send(peer, content=b"x" * 40_000_000, timeouts=Timeouts())
    assert sent.result.final == Reply(552, "5.3.4 too big")
    assert not sent.result.in_doubt
    assert not sent.connection.usable


async def test_a_peer_that_stops_reading_has_the_time_of_a_block() -> None:
    async def play(session: ExactSession) -> None:
        await session.hear(4)
        session.stop_reading()
        await session.say(b"250 s\r\n250 a\r\n250 b\r\n354 go\r\n")
        await session.wait()

    async with ExactPeer(play) as peer:
        sent = await send(peer, content=b"x" * 40_000_000, timeouts=Timeouts(block=0.3))
    assert sent.result.fault is not None
    assert (sent.result.fault.phase, sent.result.fault.problem) == (Phase.CONTENT, "timeout")
    assert not sent.result.in_doubt


@pytest.mark.parametrize("ehlo", [PIPELINING, ONE_BY_ONE], ids=["pipelining", "one by one"])
async def test_a_short_wait_behind_a_long_one_is_short(ehlo: bytes) -> None:
    async def play(session: ExactSession) -> None:
        await session.hear()
        await session.say(b"250 s\r\n")
        await session.wait()

    async with ExactPeer(play, ehlo=ehlo) as peer:
        started = time.monotonic()
        sent = await send(peer, timeouts=Timeouts(rcpt=0.2))
    assert sent.result.fault is not None
    assert (sent.result.fault.phase, sent.result.fault.problem) == (Phase.RCPT, "timeout")
    assert time.monotonic() - started < 5


async def test_lines_without_an_end_do_not_buy_time() -> None:
    async def play(session: ExactSession) -> None:
        await session.hear(4)
        while True:
            await session.say(b"250-wait\r\n")
            await asyncio.sleep(0.05)

    async with ExactPeer(play) as peer:
        started = time.monotonic()
        sent = await send(peer)
    assert sent.result.fault is not None
    assert (sent.result.fault.phase, sent.result.fault.problem) == (Phase.MAIL, "timeout")
    assert time.monotonic() - started < 3


async def test_a_peer_that_does_not_answer_quit_is_left() -> None:
    async def play(session: ExactSession) -> None:
        await session.hear()
        await session.wait()

    async with ExactPeer(play) as peer:
        connection = await opened(peer)
        async with asyncio.timeout(2):
            await connection.close()
        assert not connection.usable
        await connection.close()
    assert peer.sessions[0].heard[-1] == b"QUIT"


async def test_a_cancelled_transaction_keeps_what_was_not_sent() -> None:
    """Sent behind our back, it could only become a second copy. What the kernel has is out."""

    def narrow(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    halfway, cancelled, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    settled: list[object] = []

    async def play(session: ExactSession) -> None:
        await session.hear(4)
        session.stop_reading()
        await session.say(b"250 s\r\n250 a\r\n250 b\r\n354 go\r\n")
        await asyncio.sleep(0.2)
        halfway.set()
        await cancelled.wait()
        await session.count_rest()
        ended.set()

    async with ExactPeer(play, window=4096) as peer:
        connection = await opened(peer, tune=narrow)
        # One write with its dot: without the end of the connection, the loop would go on sending it.
        transaction = Transaction(b"", TWO, b"x" * 250_000)
        task = asyncio.create_task(connection.transact(transaction, lambda *seen: settled.append(seen)))
        await halfway.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.usable
        async with asyncio.timeout(5):
            await connection.close()
            cancelled.set()
            await ended.wait()
    assert peer.sessions[0].rest < 250_000
    assert not settled
