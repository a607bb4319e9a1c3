"""The client opening a session: what is refused, what is nonsense, and hosts that hang up."""

import errno
import socket

import pytest
from tests.support.peer import ExactPeer, ExactSession
from tests.support.session import connect

from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal
from backstamp.net.connection import Connection
from backstamp.net.transaction import Transaction
from backstamp.policy.destination import Timeouts

QUICK = Timeouts(connect=0.5, greeting=0.5, mail=0.5, quit=0.3)


async def opened(peer: ExactPeer) -> Connection | Refusal | Fault:
    host, port = peer.address
    return await connect(host, port, timeouts=QUICK)


async def silent(session: ExactSession) -> None:
    await session.wait()


@pytest.mark.parametrize(
    "greeting",
    [
        b"220 hi\r\n250-x\r\n250 SIZE 5\r\n",
        b"220-a\r\n250 b\r\n",
        b"HTTP/1.1 400 Bad\r\n",
        b"22\r\n",
        b"220-\r\n" * 20_000,
        b"2" * 200_000,
    ],
    ids=["more than was asked for", "two codes", "another protocol", "digits", "no last line", "no end"],
)
async def test_nonsense_for_a_greeting(greeting: bytes) -> None:
    async with ExactPeer(silent, greeting=greeting) as peer:
        found = await opened(peer)
    assert isinstance(found, Fault)
    assert found.problem == "protocol"


@pytest.mark.parametrize(
    "ehlo",
    [b"550-a\r\n250 PIPELINING\r\n", b"250-x\r\n" * 20_000, b"250 x\r\n421 idle\r\n"],
    ids=["two codes", "no last line", "more than was asked for"],
)
async def test_nonsense_for_an_answer_to_ehlo(ehlo: bytes) -> None:
    async with ExactPeer(silent, ehlo=ehlo) as peer:
        found = await opened(peer)
    assert isinstance(found, Fault)
    assert (found.phase, found.problem) == (Phase.EHLO, "protocol")


async def test_an_opening_octet_by_octet() -> None:
    async def play(session: ExactSession) -> None:
        for octet in b"x\r\n250-SIZE 1000\r\n250 pipelining\r\n":
            await session.say(bytes([octet]), alone=True)
        await session.wait()

    async with ExactPeer(play, ehlo=b"250-") as peer:
        connection = await opened(peer)
        assert isinstance(connection, Connection)
        assert connection.extensions.keys() == {"SIZE", "PIPELINING"}
        assert connection.size_limit == 1000
        await connection.close()


@pytest.mark.parametrize("size", [b"", b" 0", b" much", b" -1", b" " + b"9" * 5000, b" \xd9\xa3"])
async def test_a_size_that_is_no_limit(size: bytes) -> None:
    async with ExactPeer(silent, ehlo=b"250-x\r\n250 SIZE" + size + b"\r\n") as peer:
        connection = await opened(peer)
        assert isinstance(connection, Connection)
        assert connection.size_limit is None
        await connection.close()


async def test_a_host_that_refuses_ehlo_and_hangs_up_has_said_why() -> None:
    async def play(session: ExactSession) -> None:
        session.hang_up()

    async with ExactPeer(play, ehlo=b"554 5.7.1 blocked\r\n") as peer:
        assert await opened(peer) == Refusal(Reply(554, "5.7.1 blocked"), Phase.EHLO)


async def test_a_host_that_answers_ehlo_and_hangs_up_is_a_value() -> None:
    """The answer and the end may come in one turn of the loop or in two."""

    async def play(session: ExactSession) -> None:
        session.hang_up()

    async with ExactPeer(play) as peer:
        for _ in range(20):
            found = await opened(peer)
            if isinstance(found, Connection):
                transaction = Transaction(b"", (Recipient(b"a@y.example"),), b"x\r\n")
                result = await found.transact(transaction, lambda *_: None)
                assert result.fault is not None
                assert not result.in_doubt
                await found.close()
            else:
                assert isinstance(found, Fault)


async def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    with monkeypatch.context() as machine:
        machine.setattr(socket, "socket", refuse)
        found = await connect("::1", 25, timeouts=QUICK)
    assert found == Fault(Phase.CONNECT, "refused", "no connection: address family not supported by protocol")
