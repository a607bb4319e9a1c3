"""A new configuration holds for mail that waits and for lanes under way; a stop in between loses nothing."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.support.client import send
from tests.support.dns import DnsServer, Zone
from tests.support.operator import LATE, Host, configured, read, to
from tests.support.relay import RunningRelay

from backstamp.telemetry import events


async def crowd(running: RunningRelay, count: int, domain: str = "y.test") -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(send(running.address, [f"u{number}@{domain}"]))


async def test_a_new_rate_holds_for_what_waits_already(tmp_path: Path) -> None:
    async with (
        Host() as host,
        configured(tmp_path, to(host), delivery='message_rate = "1/10m"') as running,
    ):
        await crowd(running, 20)
        await running.until(events.Delivered)
        running.relay.reload(read(tmp_path, to(host), delivery='message_rate = "1000/1s"'))
        await running.until(events.Delivered, 20)


async def test_a_new_rate_holds_for_a_mailing_in_the_middle(tmp_path: Path) -> None:
    slow = 'message_rate = "1/10m"\nrecipients_per_transaction = 1'
    quick = 'message_rate = "1000/1s"\nrecipients_per_transaction = 5'
    async with Host() as host, configured(tmp_path, to(host), delivery=slow) as running:
        await send(running.address, [f"u{number}@y.test" for number in range(21)])
        await running.until(events.Delivered)
        running.relay.reload(read(tmp_path, to(host), delivery=quick))
        await running.until(events.Delivered, 21)
        assert sorted(len(message.recipients) for message in host.taken) == [1, 5, 5, 5, 5]


async def test_fewer_connections_hold_for_a_lane_under_way(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host), delivery="connections = 5") as running:
        host.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.02)
        await crowd(running, 60)
        async with asyncio.timeout(20):
            while len(host.open) < 5:
                await asyncio.sleep(0.005)
        running.relay.reload(read(tmp_path, to(host), delivery="connections = 1"))
        async with asyncio.timeout(20):
            while len(host.open) > 1:
                await asyncio.sleep(0.005)
        host.most = 0
        taken = len(host.taken)
        assert taken < 60
        await running.until(events.Delivered, 60)
        assert host.most == 1


async def test_more_connections_hold_for_a_lane_under_way(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host), delivery="connections = 1") as running:
        host.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.02)
        await crowd(running, 60)
        await running.until(events.Delivered)
        assert host.most == 1
        running.relay.reload(read(tmp_path, to(host), delivery="connections = 4"))
        await running.until(events.Delivered, 60)
        assert host.most == 4


async def test_a_new_route_takes_the_mail_that_waits_in_a_lane(tmp_path: Path) -> None:
    async with Host() as old, Host() as new:
        slow = 'message_rate = "1/10m"'
        async with configured(tmp_path, to(old), delivery=slow) as running:
            await crowd(running, 10)
            await running.until(events.Delivered)
            running.relay.reload(read(tmp_path, to(new)))
            await running.until(events.Delivered, 10)
            assert (len(old.taken), len(new.taken)) == (1, 9)


async def test_a_new_route_takes_the_rest_of_a_mailing_in_the_middle(tmp_path: Path) -> None:
    async with Host() as old, Host() as new:
        slow = 'message_rate = "1/10m"\nrecipients_per_transaction = 1'
        async with configured(tmp_path, to(old), delivery=slow) as running:
            await send(running.address, [f"u{number}@y.test" for number in range(21)])
            await running.until(events.Delivered)
            running.relay.reload(read(tmp_path, to(new)))
            await running.until(events.Delivered, 21)
            assert [len(message.recipients) for message in old.taken] == [1]
            assert [len(message.recipients) for message in new.taken] == [20]


async def test_a_new_route_takes_what_was_deferred_at_the_old_one(tmp_path: Path) -> None:
    async with Host() as old, Host() as new, configured(tmp_path, to(old)) as running:
        old.script.say("RCPT", 450, "4.2.0 later")
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        running.relay.reload(read(tmp_path, to(new)))
        await running.until(events.Delivered)
        assert len(new.taken) == 1


async def test_a_route_instead_of_mx_and_back(tmp_path: Path) -> None:
    zone: Zone = {"y.test": {"MX": ["10 mx.y.test."]}, "mx.y.test": {"A": ["127.0.0.2"]}}
    async with (
        Host("127.0.0.2") as direct,
        Host() as smarthost,
        DnsServer(zone) as names,
    ):
        how = {"port": direct.address[1], "nameservers": [names.address]}
        async with configured(tmp_path, **how) as running:
            for count, tables in enumerate(["", to(smarthost), ""], 1):
                running.relay.reload(read(tmp_path, tables, **how))
                await send(running.address, ["r@y.test"])
                await running.until(events.Delivered, count)
        assert (len(direct.taken), len(smarthost.taken)) == (2, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('hostname = "relay.example.org"', 'hostname = "other.example.org"'),
        ("attempts = true", "attempts = false"),
    ],
)
async def test_what_a_reload_cannot_change_is_said(tmp_path: Path, old: str, new: str) -> None:
    from backstamp.config.load import load

    async with Host() as host, configured(tmp_path, to(host)) as running:
        file = tmp_path / "backstamp.toml"
        running.relay.reload(load(str(file)))
        assert not running.events(events.Alarm)
        file.write_text(file.read_text().replace(old, new))
        running.relay.reload(load(str(file)))
        [alarm] = running.events(events.Alarm)
        assert "restart" in alarm.action


async def test_a_source_address_that_a_reload_brings_is_this_relays_own(tmp_path: Path) -> None:
    """Mail by MX to it would come back in circles."""
    zone: Zone = {"y.test": {"MX": ["10 mx.y.test."]}, "mx.y.test": {"A": ["192.0.2.7"]}}
    pool = '[[source]]\nname = "bulk"\naddresses = [{address = "192.0.2.7"}]\n'
    async with DnsServer(zone) as names:
        how = {"nameservers": [names.address], "private": False}
        async with configured(tmp_path, **how) as running:
            own = []
            for count, tables in enumerate((pool, ""), 1):
                running.relay.reload(read(tmp_path, tables, **how))
                await send(running.address, ["r@y.test"])
                await running.until(events.Failed, count)
                own.append("this relay's own address" in running.events(events.Failed)[-1].reply)
            assert own == [True, False]


async def test_a_stop_with_mail_waiting_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    async with Host() as host:
        host.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.02)
        limits = "connections = 2\nrecipients_per_transaction = 3"
        async with configured(tmp_path, to(host), delivery=limits, schedule=LATE) as running:
            await send(running.address, [f"m{number}@y.test" for number in range(60)])
            await crowd(running, 40)
            await running.until(events.Delivered, 10)
        [stopped] = running.events(events.Stopped)
        assert stopped.waiting > 0
        assert not running.events(events.InDoubt)
        before = len(running.events(events.Delivered))
        assert before + stopped.waiting == 100
        async with configured(tmp_path, to(host), delivery=limits, schedule=LATE) as running:
            await running.until(events.Delivered, 100 - before)
        came = Counter(one for message in host.taken for one in message.recipients)
        assert len(came) == 100
        assert set(came.values()) == {1}


async def test_a_stop_while_a_host_says_nothing_ends_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grace is for transactions under way, and no longer; who was cut off waits for the next start."""
    monkeypatch.setattr("backstamp.app.GRACE", 0.3)
    async with Host() as host:
        host.script.do("RCPT", times=1, delay=60)
        async with configured(tmp_path, to(host)) as running:
            await send(running.address, ["r@y.test"])
            await host.until(b"RCPT")
        [stopped] = running.events(events.Stopped)
        assert stopped.waiting == 1
        async with configured(tmp_path, to(host)) as running:
            await running.until(events.Delivered)
        assert len(host.taken) == 1
