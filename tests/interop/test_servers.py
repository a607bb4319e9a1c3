"""Other servers take what the relay delivers, and what they say no to comes out as it should."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.interop.access import Access, Certificates, Entrance, settings
from tests.interop.clients import Smtplib
from tests.interop.conftest import Proved
from tests.interop.letters import Letter, letter
from tests.interop.servers import SERVERS, Manner, Server
from tests.support.relay import RunningRelay, run

from backstamp.telemetry import events

pytestmark = [pytest.mark.interop, pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.name)]


class Pair:
    """A relay and the server behind it."""

    def __init__(self, relay: RunningRelay, server: Server, certificates: Certificates) -> None:
        self.relay = relay
        self.server = server
        self._entrance = Entrance(Access("clear"), relay.address[1], certificates.ca)

    async def send(self, sent: Letter, place: Path) -> None:
        """Hand in a letter."""
        done = await Smtplib().send(self._entrance, sent, place)
        assert done.taken, done.words

    async def delivered(self, count: int) -> list[events.Delivered]:
        """Wait for the events, and for the server to have put the mail where it belongs."""
        await self.relay.until(events.Delivered, count)
        await self.relay.until_empty()
        await self.server.until_kept(count)
        return self.relay.events(events.Delivered)


@contextlib.asynccontextmanager
async def pair(
    kind: type[Server], place: Path, certificates: Certificates, manner: Manner
) -> AsyncIterator[Pair]:
    """Run both; skipped where the server is absent."""
    if lacks := kind.missing():
        pytest.skip(lacks)
    server = kind(place / "server")
    await server.start(manner)
    try:
        made = settings(Access("clear"), place, ("127.0.0.1", server.port), certificates)
        async with run(made, place) as relay:
            yield Pair(relay, server, certificates)
    finally:
        await server.stop()


async def test_a_server_takes_a_message_as_it_was(
    kind: type[Server], place: Path, certificates: Certificates, proved: Proved
) -> None:
    async with pair(kind, place, certificates, Manner()) as both:
        sent = letter()
        await both.send(sent, place)
        (event,) = await both.delivered(1)
        assert event.reply.startswith("250")
        assert not event.tls
        (content,) = both.server.kept()
        assert content.endswith(sent.content)
        assert both.server.copies() == {"r@one.test": 1}
    proved("server", kind.name, kind.version(), "a message kept octet-exact")


async def test_each_of_a_hundred_recipients_has_one_copy(
    kind: type[Server], place: Path, certificates: Certificates, proved: Proved
) -> None:
    async with pair(kind, place, certificates, Manner()) as both:
        names = tuple(f"r{number}@one.test" for number in range(100))
        await both.send(letter(recipients=names), place)
        told = await both.delivered(100)
        assert len({event.reply for event in told}) == 1, "one transaction, one reply"
        assert both.server.copies() == dict.fromkeys(names, 1)
        assert all(content.endswith(letter().body) for content in both.server.kept())
    proved("server", kind.name, kind.version(), "100 recipients in one transaction")


async def test_a_message_larger_than_its_size_is_given_up(
    kind: type[Server], place: Path, certificates: Certificates, proved: Proved
) -> None:
    """RFC 1870: what a server will not take is not tried again, and its sender hears of it."""
    async with pair(kind, place, certificates, Manner(size=100_000)) as both:
        await both.send(letter("x" * 70 + "\r\n" + "y" * 70 + "\r\n" + ("z" * 70 + "\r\n") * 2000), place)
        await both.relay.until(events.Failed)
        (event,) = both.relay.events(events.Failed)
        assert event.reply.startswith("5"), event.reply
        # The report is small enough, and goes the same way: everything does.
        await both.delivered(1)
        assert both.server.copies() == {"ann@shop.test": 1}
    proved("server", kind.name, kind.version(), "SIZE refused, reported")


async def test_tls_is_done_where_it_is_offered_and_works(
    kind: type[Server], place: Path, certificates: Certificates, proved: Proved
) -> None:
    """RFC 7435: a certificate nobody vouches for is better than none, clear text better than no mail."""
    async with pair(kind, place, certificates, Manner(certificates=certificates)) as both:
        sent = letter()
        await both.send(sent, place)
        (event,) = await both.delivered(1)
        assert bool(event.tls) == kind.tls, event
        assert bool(both.relay.events(events.TlsFailed)) != kind.tls
        (content,) = both.server.kept()
        assert content.endswith(sent.content)
    how = f"STARTTLS, {event.tls}" if kind.tls else "STARTTLS offered and broken: taken in clear text"
    proved("server", kind.name, kind.version(), how)


async def test_who_is_refused_for_now_gets_it_later(
    kind: type[Server], place: Path, certificates: Certificates, proved: Proved
) -> None:
    """RFC 5321: after 450 mail is sent again (greylisting)."""
    async with pair(kind, place, certificates, Manner(refuse=True)) as both:
        await both.send(letter(), place)
        await both.relay.until(events.Deferred)
        assert {event.reply.split()[0] for event in both.relay.events(events.Deferred)} == {"450"}
        assert not both.relay.events(events.Delivered)
        await both.server.stop()
        await both.server.start()
        await both.delivered(1)
        assert both.server.copies() == {"r@one.test": 1}
        assert not both.relay.events(events.Failed)
    proved("server", kind.name, kind.version(), "450, then taken")


async def test_many_messages_go_over_few_connections(
    kind: type[Server], place: Path, certificates: Certificates, proved: Proved
) -> None:
    async with pair(kind, place, certificates, Manner()) as both:
        names = [f"r{number}@one.test" for number in range(60)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(both.send(letter(recipients=(name,)), place))
        await both.delivered(60)
        assert both.server.copies() == dict.fromkeys(names, 1)
    proved("server", kind.name, kind.version(), "60 messages at once")
