"""Limits as the other end sees them: connections, messages, recipients, rates; shared or not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.support.client import send
from tests.support.dns import DnsServer, Zone
from tests.support.operator import LATE, Host, configured, to
from tests.support.relay import RunningRelay

from backstamp.telemetry import events

ROUNDING = 0.02
"""Seconds by which the peer may see two messages closer than they were sent, or a loop is late with one."""


async def crowd(running: RunningRelay, recipients: Sequence[str]) -> None:
    """Send a message to each, all at a time."""
    async with asyncio.TaskGroup() as group:
        for recipient in recipients:
            group.create_task(send(running.address, [recipient]))


def people(domain: str, count: int) -> list[str]:
    return [f"u{number}@{domain}" for number in range(count)]


def by_connection(host: Host) -> Counter[int]:
    return Counter(message.connection for message in host.taken)


@pytest.fixture
async def shared() -> AsyncIterator[DnsServer]:
    """Two sites of one provider, two domains at one of them, and a domain that has nothing to do with it."""
    zone: Zone = {
        "one.test": {"MX": ["10 mx1.big.example."]},
        "two.test": {"MX": ["10 mx2.big.example."]},
        "three.test": {"MX": ["5 mx2.big.example."]},
        "other.test": {"MX": ["10 mx.other.test."]},
        "mx1.big.example": {"A": ["127.0.0.1"]},
        "mx2.big.example": {"A": ["127.0.0.2"]},
        "mx.other.test": {"A": ["127.0.0.3"]},
    }
    async with DnsServer(zone) as names:
        yield names


async def test_no_more_connections_stand_than_are_allowed(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host), delivery="connections = 3") as running:
        host.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.02)
        await crowd(running, people("y.test", 30))
        await running.until(events.Delivered, 30)
        assert host.most == 3


async def test_a_next_hop_is_tried_with_one_connection_first(tmp_path: Path) -> None:
    """Slow start: until a transaction was answered there is one connection, whatever waits."""
    async with Host() as host, configured(tmp_path, to(host), delivery="initial_connections = 4") as running:
        host.script.do("MAIL", octets=b"250 2.1.0 Ok\r\n", delay=0.5, times=1)
        await crowd(running, people("y.test", 20))
        await running.until(events.Delivered, 20)
        connects, dots = host.moments(b"CONNECT"), host.moments(b"DATA")
        assert len([at for at in connects if at < dots[0]]) == 1


async def test_a_connection_has_no_more_messages_than_allowed(tmp_path: Path) -> None:
    async with (
        Host() as host,
        configured(tmp_path, to(host), delivery="messages_per_connection = 4\nconnections = 2") as running,
    ):
        await crowd(running, people("y.test", 21))
        await running.until(events.Delivered, 21)
        await host.until(b"QUIT", 4)
        assert max(by_connection(host).values()) == 4


async def test_a_transaction_has_no_more_recipients_than_allowed(tmp_path: Path) -> None:
    async with (
        Host() as host,
        configured(tmp_path, to(host), delivery="recipients_per_transaction = 7") as running,
    ):
        await send(running.address, people("y.test", 30))
        await running.until(events.Delivered, 30)
        assert sorted(len(message.recipients) for message in host.taken) == [2, 7, 7, 7, 7]
        assert len({one for message in host.taken for one in message.recipients}) == 30


def kept(moments: Sequence[float], count: int, seconds: float) -> None:
    """No window of so many seconds, wherever it is laid, holds more."""
    for first, beyond in zip(moments, moments[count:], strict=False):
        assert beyond - first >= seconds - ROUNDING, (first, beyond)


async def test_messages_come_no_faster_than_their_rate(tmp_path: Path) -> None:
    async with (
        Host() as host,
        configured(tmp_path, to(host), delivery='message_rate = "10/1s"\nconnections = 3') as running,
    ):
        await crowd(running, people("y.test", 15))
        await running.until(events.Delivered, 15)
        kept(host.moments(b"MAIL"), 10, 1.0)


async def test_connections_come_no_faster_than_their_rate(tmp_path: Path) -> None:
    limits = 'connection_rate = "5/1s"\nmessages_per_connection = 1\nconnections = 5\ninitial_connections = 5'
    async with Host() as host, configured(tmp_path, to(host), delivery=limits) as running:
        await crowd(running, people("y.test", 8))
        await running.until(events.Delivered, 8)
        assert len(host.moments(b"CONNECT")) == 8
        kept(host.moments(b"CONNECT"), 5, 1.0)


async def test_a_destinations_own_limit_outweighs_the_default(tmp_path: Path, shared: DnsServer) -> None:
    async with (
        Host() as one,
        Host("127.0.0.3", one.address[1]) as other,
        configured(
            tmp_path,
            '[[destination]]\nmatch = "other.test"\nrecipients_per_transaction = 1',
            delivery="recipients_per_transaction = 5",
            port=one.address[1],
            nameservers=[shared.address],
        ) as running,
    ):
        await send(running.address, [*people("one.test", 5), *people("other.test", 5)])
        await running.until(events.Delivered, 10)
        assert [len(message.recipients) for message in one.taken] == [5]
        assert [len(message.recipients) for message in other.taken] == [1] * 5


async def test_sites_of_one_provider_share_its_connections(tmp_path: Path, shared: DnsServer) -> None:
    async with (
        Host() as one,
        Host("127.0.0.2", one.address[1]) as two,
        Host("127.0.0.3", one.address[1]) as other,
        configured(
            tmp_path,
            '[[provider]]\nname = "big"\nmx = ["*.big.example"]\nconnections = 2',
            delivery="connections = 6",
            port=one.address[1],
            nameservers=[shared.address],
        ) as running,
    ):
        together = 0

        def count() -> None:
            nonlocal together
            together = max(together, len(one.open) + len(two.open))

        for host in (one, two, other):
            host.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.01)
            host.noticed = count
        await crowd(running, [*people("one.test", 15), *people("two.test", 15), *people("other.test", 15)])
        await running.until(events.Delivered, 45)
        assert len(one.taken) == len(two.taken) == len(other.taken) == 15
        assert together == 2
        assert other.most > 2


async def test_sites_of_one_provider_share_its_rate(tmp_path: Path, shared: DnsServer) -> None:
    async with (
        Host() as one,
        Host("127.0.0.2", one.address[1]) as two,
        configured(
            tmp_path,
            '[[provider]]\nname = "big"\nmx = ["*.big.example"]\nmessage_rate = "10/1s"',
            port=one.address[1],
            nameservers=[shared.address],
        ) as running,
    ):
        await crowd(running, [*people("one.test", 7), *people("two.test", 7)])
        await running.until(events.Delivered, 14)
        kept(sorted([*one.moments(b"MAIL"), *two.moments(b"MAIL")]), 10, 1.0)


async def test_domains_with_the_same_exchangers_share_one_connection(
    tmp_path: Path, shared: DnsServer
) -> None:
    async with (
        Host("127.0.0.2") as host,
        configured(
            tmp_path, delivery='idle = "10s"', port=host.address[1], nameservers=[shared.address]
        ) as running,
    ):
        await send(running.address, ["a@two.test"])
        await running.until(events.Delivered)
        await send(running.address, ["b@three.test"])
        await running.until(events.Delivered, 2)
        await send(running.address, ["c@two.test", "d@three.test"])
        await running.until(events.Delivered, 4)
        assert len(host.lines(b"CONNECT")) == 1
        assert host.taken[-1].recipients in (
            [b"d@three.test", b"c@two.test"],
            [b"c@two.test", b"d@three.test"],
        )


async def test_those_a_host_has_no_room_for_go_in_the_next_transaction_at_once(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host), schedule=LATE) as running:
        host.script.do("RCPT", octets=b"250 2.1.5 Ok\r\n", times=4)
        host.script.say("RCPT", 452, "4.5.3 Too many recipients", times=6)
        await send(running.address, people("y.test", 10))
        await running.until(events.Delivered, 10)
        assert not running.events(events.Deferred)
        assert [len(message.recipients) for message in host.taken] == [4, 4, 2]
        assert len({one for message in host.taken for one in message.recipients}) == 10
        [throttled] = running.events(events.Throttled)
        assert throttled.change == "4 recipients a transaction"


async def test_a_host_that_hangs_up_before_the_dot_is_tried_again_at_once(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host), schedule=LATE) as running:
        host.script.do("DATA", close=True, times=1)
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert len(host.lines(b"CONNECT")) == 2
        assert not running.events(events.Deferred)


async def test_421_to_mail_moves_the_message_to_the_second_exchanger(tmp_path: Path) -> None:
    zone: Zone = {
        "y.test": {"MX": ["10 first.y.test.", "20 second.y.test."]},
        "first.y.test": {"A": ["127.0.0.2"]},
        "second.y.test": {"A": ["127.0.0.3"]},
    }
    async with (
        Host("127.0.0.2") as first,
        Host("127.0.0.3", first.address[1]) as second,
        DnsServer(zone) as names,
        configured(tmp_path, port=first.address[1], nameservers=[names.address], schedule=LATE) as running,
    ):
        first.script.say("MAIL", 421, "4.3.2 closing")
        await send(running.address, people("y.test", 3))
        await running.until(events.Delivered, 3)
        assert [len(message.recipients) for message in second.taken] == [3]
        assert not running.events(events.Deferred)


async def test_a_rate_of_many_a_second_is_kept_to_the_end(tmp_path: Path) -> None:
    """The next message may go in less than the loop tells apart: uvloop's timers are of another kind then."""
    rate = 'message_rate = "200/1s"\nconnections = 4'
    async with Host() as host, configured(tmp_path, to(host), delivery=rate) as running:
        await crowd(running, people("y.test", 100))
        await running.until(events.Delivered, 100)
        assert len(host.taken) == 100
