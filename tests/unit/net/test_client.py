"""The client against peers with every manner: pipelining or not, refusals, faults at every place."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from tests.support.session import connect

from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal
from backstamp.net.connection import Connection
from backstamp.net.transaction import Machine, Result, Transaction
from backstamp.policy.destination import Timeouts
from backstamp.sink.script import reply
from backstamp.sink.server import KEYWORDS, Options, Received, Sink

CONTENT = b"Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n"
QUICK = Timeouts(connect=0.3, greeting=0.3, mail=0.3, rcpt=0.3, data=0.3, block=0.3, final=0.3, quit=0.3)
PLAIN = tuple(keyword for keyword in KEYWORDS if keyword != "PIPELINING")


def to(*addresses: bytes) -> tuple[Recipient, ...]:
    return tuple(Recipient(address) for address in addresses)


class Peer:
    """A sink that remembers, and a client's side of it."""

    def __init__(self, **options: Any) -> None:
        self.taken: list[Received] = []
        self.sink = Sink(options=Options(**options), received=self.taken.append)
        self.settled: list[tuple[Reply, list[int]]] = []
        self.open: list[Connection] = []

    async def connect(self, timeouts: Timeouts = QUICK) -> Connection | Refusal | Fault:
        host, port = self.sink.address
        opened = await connect(host, port, timeouts=timeouts)
        if isinstance(opened, Connection):
            self.open.append(opened)
        return opened

    async def connection(self, timeouts: Timeouts = QUICK) -> Connection:
        opened = await self.connect(timeouts)
        assert isinstance(opened, Connection), opened
        return opened

    def note(self, answer: Reply, accepted: Sequence[int]) -> None:
        self.settled.append((answer, list(accepted)))

    async def send(self, connection: Connection, *recipients: bytes, content: bytes = CONTENT) -> Result:
        return await connection.transact(
            Transaction(b"s@x.example", to(*(recipients or (b"r@y.example",))), content), self.note
        )


@pytest.fixture(params=[KEYWORDS, PLAIN], ids=["pipelining", "one by one"])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    peer = Peer(keywords=request.param)
    async with peer.sink:
        yield peer
        for connection in peer.open:
            await connection.close()


async def test_a_transaction(peer: Peer) -> None:
    connection = await peer.connection()
    result = await peer.send(connection, b"a@y.example", b"b@y.example")
    assert result == Result(
        [Reply(250, "2.0.0 Ok")] * 2, Reply(250, "2.0.0 Ok"), Reply(354, "Go ahead"), Reply(250, "2.0.0 Ok")
    )
    assert peer.settled == [(Reply(250, "2.0.0 Ok"), [0, 1])]
    [message] = peer.taken
    assert (message.sender, message.recipients) == (b"s@x.example", [b"a@y.example", b"b@y.example"])
    assert message.content == CONTENT
    assert message.parameters == b"SIZE=%d" % len(CONTENT)
    assert connection.usable
    assert connection.size_limit == 100_000_000


async def test_many_transactions_on_one_connection(peer: Peer) -> None:
    connection = await peer.connection()
    for _ in range(20):
        assert (await peer.send(connection)).final == Reply(250, "2.0.0 Ok")
    assert peer.sink.connections == 1
    assert len(peer.taken) == 20


async def test_a_transaction_leaves_nothing_to_the_garbage_collector(peer: Peer) -> None:
    """A cycle for each message costs a twentieth of the throughput: it was so."""
    connection = await peer.connection()
    gc.collect()
    gc.disable()
    try:
        await peer.send(connection)
        left = [one for one in gc.get_objects() if isinstance(one, Machine)]
    finally:
        gc.enable()
    assert not left


async def test_recipients_are_judged_one_by_one(peer: Peer) -> None:
    peer.sink.script.say("RCPT", 550, "5.1.1 no", address=b"b@y.example")
    peer.sink.script.say("RCPT", 450, "4.2.0 later", address=b"c@y.example")
    connection = await peer.connection()
    result = await peer.send(connection, b"a@y.example", b"b@y.example", b"c@y.example")
    assert [answer and answer.code for answer in result.recipients] == [250, 550, 450]
    assert peer.settled == [(Reply(250, "2.0.0 Ok"), [0])]


async def test_any_2yz_to_the_dot_is_delivered(peer: Peer) -> None:
    peer.sink.script.say("DOT", 251, "2.5.0 taken, and passed on")
    assert (await peer.send(await peer.connection())).final == Reply(251, "2.5.0 taken, and passed on")
    assert len(peer.settled) == 1


