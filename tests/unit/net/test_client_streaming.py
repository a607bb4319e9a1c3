"""Contents that are not held, recipients with parameters, and peers that read and answer slowly."""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from tests.support.peer import ExactPeer, ExactSession
from tests.support.session import connect

from backstamp.mail.content import PIECE
from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.net.connection import Connection
from backstamp.net.transaction import Dotting, Result, Transaction, at_once
from backstamp.policy.destination import Timeouts
from backstamp.sink.server import Options, Received, Sink, keywords

TO = (Recipient(b"a@y.example"),)
OK = Reply(250, "2.0.0 Ok")


class Pieces:
    """A stored content, given out as a test cuts it; `then` is what comes when all is given."""

    header = b""
    ascii = True

    def __init__(
        self, *pieces: bytes, size: int | None = None, then: Callable[[], object] = lambda: None
    ) -> None:
        self._pieces = pieces
        self.size = sum(map(len, pieces)) if size is None else size
        self._then = then
        self.given = 0
        self.closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for piece in self._pieces:
                await asyncio.sleep(0)
                self.given += len(piece)
                yield piece
            self._then()
        finally:
            self.closed = True


class Peer:
    def __init__(self, **options: Any) -> None:
        self.taken: list[Received] = []
        self.sink = Sink(options=Options(**options), received=self.taken.append)

    async def __aenter__(self) -> "Peer":
        await self.sink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sink.close()

    async def connection(self) -> Connection:
        return await opened(self.sink.address)


async def opened(address: tuple[str, int], **how: Any) -> Connection:
    found = await connect(*address, **how)
    assert isinstance(found, Connection), found
    return found


async def send(
    connection: Connection, content: Any, to: tuple[Recipient, ...] = TO, dotting: Dotting = at_once
) -> tuple[Result, list[object]]:
    settled: list[object] = []
    async with asyncio.timeout(30):
        result = await connection.transact(
            Transaction(b"s@x.example", to, content), lambda *seen: settled.append(seen), dotting
        )
    return result, settled


# ---- parameters ----


async def test_parameters_go_out_as_they_are_given() -> None:
    """The case of ENVID and ORCPT survives (RFC 3461 section 5.2.1)."""
    to = (
        Recipient(b"a@y.example", b"NOTIFY=NEVER ORCPT=rfc822;A+2B@y.example"),
        Recipient(b"b@y.example"),
        Recipient(b"c@y.example", b"NOTIFY=SUCCESS,FAILURE"),
    )
    for without in ((), ("PIPELINING",)):
        async with Peer(keywords=keywords("DSN", "MT-PRIORITY", without=without)) as peer:
            connection = await peer.connection()
            assert {"DSN", "MT-PRIORITY"} <= connection.extensions.keys()
            transaction = Transaction(b"s@x.example", to, b"x\r\n", b"RET=HDRS ENVID=aB")
            assert (await connection.transact(transaction, lambda *_: None)).final == OK
            [message] = peer.taken
            assert message.parameters == b"SIZE=3 RET=HDRS ENVID=aB"
            assert message.recipient_parameters == [one.parameters for one in to]
            await connection.close()


@pytest.mark.parametrize("bad", [b"NOTIFY=NEVER\r\nRCPT TO:<x>", b"ORCPT=\0", b"\x7f"])
async def test_nothing_is_written_for_a_parameter_with_a_control_character(bad: bytes) -> None:
    """Security 5: it is a bug of the caller."""
    async with Peer() as peer:
        connection = await peer.connection()
        with pytest.raises(ValueError, match="control character"):
            await send(connection, b"x\r\n", (Recipient(b"a@y.example", bad),))
        await connection.close()
    assert not peer.taken


# ---- streaming ----


