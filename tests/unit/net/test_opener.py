"""What delivery is given: connect, then open or hang up."""

import socket

import pytest

from backstamp.mail.fault import Fault, Phase
from backstamp.net.connection import Connection
from backstamp.net.opening import Opener
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.manner import Candidate, Manner, Source
from backstamp.sink.server import Sink

MANNER = Manner(DestinationPolicy(), "relay.example.org")


async def test_dial_from_an_address_and_open() -> None:
    opener = Opener()
    async with Sink() as sink:
        candidate = Candidate("mx.example.org", *sink.address)
        wire = await opener.dial(candidate, Source("127.0.0.9", "relay.example.org"), 5)
        assert isinstance(wire, socket.socket)
        assert wire.getsockname()[0] == "127.0.0.9"
        session = await opener.open(wire, candidate, MANNER)
        assert isinstance(session, Connection)
        assert (session.peer, session.tls) == ("sink.example.org", "")
        await session.close()


async def test_hang_up() -> None:
    opener = Opener()
    async with Sink() as sink:
        wire = await opener.dial(Candidate("mx.example.org", *sink.address), Source(), 5)
        assert isinstance(wire, socket.socket)
        opener.hang_up(wire)
        assert wire.fileno() == -1


async def test_a_source_that_is_not_ours_is_a_fault() -> None:
    opener = Opener()
    async with Sink() as sink:
        wire = await opener.dial(Candidate("mx.example.org", *sink.address), Source("192.0.2.1"), 5)
    assert isinstance(wire, Fault)
    assert (wire.phase, wire.problem) == (Phase.CONNECT, "refused")


@pytest.mark.parametrize("helo", ["", "two words", "a\r\nMAIL"])
async def test_a_name_that_cannot_be_said_is_a_bug_of_the_caller(helo: str) -> None:
    opener = Opener()
    async with Sink() as sink:
        candidate = Candidate("mx.example.org", *sink.address)
        wire = await opener.dial(candidate, Source(), 5)
        assert isinstance(wire, socket.socket)
        with pytest.raises(ValueError, match="local_hostname"):
            await opener.open(wire, candidate, Manner(DestinationPolicy(), helo))
        assert wire.fileno() == -1