@pytest.mark.parametrize(
    ("verb", "code"), [("MAIL", 550), ("MAIL", 451), ("RCPT", 550), ("DATA", 451), ("DOT", 554)]
)
async def test_a_refusal_settles_nobody_and_leaves_the_connection_usable(
    peer: Peer, verb: str, code: int
) -> None:
    peer.sink.script.say(verb, code, "5.7.1 no", times=1)
    connection = await peer.connection()
    result = await peer.send(connection)
    assert not peer.settled
    assert result.fault is None
    assert not result.in_doubt
    replies = {"MAIL": result.mail, "RCPT": result.recipients[0], "DATA": result.data, "DOT": result.final}
    refusal = replies[verb]
    assert refusal is not None
    assert refusal.code == code
    assert connection.usable
    assert (await peer.send(connection)).final == Reply(250, "2.0.0 Ok")


async def test_a_2yz_to_a_lone_dot_stamps_nobody() -> None:
    """RFC 2920 section 3.1: a server may take DATA though it took nobody."""
    peer = Peer()
    peer.sink.script.say("RCPT", 550, "5.1.1 no")
    peer.sink.script.say("DATA", 354, "go on")
    async with peer.sink:
        connection = await peer.connection()
        result = await peer.send(connection)
        assert result.final == Reply(250, "2.0.0 Ok")
        assert not peer.settled
        assert connection.usable
        await connection.close()
    assert peer.taken[0].content == b""


async def test_replies_of_many_lines(peer: Peer) -> None:
    peer.sink.script.say("DOT", 250, "2.0.0 one\n2.0.0 two\nthree")
    assert (await peer.send(await peer.connection())).final == Reply(250, "2.0.0 one\n2.0.0 two\nthree")


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_replies_cut_anywhere(peer: Peer, verb: str) -> None:
    code = 354 if verb == "DATA" else 250
    peer.sink.script.do(verb, octets=reply(code, "2.0.0 in\npieces"), bytewise=True)
    assert (await peer.send(await peer.connection(Timeouts()))).final is not None
    assert len(peer.settled) == 1


# ---- faults ----

PLACES = [("MAIL", Phase.MAIL), ("RCPT", Phase.RCPT), ("DATA", Phase.DATA), ("DOT", Phase.FINAL)]


@pytest.mark.parametrize(("verb", "phase"), PLACES)
async def test_a_disconnect_is_in_doubt_only_behind_the_dot(peer: Peer, verb: str, phase: Phase) -> None:
    peer.sink.script.do(verb, close=True)
    connection = await peer.connection()
    result = await peer.send(connection)
    assert result.fault is not None
    assert (result.fault.phase, result.fault.problem) == (phase, "disconnected")
    assert result.in_doubt is (verb == "DOT")
    assert not connection.usable
    assert not peer.settled


@pytest.mark.parametrize(("verb", "phase"), PLACES)
async def test_silence_ends_in_its_time(peer: Peer, verb: str, phase: Phase) -> None:
    peer.sink.script.do(verb, octets=b"", delay=30)
    connection = await peer.connection()
    async with asyncio.timeout(5):
        result = await peer.send(connection)
    assert result.fault is not None
    assert (result.fault.phase, result.fault.problem) == (phase, "timeout")
    assert result.in_doubt is (verb == "DOT")
    assert not connection.usable


async def test_each_wait_has_its_own_length() -> None:
    """RFC 5321 section 4.5.3.2: the final dot may take longer than MAIL."""
    peer = Peer()
    peer.sink.script.do("DOT", octets=b"250 2.0.0 at last\r\n", delay=0.5)
    async with peer.sink:
        connection = await peer.connection(msgspec.structs.replace(QUICK, final=5.0))
        assert (await peer.send(connection)).final == Reply(250, "2.0.0 at last")
        await connection.close()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_421_ends_the_session_wherever_it_comes(peer: Peer, verb: str) -> None:
    peer.sink.script.do(verb, octets=b"421 4.3.2 closing\r\n", close=True)
    connection = await peer.connection()
    result = await peer.send(connection, b"a@y.example", b"b@y.example")
    assert not peer.settled
    assert not result.in_doubt
    assert not connection.usable


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"25 short\r\n",
        b"250x\r\n",
        b"999 what\r\n",
        b"250-a\r\n550 b\r\n",
        b"\0\0\0\0\r\n",
        b"2" * 40_000,
    ],
    ids=["words", "digits", "separator", "code", "two codes", "NUL", "no end"],
)
async def test_nonsense_is_a_fault_and_bounded(peer: Peer, octets: bytes) -> None:
    peer.sink.script.do("MAIL", octets=octets)
    connection = await peer.connection()
    result = await peer.send(connection)
    assert result.fault is not None
    assert result.fault.problem == "protocol"
    assert not connection.usable


async def test_a_reply_without_end_is_bounded(peer: Peer) -> None:
    peer.sink.script.do("MAIL", octets=b"250-more\r\n" * 100_000)
    result = await peer.send(await peer.connection())
    assert result.fault is not None
    assert "too many lines" in result.fault.text


