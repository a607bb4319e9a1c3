"""What hosts say about the pace is learned, told, kept over a restart, and costs nobody else anything."""

import asyncio
import itertools
import json
from pathlib import Path

from tests.support.client import send
from tests.support.operator import LATE, Host, configured, to
from tests.support.relay import RunningRelay
from tests.unit.admin.test_server import get

from backstamp.telemetry import events

PAUSE = """
[[adapt]]
pattern = "come back|try again in"
action = "pause"
for = "10m"
"""


async def crowd(running: RunningRelay, count: int, domain: str = "y.test") -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(send(running.address, [f"u{number}@{domain}"]))


async def test_a_host_that_takes_three_connections_is_learned_and_remembered(tmp_path: Path) -> None:
    limits = "connections = 8\ninitial_connections = 8"
    async with Host(connections=3) as host:
        # The host's word comes first; what it says at the dot comes late enough for others to be there.
        host.script.do("DOT", octets=b"250 2.0.0 Ok\r\n", delay=0.02)
        async with configured(tmp_path, to(host), delivery=limits) as running:
            await crowd(running, 40)
            await running.until(events.Delivered, 40)
            told = running.events(events.Throttled)
            assert told[-1].change == "up to 3 connections"
            assert "421 4.7.0 Too many connections" in told[-1].why
            assert host.most > 3
        assert not running.events(events.Deferred), [one.reply for one in running.events(events.Deferred)]
        [kept] = json.loads((tmp_path / "queue" / "learned.json").read_bytes())
        assert kept["ceiling"] == 3
        host.most = 0
        async with configured(tmp_path, to(host), delivery=limits) as running:
            await crowd(running, 40)
            await running.until(events.Delivered, 40)
            assert host.most == 3
            assert not running.events(events.Throttled)


async def test_messages_a_connection_takes_are_learned_from_its_421(tmp_path: Path) -> None:
    """Twice in a row after as many messages: that is the host's limit, and nobody is told of a failure."""
    async with (
        Host() as host,
        configured(tmp_path, to(host), delivery="connections = 1", schedule=LATE) as running,
    ):
        for _ in range(2):
            host.script.do("MAIL", octets=b"250 2.1.0 Ok\r\n", times=3)
            host.script.do("MAIL", octets=b"421 4.7.0 enough for this connection\r\n", close=True, times=1)
        await crowd(running, 14)
        await running.until(events.Delivered, 14)
        assert not running.events(events.Deferred)
        [told] = running.events(events.Throttled)
        assert told.change == "3 messages a connection"
        numbers = [message.connection for message in host.taken]
        assert max(numbers.count(number) for number in numbers) == 3


async def test_how_much_a_host_takes_at_a_time_is_kept_and_shown(tmp_path: Path) -> None:
    async with Host() as host:
        host.script.do("RCPT", octets=b"250 2.1.5 Ok\r\n", times=2)
        host.script.say("RCPT", 452, "4.5.3 Too many recipients", times=4)
        async with configured(tmp_path, to(host), delivery="connections = 1", schedule=LATE) as running:
            await send(running.address, [f"u{number}@y.test" for number in range(6)])
            await running.until(events.Delivered, 6)
            # The connection that is open had some already.
            for _ in range(3):
                host.script.do("MAIL", octets=b"250 2.1.0 Ok\r\n", times=3)
                host.script.do("MAIL", octets=b"421 4.7.0 enough for now\r\n", close=True, times=1)
            await crowd(running, 14)
            await running.until(events.Delivered, 20)
            changes = [one.change for one in running.events(events.Throttled)]
            assert changes == ["2 recipients a transaction", "3 messages a connection"]
            before = await way(running)
            assert "takes 2 recipients a transaction, because" in before
            assert "takes 3 messages a connection, because" in before
            assert "said 452 4.5.3 Too many recipients." in before
        taken = len(host.taken)
        async with configured(tmp_path, to(host), delivery="connections = 1", schedule=LATE) as running:
            after = await way(running)
            assert "takes 2 recipients a transaction, because" in after
            assert "takes 3 messages a connection, because" in after
            await send(running.address, [f"u{number}@y.test" for number in range(6)])
            await running.until(events.Delivered, 6)
            assert [len(message.recipients) for message in host.taken[taken:]] == [2, 2, 2]
            assert not running.events(events.Throttled)


