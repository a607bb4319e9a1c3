"""Mail that leads back to this relay, or where it must not go: bounced once, and that is the end of it."""

import asyncio
from pathlib import Path

import pytest
from tests.support.client import send
from tests.support.dns import DnsServer, Zone
from tests.support.operator import Host, configured, to
from tests.support.process import free_port

from backstamp.telemetry import events

HOME: Zone = {
    "origin.test": {"MX": ["10 mx.origin.test."]},
    "mx.origin.test": {"A": ["127.0.0.7"]},
    "loop.test": {"MX": ["10 relay.example.org."]},
    "backup.test": {"MX": ["5 Relay.Example.ORG.", "10 mx.origin.test."]},
    "alias.test": {"MX": ["10 mx.alias.test."]},
    "mx.alias.test": {"A": ["127.0.0.1"]},
    "relay.example.org": {"A": ["127.0.0.1"]},
    "private.test": {"MX": ["10 mx.private.test."]},
    "mx.private.test": {"A": ["10.1.2.3"]},
    "mixed.test": {"MX": ["10 mx.private.test.", "20 mx.local.test."]},
    "mx.local.test": {"A": ["127.0.0.7", "169.254.169.254"], "AAAA": ["::1"]},
}


async def test_an_exchanger_with_this_relays_name_is_a_loop(tmp_path: Path) -> None:
    """Security 13."""
    async with (
        Host("127.0.0.7") as home,
        DnsServer(HOME) as names,
        configured(tmp_path, port=home.address[1], nameservers=[names.address]) as running,
    ):
        await send(running.address, ["a@loop.test", "b@backup.test"])
        await running.until(events.Delivered)
        await running.until_empty()
        failed = running.events(events.Failed)
        assert {event.recipient for event in failed} == {"a@loop.test", "b@backup.test"}
        assert all(event.reply.startswith("554 5.4.6") for event in failed)
        assert {tuple(message.recipients) for message in home.taken} == {(b"sender@origin.test",)}


async def test_a_host_that_greets_with_this_relays_name_is_this_relay(tmp_path: Path) -> None:
    """Security 13: also where it is found by another name, and whatever the number of messages."""
    async with (
        Host("127.0.0.7") as home,
        Host("127.0.0.1", home.address[1], hostname="Relay.example.org") as itself,
        DnsServer(HOME) as names,
        configured(tmp_path, port=home.address[1], nameservers=[names.address]) as running,
    ):
        for number in range(3):
            await send(running.address, [f"r{number}@alias.test"])
        await running.until(events.Delivered, 3)
        await running.until_empty()
        assert all(event.reply.startswith("554 5.4.6") for event in running.events(events.Failed))
        assert len(running.events(events.Failed)) == len(running.events(events.Bounced)) == 3
        assert not itself.lines(b"MAIL")
        assert len(home.taken) == 3


async def test_the_relay_itself_by_another_name_bounces_once(tmp_path: Path) -> None:
    """The real thing: its own listener at the other end, and a sender whose domain loops as well."""
    port = free_port()
    async with (
        DnsServer(HOME) as names,
        configured(tmp_path, port=port, listen=port, nameservers=[names.address]) as running,
    ):
        await send(running.address, ["r@alias.test"], sender="sender@alias.test")
        await running.until(events.Bounced, 2)
        await running.until_empty()
        assert len(running.events(events.Accepted)) == 1
        assert [event.report != "" for event in running.events(events.Bounced)] == [True, False]
        assert not running.events(events.Delivered)


async def test_a_route_to_a_host_of_the_same_name_is_meant(tmp_path: Path) -> None:
    """Two relays may share a name; who writes a route knows where it leads."""
    async with Host(hostname="relay.example.org") as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)


@pytest.mark.parametrize("recipient", ["a@private.test", "a@alias.test", "a@mixed.test"])
async def test_private_and_loopback_addresses_are_not_connected_to(tmp_path: Path, recipient: str) -> None:
    async with (
        Host("127.0.0.7") as host,
        Host("127.0.0.1", host.address[1]) as other,
        Host() as reports,
        DnsServer(HOME) as names,
        configured(
            tmp_path,
            to(reports, match="origin.test"),
            private=False,
            port=host.address[1],
            nameservers=[names.address],
        ) as running,
    ):
        await send(running.address, [recipient])
        await running.until(events.Delivered)
        [failed] = running.events(events.Failed)
        assert failed.reply.startswith("550 5.4.4")
        assert not host.said
        assert not other.said
        assert len(reports.taken) == 1


async def test_a_message_that_went_in_circles_is_refused_at_the_door(tmp_path: Path) -> None:
    """Security 13: two relays with routes to each other: the hops are counted, and it ends."""
    ports = free_port(), free_port()
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()

    def tables(port: int) -> str:
        return f'[limits]\nhops = 5\n[[route]]\nmatch = "y.test"\nvia = "127.0.0.1:{port}"\n' + to(home)

    async with (
        Host() as home,
        configured(one, tables(ports[1]), listen=ports[0]) as first,
        configured(two, tables(ports[0]), listen=ports[1]) as second,
    ):
        await send(first.address, ["r@y.test"])
        async with asyncio.timeout(20):
            while not home.taken:
                await asyncio.sleep(0.01)
        await first.until_empty()
        await second.until_empty()
        assert len(first.events(events.Delivered)) + len(second.events(events.Delivered)) == 6
        assert len(first.events(events.Failed)) + len(second.events(events.Failed)) == 1
        assert len(home.taken) == 1
