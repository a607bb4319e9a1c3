"""Where mail comes from, as the other end sees it: address and name, by weight, for one message the same."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.support.client import send
from tests.support.dns import DnsServer, Zone
from tests.support.operator import LATE, Host, configured, to

from backstamp.telemetry import events

POOL = """
[[source]]
name = "bulk"
addresses = [
  {address = "127.0.0.2", helo = "mta2.example.org", weight = 3},
  {address = "127.0.0.3", helo = "mta3.example.org"},
]
"""
TWO = (("127.0.0.2", b"EHLO mta2.example.org"), ("127.0.0.3", b"EHLO mta3.example.org"))


def greeted(host: Host) -> set[tuple[str, bytes]]:
    """Return who said which name."""
    return {(one.client, one.line) for one in host.said if one.line.startswith(b"EHLO")}


def clients(host: Host, verb: bytes) -> list[str]:
    return [one.client for one in host.said if one.line.startswith(verb)]


async def test_without_a_pool_the_relay_says_its_own_name(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert greeted(host) == {("127.0.0.1", b"EHLO relay.example.org")}


async def test_a_pools_addresses_are_used_by_weight_each_with_its_name(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host) + POOL, delivery='source = "bulk"') as running:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(send(running.address, [f"u{number}@y.test"]))
        await running.until(events.Delivered, 100)
        assert greeted(host) == set(TWO)
        seen = Counter(clients(host, b"MAIL"))
        # Three to one: with a hundred messages half and half is as good as impossible.
        assert seen["127.0.0.2"] > seen["127.0.0.3"] > 0


async def test_a_message_comes_from_the_same_address_every_time(tmp_path: Path) -> None:
    """Greylisting knows a message by the address it came from."""
    async with Host() as host, configured(tmp_path, to(host) + POOL, delivery='source = "bulk"') as running:
        people = [f"u{number}@y.test" for number in range(12)]
        for one in people:
            host.script.say("RCPT", 451, "4.7.1 later", address=one.encode(), times=3)
            await send(running.address, [one])
        await running.until(events.Delivered, 12)
        for one in people:
            came = clients(host, f"RCPT TO:<{one}>".encode())
            assert len(came) == 4
            assert len(set(came)) == 1, (one, came)
        assert len(set(clients(host, b"RCPT"))) == 2


async def test_a_senders_pool_is_its_own(tmp_path: Path) -> None:
    pools = """
        [[source]]
        name = "shop"
        senders = ["shop.test"]
        addresses = [{address = "127.0.0.4", helo = "shop.example.org"}]
        [[source]]
        name = "reports"
        senders = ["<>"]
        addresses = [{address = "127.0.0.5"}]
    """
    async with Host() as host, configured(tmp_path, to(host) + pools) as running:
        senders = ["a@shop.test", "a@else.test", "", "b@SHOP.test"]
        for count, sender in enumerate(senders, 1):
            await send(running.address, ["r@y.test"], sender=sender)
            await running.until(events.Delivered, count)
        assert clients(host, b"MAIL") == ["127.0.0.4", "127.0.0.1", "127.0.0.5", "127.0.0.4"]
        assert greeted(host) == {
            ("127.0.0.4", b"EHLO shop.example.org"),
            ("127.0.0.1", b"EHLO relay.example.org"),
            ("127.0.0.5", b"EHLO relay.example.org"),
        }


async def test_what_is_named_for_the_destination_outweighs_the_sender(tmp_path: Path) -> None:
    zone: Zone = {
        "partner.test": {"MX": ["10 mx.y.test."]},
        "y.test": {"MX": ["10 mx.y.test."]},
        "mx.y.test": {"A": ["127.0.0.1"]},
    }
    tables = """
        [[source]]
        name = "shop"
        senders = ["shop.test"]
        addresses = [{address = "127.0.0.4"}]
        [[source]]
        name = "partner"
        addresses = [{address = "127.0.0.5"}]
        [[destination]]
        match = "partner.test"
        source = "partner"
    """
    async with (
        Host() as host,
        DnsServer(zone) as names,
        configured(tmp_path, tables, port=host.address[1], nameservers=[names.address]) as running,
    ):
        await send(running.address, ["a@partner.test"], sender="a@shop.test")
        await running.until(events.Delivered)
        await send(running.address, ["b@y.test"], sender="a@shop.test")
        await running.until(events.Delivered, 2)
        assert clients(host, b"MAIL") == ["127.0.0.5", "127.0.0.4"]


async def test_an_address_this_machine_has_not_makes_the_mail_wait(tmp_path: Path) -> None:
    pool = '[[source]]\nname = "gone"\naddresses = [{address = "192.0.2.1"}]'
    async with Host() as host, configured(tmp_path, to(host) + pool, delivery='source = "gone"') as running:
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        assert "from 192.0.2.1" in running.events(events.Deferred)[0].reply
        assert not host.said
        assert not running.events(events.Failed)


async def test_what_one_address_cannot_costs_mail_from_another_nothing(tmp_path: Path) -> None:
    """A host blocks one address of ours, or this machine has lost it: the host is not dead for the others."""
    pools = """
        [[source]]
        name = "gone"
        senders = ["gone.test"]
        addresses = [{address = "192.0.2.1"}]
    """
    async with Host() as host, configured(tmp_path, to(host) + pools, schedule=LATE) as running:
        await send(running.address, ["a@y.test"], sender="a@gone.test")
        await running.until(events.Deferred)
        await send(running.address, ["b@y.test"], sender="a@else.test")
        await running.until(events.Delivered)
        assert len(running.events(events.Deferred)) == 1