async def test_words_out_of_turn_spoil_the_connection(peer: Peer) -> None:
    peer.sink.script.do("DOT", octets=b"250 2.0.0 Ok\r\n250 2.0.0 Ok again\r\n")
    connection = await peer.connection()
    assert (await peer.send(connection)).final == Reply(250, "2.0.0 Ok")
    await asyncio.sleep(0.02)
    assert not connection.usable


async def test_an_idle_connection_that_is_closed_is_seen(peer: Peer) -> None:
    connection = await peer.connection()
    for session in list(peer.sink.open):
        session.drop()
    await asyncio.sleep(0.02)
    assert not connection.usable
    assert (await peer.send(connection)).fault is not None


# ---- Q4 ----


async def test_settled_is_called_though_the_waiter_is_cancelled_in_the_same_turn() -> None:
    """The final 2yz and a cancellation come in one turn of the loop: the stamp is enqueued."""
    peer = Peer()
    async with peer.sink:
        connection = await peer.connection()
        task: asyncio.Task[Result]

        def settle(answer: Reply, accepted: Sequence[int]) -> None:
            peer.note(answer, accepted)
            task.cancel()

        transaction = Transaction(b"s@x.example", to(b"a@y.example"), CONTENT)
        task = asyncio.create_task(connection.transact(transaction, settle))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.settled == [(Reply(250, "2.0.0 Ok"), [0])]
        assert not connection.usable


async def test_a_bug_in_settled_is_not_swallowed() -> None:
    peer = Peer()
    async with peer.sink:
        connection = await peer.connection()

        def settle(_: Reply, __: Sequence[int]) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await connection.transact(Transaction(b"", to(b"a@y.example"), CONTENT), settle)
        await connection.close()


@pytest.mark.parametrize("bad", [b"a\r\nRCPT TO:<x>@y.example", b"a\0@y.example", b"a\n@y.example"])
async def test_nothing_is_written_for_an_address_with_a_control_character(bad: bytes) -> None:
    """Security 5: it is a bug of the caller."""
    peer = Peer()
    async with peer.sink:
        connection = await peer.connection()
        with pytest.raises(ValueError, match="control character"):
            await peer.send(connection, bad)
        await connection.close()
    assert not peer.taken


# ---- large content ----


async def test_a_large_content_is_streamed(peer: Peer) -> None:
    content = b"Subject: big\r\n\r\n" + b".line\r\n" * 500_000
    result = await peer.send(await peer.connection(Timeouts()), content=content)
    assert result.final == Reply(250, "2.0.0 Ok")
    assert peer.taken[0].content == content


async def test_a_large_content_refused_on_the_way_is_not_in_doubt() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await reader.readline()
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.readexactly(300_000)
        writer.write(b"552 5.3.4 too big\r\n")
        await writer.drain()
        await over.wait()
        writer.transport.abort()

    over = asyncio.Event()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        connection = await connect(host, port, timeouts=Timeouts())
        assert isinstance(connection, Connection)
        settled: list[object] = []
        transaction = Transaction(b"", to(b"a@y.example"), b"x" * 20_000_000)
        result = await connection.transact(transaction, lambda *seen: settled.append(seen))
        assert result.final == Reply(552, "5.3.4 too big")
        assert not result.in_doubt
        assert not settled
        assert not connection.usable
        await connection.close()
        over.set()
        await asyncio.sleep(0.02)


# ---- opening ----


async def test_a_host_that_refuses_before_mail(peer: Peer) -> None:
    peer.sink.script.say("CONNECT", 554, "5.3.2 not now", times=1)
    assert await peer.connect() == Refusal(Reply(554, "5.3.2 not now"), Phase.GREETING)
    peer.sink.script.say("EHLO", 421, "4.3.2 closing", times=1)
    assert await peer.connect() == Refusal(Reply(421, "4.3.2 closing"), Phase.EHLO)


async def test_helo_where_ehlo_is_not_known(peer: Peer) -> None:
    peer.sink.script.say("EHLO", 502, "5.5.1 what?")
    connection = await peer.connection()
    assert not connection.extensions
    assert (await peer.send(connection)).final == Reply(250, "2.0.0 Ok")
    assert peer.taken[0].parameters == b""


async def test_nobody_listens() -> None:
    peer = Peer()
    async with peer.sink:
        pass
    opened = await peer.connect()
    assert isinstance(opened, Fault)
    assert (opened.phase, opened.problem) == (Phase.CONNECT, "refused")


async def test_a_host_that_says_nothing() -> None:
    peer = Peer()
    peer.sink.script.do("CONNECT", delay=30)
    async with peer.sink:
        opened = await peer.connect()
    assert isinstance(opened, Fault)
    assert (opened.phase, opened.problem) == (Phase.GREETING, "timeout")
