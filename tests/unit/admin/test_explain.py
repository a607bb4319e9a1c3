"""Why a message waits and which way mail would go, asked of a running relay."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.rcode
import pytest
from tests.support.client import send
from tests.support.dns import DnsServer, Zone
from tests.support.relay import RunningRelay, relay, via
from tests.unit.admin.test_server import get

from backstamp.policy.destination import DestinationPolicy, Rate
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import NextHop, Route, Smarthost
from backstamp.sink.server import Sink
from backstamp.telemetry import events

SLOW = RetryPolicy((60.0, 300.0))
ZONE: Zone = {
    "m.test": {"MX": ["10 a.test.", "20 gone.test.", "30 relay.example.org.", "40 c.test."]},
    "a.test": {"A": ["127.0.0.2", "169.254.0.1"]},
    "alone.test": {"A": ["127.0.0.2"]},
    "null.test": {"MX": ["0 ."]},
    "loop.test": {"MX": ["10 relay.example.org."]},
}


async def ask(running: RunningRelay, path: str) -> tuple[int, dict[str, Any]]:
    status, text = await get(running.relay.addresses[-1], path)
    return status, json.loads(text)


async def explained(running: RunningRelay, number: int = 0) -> dict[str, Any]:
    """Return the only destination of a message, in the order they were accepted."""
    queue_id = running.events(events.Accepted)[number].queue_id
    status, answer = await ask(running, f"/api/v1/explain/{queue_id}")
    assert status == 200
    assert answer["text"].startswith(queue_id)
    [found] = answer["facts"]["destinations"]
    return dict(found)


async def rested(running: RunningRelay) -> None:
    while running.relay.queue.ledger.claimed:
        await asyncio.sleep(0.01)


async def until_open(running: RunningRelay, state: str, number: int = 0) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (found := await explained(running, number))["state"] != state:
            await asyncio.sleep(0.01)
    return found


async def test_what_was_put_off_is_tried_again_by_the_schedule(tmp_path: Path) -> None:
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)], retry=SLOW, admin=True) as running:
        sink.script.say("RCPT", 450, "4.2.0 greylisted")
        await send(running.address, ["a@y.test"])
        await running.until(events.Deferred)
        await rested(running)
        found = await explained(running)
        assert found["state"] == "waits for its next try"
        assert (found["attempts"], found["step"]["number"], found["step"]["of"]) == (1, 1, 2)
        assert found["past"]["heard"][0]["reply"] == {"code": 450, "text": "4.2.0 greylisted"}
        assert found["past"]["heard"][0]["bounce_class"] == "greylist"
        assert found["next_try"] == pytest.approx(running.events(events.Deferred)[0].retry_at, abs=0.1)
        assert found["way"]["smarthost"] and found["way"]["route"] == "* to *"


async def test_a_way_for_which_mail_was_put_off_is_not_said_to_have_none(tmp_path: Path) -> None:
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)], retry=SLOW, admin=True) as running:
        sink.script.say("MAIL", 421, "4.2.0 later")
        await send(running.address, ["a@y.test"])
        await running.until(events.Deferred)
        await rested(running)
        async with asyncio.timeout(10):
            while (answer := (await ask(running, "/api/v1/route?address=a%40y.test"))[1])["facts"]["waiting"]:
                await asyncio.sleep(0.01)
        words = " ".join(answer["text"].split())
        assert "Nothing is due for this way now, and no connection is open. Mail that was put off" in words


async def test_what_is_held_and_what_is_finished(tmp_path: Path) -> None:
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)], retry=SLOW, admin=True) as running:
        sink.script.say("RCPT", 450, "4.2.0 later")
        await send(running.address, ["a@y.test", "b@y.test"])
        await running.until(events.Deferred, 2)
        await rested(running)
        queue_id = running.events(events.Accepted)[0].queue_id
        admin = running.relay.addresses[-1]
        path = f"/api/v1/queue/{queue_id}"
        await get(admin, f"{path}/hold", "POST", '{"recipients": ["a@y.test"]}')
        status, answer = await ask(running, f"/api/v1/explain/{queue_id}")
        assert [one["state"] for one in answer["facts"]["destinations"]] == ["held", "waits for its next try"]
        status, answer = await ask(running, f"/api/v1/explain/{queue_id}?recipient=b%40y.test")
        assert [one["state"] for one in answer["facts"]["destinations"]] == ["waits for its next try"]
        assert (await ask(running, f"/api/v1/explain/{queue_id}?recipient=c%40y.test"))[0] == 400
        status, answer = await ask(running, f"/api/v1/explain/{queue_id}?recipient=%3Cb%40Y.test%3E")
        assert [one["state"] for one in answer["facts"]["destinations"]] == ["waits for its next try"]
        assert answer["facts"]["over"] == []
        await get(admin, f"{path}/remove", "POST", '{"recipients": ["<a@Y.TEST>"]}')
        status, answer = await ask(running, f"/api/v1/explain/{queue_id}?recipient=a%40y.test")
        assert (status, answer["facts"]["destinations"]) == (200, [])
        assert answer["facts"]["over"] == [{"address": "a@y.test", "stamp": "X"}]
        assert "An operator removed <a@y.test>" in answer["text"]
        await get(admin, f"{path}/remove", "POST", "{}")
        status, answer = await ask(running, f"/api/v1/explain/{queue_id}")
        assert status == 404 and "is not in the queue" in answer["error"]
        assert (await ask(running, "/api/v1/explain/nonsense"))[0] == 400


async def test_a_connection_that_is_being_opened_the_rate_and_the_transaction(tmp_path: Path) -> None:
    policy = DestinationPolicy(connections=1, message_rate=Rate(1, 3600.0))
    async with (
        Sink() as sink,
        relay(tmp_path, routes=[via(sink.address)], retry=SLOW, policy=policy, admin=True) as running,
    ):
        sink.script.do("CONNECT", octets=b"220 slow.test\r\n", delay=0.5)
        sink.script.do("DOT", octets=b"250 2.0.0 ok\r\n", delay=0.5, times=1)
        for _ in range(3):
            await send(running.address, ["a@y.test"])
        found = await until_open(running, "waits for a connection that is being opened", 1)
        assert found["waiting"]["before"] == 1
        assert found["doing"]["doing"] in ("connecting", "greeting")
        found = await until_open(running, "under way")
        assert found["doing"]["doing"] == "sending"
        await running.until(events.Delivered)
        found = await until_open(running, "waits for the rate", 2)
        assert found["blocked"] == "{}:{}".format(*sink.address)
        assert found["until"] > found["expires"] - SLOW.lifetime + 3000


async def test_who_is_suppressed_and_a_disk_in_trouble(tmp_path: Path) -> None:
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)], retry=SLOW, admin=True) as running:
        running.relay.queue.gate.close()
        running.relay.queue.health._trouble.stuck = True
        await send(running.address, ["a@y.test"])
        body = '{"address": "a@y.test"}'
        await get(running.relay.addresses[-1], "/api/v1/suppression", "POST", body)
        queue_id = running.events(events.Accepted)[0].queue_id
        _, answer = await ask(running, f"/api/v1/explain/{queue_id}")
        facts = answer["facts"]
        assert facts["closed"] and facts["trouble"] == "stamps cannot be made durable"
        assert facts["destinations"][0]["listed"][0]["address"] == "a@y.test"
        _, answer = await ask(running, "/api/v1/route?address=a%40y.test")
        assert answer["facts"]["listed"]["source"] == "operator"
        running.relay.queue.health._trouble.stuck = False
        running.relay.queue.gate.open()
        await running.until(events.Failed)


async def test_nothing_is_known_of_tries_before_a_restart(tmp_path: Path) -> None:
    async with Sink() as sink:
        sink.script.say("RCPT", 450, "4.2.0 later")
        routes = [via(sink.address)]
        async with relay(tmp_path, routes=routes, retry=RetryPolicy((1.0, 300.0)), admin=True) as running:
            await send(running.address, ["a@y.test"])
            await running.until(events.Deferred)
            queue_id = running.events(events.Accepted)[0].queue_id
            await rested(running)
        async with relay(tmp_path, routes=routes, retry=RetryPolicy((1.0, 300.0)), admin=True) as running:
            await running.relay.queue.recovering
            _, answer = await ask(running, f"/api/v1/explain/{queue_id}")
            assert "Nothing is known of tries before the relay started" in answer["text"]


@pytest.fixture
async def named(tmp_path: Path) -> AsyncIterator[RunningRelay]:
    routes = [
        Route("*", Smarthost((NextHop("127.0.0.9", 2599),)), sender="origin.test"),
        Route("z.test", None),
    ]
    async with (
        DnsServer(ZONE) as names,
        relay(tmp_path, routes=routes, nameservers=[names.address], retry=SLOW, admin=True) as running,
    ):
        yield running


async def way(running: RunningRelay, asked: str) -> dict[str, Any]:
    status, answer = await ask(running, f"/api/v1/route?address={asked}")
    assert status == 200
    return dict(answer["facts"])


async def test_a_dry_run_by_mx(named: RunningRelay) -> None:
    facts = await way(named, "a%40m.test")
    first, gone, itself, behind = facts["hosts"]
    # A name server gives them in any order.
    assert {one["address"]: one["refused"] for one in first["addresses"]} == {
        "127.0.0.2": "",
        "169.254.0.1": "a link-local address",
    }
    assert "NXDOMAIN" in gone["problem"]
    assert itself["problem"] == "this relay itself"
    assert behind["problem"].startswith("not better")
    assert facts["way"]["name"] == "a.test,gone.test"
    assert [one["fits"] for one in facts["routes"]] == [False, False]
    assert "none was named" in facts["routes"][0]["why"]
    assert not named.events(events.Attempt)


@pytest.mark.parametrize(
    ("domain", "lost", "final"),
    [
        ("null.test", "556 5.1.10", True),
        ("loop.test", "554 5.4.6", True),
        ("none.test", "550 5.1.2", True),
    ],
)
async def test_no_way(named: RunningRelay, domain: str, lost: str, final: bool) -> None:
    facts = await way(named, f"a%40{domain}")
    assert facts["lost"].startswith(lost)
    assert (facts["final"], facts["way"]) == (final, None)


async def test_a_question_to_dns_that_failed_is_told(tmp_path: Path) -> None:
    zone: Zone = {"half.test": {"A": ["127.0.0.2"], "AAAA": ["::ffff:169.254.0.1"]}}
    async with DnsServer(zone) as names, relay(tmp_path, nameservers=[names.address], admin=True) as running:
        names.rcodes["half.test/A"] = dns.rcode.SERVFAIL
        status, answer = await ask(running, "/api/v1/route?address=a%40half.test")
        assert status == 200
        [host] = answer["facts"]["hosts"]
        assert (host["unanswered"], host["problem"]) == ("IPv4: SERVFAIL", "")
        assert "a question to DNS failed (IPv4: SERVFAIL)" in " ".join(answer["text"].split())


async def test_where_more_hosts_than_an_attempt_tries_are_named_the_last_ones_say_when(
    tmp_path: Path,
) -> None:
    zone: Zone = {
        "many.test": {"MX": ["10 a.many.test.", "20 b.many.test.", "30 c.many.test."]},
        **{
            f"{host}.many.test": {"A": [f"127.0.{number}.{one}" for one in range(1, 7)]}
            for number, host in enumerate("abc", 1)
        },
    }
    async with DnsServer(zone) as names, relay(tmp_path, nameservers=[names.address], admin=True) as running:
        first, _, third = (await way(running, "a%40many.test"))["hosts"]
    enough = "enough others come before it"
    assert [one["refused"] for one in first["addresses"]] == [""] * 5 + [enough]
    until = f"{enough}, until they are known to be dead"
    assert [one["refused"] for one in third["addresses"]] == [until] * 5 + [enough]


async def test_without_mx_the_domain_itself_is_the_host(named: RunningRelay) -> None:
    facts = await way(named, "a%40alone.test")
    assert facts["implicit"]
    assert [one["name"] for one in facts["hosts"]] == ["alone.test"]


async def test_a_route_for_the_sender_outweighs(named: RunningRelay) -> None:
    facts = await way(named, "a%40z.test&from=x%40origin.test")
    assert [(one["route"], one["fits"]) for one in facts["routes"]] == [
        ("from origin.test to *", True),
        ("from * to z.test", True),
    ]
    assert "outweighed" in facts["routes"][1]["why"]
    assert facts["way"]["smarthost"] and facts["hosts"][0]["port"] == 2599
    assert (await way(named, "a%40z.test&from=%3C%3E"))["routes"][0]["route"] == "from * to z.test"


@pytest.mark.parametrize("domain", ["%5B127.0.0.1%5D", "%5BIPv6%3A%3A%3A1%5D"])
async def test_no_way_is_told_for_what_the_door_refuses(tmp_path: Path, domain: str) -> None:
    """A smarthost would take it, but no client may hand it in."""
    async with Sink() as sink, relay(tmp_path, routes=[via(sink.address)], admin=True) as running:
        status, answer = await ask(running, f"/api/v1/route?address=joe%40{domain}")
        assert (status, answer) == (400, {"error": "address: 550 5.1.2 Address literals are not accepted"})


@pytest.mark.parametrize(
    "asked", ["", "address=", "address=x", "address=%40y.test", "address=a%40y.test&from=x"]
)
async def test_what_is_no_address_is_refused(named: RunningRelay, asked: str) -> None:
    assert (await ask(named, f"/api/v1/route?{asked}"))[0] == 400