@pytest.mark.parametrize("seed", range(8))
async def test_a_stored_content_arrives_however_it_is_cut(seed: int) -> None:
    dice = random.Random(seed)
    content = b"".join(
        dice.choices([b"\r\n", b".", b"\r\n.", b"\r\n..\r\n", b"text", b"." * 70, b"x" * 5000], k=600)
    )
    pieces = []
    at = 0
    while at < len(content):
        size = dice.choice([0, 1, 1, 2, 3, 70, 5000, PIECE])
        pieces.append(content[at : at + size])
        at += size
    stored = Pieces(*pieces)
    async with Peer() as peer:
        connection = await peer.connection()
        result, settled = await send(connection, stored)
        assert result.final == OK
        assert len(settled) == 1
        [message] = peer.taken
        assert message.content == (content if content.endswith(b"\r\n") else content + b"\r\n")
        assert message.parameters == b"SIZE=%d" % len(content)
        assert stored.closed
        assert connection.usable
        assert (await send(connection, b"next\r\n"))[0].final == OK
        await connection.close()


async def test_an_empty_stored_content() -> None:
    async with Peer() as peer:
        connection = await peer.connection()
        assert (await send(connection, Pieces()))[0].final == OK
        assert peer.taken[0].content == b""
        await connection.close()


def unreadable() -> None:
    raise OSError("the disk")


def a_bug() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (Pieces(b"x" * PIECE, b"y" * PIECE + b"\r\n", then=unreadable), OSError),
        (Pieces(then=unreadable), OSError),
        (Pieces(b"x\r\n", then=a_bug), ZeroDivisionError),
        (Pieces(b"x\r\n", size=4), OSError),
        (Pieces(b"x\r\n.\r\n", size=3), OSError),
    ],
    ids=["unreadable", "at once", "a bug", "too short", "too long"],
)
async def test_what_cannot_be_read_never_gets_its_dot(stored: Pieces, error: type[Exception]) -> None:
    settled: list[object] = []
    async with Peer() as peer:
        connection = await peer.connection()
        with pytest.raises(error):
            await connection.transact(
                Transaction(b"s@x.example", TO, stored), lambda *seen: settled.append(seen)
            )
        assert not connection.usable
        await connection.close()
        async with asyncio.timeout(5):
            while peer.sink.open:
                await asyncio.sleep(0.005)
    assert not settled
    assert not peer.taken
    assert stored.closed


async def test_a_peer_sets_the_pace() -> None:
    """No more of a content is held than the peer has not taken yet, a few pieces."""
    reading = asyncio.Event()

    async def play(session: ExactSession) -> None:
        await session.hear(3)
        session.stop_reading()
        await session.say(b"250 s\r\n250 a\r\n354 go\r\n")
        await reading.wait()
        await session.count_rest()

    stored = Pieces(*[b"x" * (PIECE - 2) + b"\r\n"] * 640)
    async with ExactPeer(play, window=65536) as peer:
        connection = await opened(
            peer.address, tune=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        )
        task = asyncio.create_task(connection.transact(Transaction(b"", TO, stored), lambda *_: None))
        for _ in range(20):
            before = stored.given
            await asyncio.sleep(0.02)
            if stored.given == before > 0:
                break
        assert 0 < stored.given < 2_000_000
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stored.closed
        reading.set()


async def test_a_refusal_on_the_way_ends_the_reading() -> None:
    async def play(session: ExactSession) -> None:
        await session.hear(3)
        await session.say(b"250 s\r\n250 a\r\n354 go\r\n")
        await session.say(b"", alone=True)
        session.stop_reading()
        await session.say(b"552 5.3.4 too big\r\n")
        await session.wait()

    stored = Pieces(*[b"x" * PIECE] * 1000)
    async with ExactPeer(play) as peer:
        connection = await opened(peer.address)
        result, settled = await send(connection, stored)
        assert result.final == Reply(552, "5.3.4 too big")
        assert not result.in_doubt
        assert not settled
        assert stored.closed
        assert stored.given < stored.size
        await connection.close()


async def test_a_disconnect_on_the_way_is_not_in_doubt() -> None:
    async def play(session: ExactSession) -> None:
        await session.hear(3)
        await session.say(b"250 s\r\n250 a\r\n354 go\r\n")

    async with ExactPeer(play) as peer:
        connection = await opened(peer.address)
        result, settled = await send(connection, Pieces(*[b"x" * PIECE] * 1000))
    assert result.fault is not None
    assert (result.fault.phase, result.fault.problem) == (Phase.CONTENT, "disconnected")
    assert not result.in_doubt
    assert not settled