async def way(running: RunningRelay) -> str:
    """Return what `backstamp route` says, in one line."""
    _, answer = await get(running.relay.addresses[-1], "/api/v1/route?address=x@y.test")
    return " ".join(json.loads(answer)["text"].split())


async def test_a_pause_keeps_the_lane_quiet_and_the_others_running(tmp_path: Path) -> None:
    async with (
        Host() as tired,
        Host() as fresh,
        configured(tmp_path, to(tired, match="tired.test") + to(fresh) + PAUSE) as running,
    ):
        tired.script.say("RCPT", 450, "4.7.0 come back later")
        await send(running.address, ["first@tired.test"])
        await running.until(events.Throttled)
        await crowd(running, 5, "tired.test")
        await crowd(running, 30, "fresh.test")
        await running.until(events.Delivered, 30)
        [told] = running.events(events.Throttled)
        assert (told.change, told.seconds) == ("paused", 600)
        assert len(tired.lines(b"MAIL")) == 1
        # What waits there is neither sent nor given up.
        assert running.relay.queue.ledger.waiting == 6


async def test_a_pause_is_as_long_as_the_host_says_and_five_seconds_at_least(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host) + PAUSE, schedule=LATE) as running:
        host.script.say("RCPT", 450, "4.7.0 try again in 2 seconds", times=1)
        await send(running.address, ["first@y.test"])
        await running.until(events.Throttled)
        assert running.events(events.Throttled)[0].seconds == 5
        await send(running.address, ["second@y.test"])
        await running.until(events.Delivered, 2)
        before, *after = host.moments(b"RCPT")
        assert len(after) == 2
        assert min(after) - before >= 4.9


async def test_a_pause_holds_after_a_restart(tmp_path: Path) -> None:
    async with Host() as host, Host() as other:
        tables = to(host) + to(other, match="other.test") + PAUSE
        host.script.say("RCPT", 450, "4.7.0 come back later")
        async with configured(tmp_path, tables) as running:
            await send(running.address, ["first@y.test"])
            await running.until(events.Throttled)
        said = len(host.said)
        async with configured(tmp_path, tables) as running:
            await send(running.address, ["second@y.test"])
            await crowd(running, 10, "other.test")
            await running.until(events.Delivered, 10)
            assert host.lines(b"CONNECT") == host.lines(b"CONNECT")[:1]
            assert len(host.said) == said


async def test_a_greylisted_recipient_comes_back_when_the_host_said(tmp_path: Path) -> None:
    """The named time counts, not the schedule, and the lane is not held up by one recipient's wait."""
    async with Host() as host, configured(tmp_path, to(host), schedule='["20s"]') as running:
        host.script.say(
            "RCPT", 451, "4.7.1 Greylisted, try again in 5 seconds", address=b"grey@y.test", times=1
        )
        await send(running.address, ["grey@y.test"])
        await running.until(events.Deferred)
        await crowd(running, 5)
        await running.until(events.Delivered, 5)
        assert len(host.lines(b"RCPT TO:<grey@y.test>")) == 1
        [deferred] = running.events(events.Deferred)
        assert deferred.retry_at - deferred.time / 1e6 > 4.9
        assert not running.events(events.Throttled)


async def test_a_host_that_asks_for_less_gets_less(tmp_path: Path) -> None:
    """A shipped rule: who speaks of a rate is sent half of what came, and everybody can see why."""
    async with Host() as host, configured(tmp_path, to(host), delivery='message_rate = "20/1s"') as running:
        host.script.say("MAIL", 451, "4.7.1 You are sending too fast, slow down", times=1)
        await send(running.address, ["r@y.test"])
        await running.until(events.Throttled)
        [told] = running.events(events.Throttled)
        assert told.change == "one message in 0.1 s"
        assert "slow down" in told.why
        await running.until(events.Delivered)
        await crowd(running, 5)
        await running.until(events.Delivered, 6)
        moments = host.moments(b"MAIL")[1:]
        assert min(after - before for before, after in itertools.pairwise(moments)) > 0.08