async def test_the_dot_behind_a_stored_content_waits_for_its_permit() -> None:
    permit = asyncio.Event()
    asked: list[list[int]] = []

    def dotting(accepted: Sequence[int]) -> Any:
        asked.append(list(accepted))
        return permit.wait()

    async with Peer() as peer:
        connection = await peer.connection()
        task = asyncio.create_task(send(connection, Pieces(b"x\r\n"), dotting=dotting))
        async with asyncio.timeout(5):
            while not asked:
                await asyncio.sleep(0.005)
        assert asked == [[0]]
        assert not peer.taken
        permit.set()
        assert (await task)[0].final == OK
        await connection.close()


async def test_nobody_is_asked_for_the_dot_of_a_session_that_is_over() -> None:
    """Asked, the queue would write down a doubt that nobody has."""
    asked: list[object] = []

    async def play(session: ExactSession) -> None:
        await session.hear(3)
        await session.say(b"250 s\r\n250 a\r\n354 go\r\n")

    class Slow(Pieces):
        async def pieces(self) -> AsyncIterator[bytes]:
            yield b"x\r\n"
            while connection.usable:
                await asyncio.sleep(0.005)

    async with ExactPeer(play) as peer:
        connection = await opened(peer.address)
        result, settled = await send(connection, Slow(size=3), dotting=asked.append)
    assert result.fault is not None
    assert (result.fault.phase, result.in_doubt) == (Phase.CONTENT, False)
    assert not asked
    assert not settled


# ---- RFC 2920 section 3.1 ----


NARROW = 16384


def slow_and_narrow(listener: socket.socket, count: int) -> None:
    """Answer each command before the next is read, at length; wait until the client has read enough of it."""
    sock, _ = listener.accept()
    with sock, contextlib.suppress(OSError), sock.makefile("rb", buffering=512) as lines:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        sock.sendall(b"220 narrow\r\n")
        lines.readline()
        sock.sendall(b"250-narrow\r\n250 PIPELINING\r\n")
        for _ in range(count + 1):
            lines.readline()
            sock.sendall(b"250-2.1.5 " + b"x" * 1000 + b"\r\n250 2.1.5 taken\r\n")
        lines.readline()
        sock.sendall(b"354 go\r\n")
        while lines.readline() != b".\r\n":
            pass
        sock.sendall(b"250 2.0.0 Ok\r\n")
        lines.readline()


async def test_a_group_of_a_thousand_does_not_stall_at_a_narrow_peer() -> None:
    """Commands and replies are both more than the kernels hold: who only writes waits for ever."""
    to = tuple(Recipient(b"recipient%d@%b.example" % (number, b"d" * 200)) for number in range(1000))

    def narrow(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        thread = threading.Thread(target=slow_and_narrow, args=(listener, len(to)), daemon=True)
        thread.start()
        connection = await opened(listener.getsockname(), tune=narrow, timeouts=Timeouts(quit=1))
        try:
            result, settled = await send(connection, b"x\r\n", to)
        finally:
            await connection.close()
            await asyncio.to_thread(thread.join, 5)
    assert result.final == OK
    assert [reply and reply.code for reply in result.recipients] == [250] * 1000
    assert len(settled) == 1


# ---- endless ----


@pytest.mark.parametrize("line", [b"250-more\r\n", b"250-", b"x"], ids=["lines", "one line", "no sense"])
async def test_an_endless_reply_is_cut_off_early(line: bytes) -> None:
    """Security 18: a gigabyte, if it is let; a few buffers' worth is read."""
    said = 0

    async def play(session: ExactSession) -> None:
        nonlocal said
        await session.hear()
        block = line * (65536 // len(line))
        while said < 1 << 30:
            await session.say(block)
            said += len(block)

    async with ExactPeer(play, window=65536) as peer:
        connection = await opened(peer.address)
        result, settled = await send(connection, b"x\r\n")
        assert result.fault is not None
        assert result.fault.problem == "protocol"
        assert not settled
        assert not connection.usable
        await connection.close()
        async with asyncio.timeout(10):
            while peer._tasks:
                await asyncio.sleep(0.01)
    assert said < 64 << 20
