"""Mail that must come at most once: in doubt it is held, and an operator decides."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.scenarios.test_peers_on_bad_days import Pair, pair
from tests.support.door import door
from tests.support.queues import local_queue, message
from tests.support.relay import relay

from backstamp.policy.route import NextHop, Route, Smarthost
from backstamp.queue import operations
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import Flag
from backstamp.queue.stamps import Stamp
from backstamp.telemetry import events

__all__ = ["pair"]

ONCE = "Backstamp-Semantics: at-most-once\r\n"


async def test_without_a_reply_to_the_dot_it_is_held_and_never_sent_again(pair: Pair) -> None:
    pair.script.do("DOT", close=True, times=1)
    await pair.send(content=f"{ONCE}Subject: x\r\n\r\nx\r\n")
    await pair.running.until(events.Held)
    queue = pair.running.relay.queue
    while queue.ledger.claimed:
        await asyncio.sleep(0.01)
    [entry] = await queue.oldest(10, b"")
    assert entry.stamp(0) is Stamp.HELD
    assert not queue.ledger.scheduled()
    assert not pair.told(events.Delivered)
    await operations.act(queue, "release", entry, [0])
    await pair.running.until(events.Delivered)


async def test_a_refusal_of_the_content_is_no_doubt(pair: Pair) -> None:
    pair.script.do("DOT", octets=b"451 4.3.0 later\r\n", times=1)
    await pair.send(content=f"{ONCE}Subject: x\r\n\r\nx\r\n")
    await pair.running.until(events.Delivered)
    assert not pair.told(events.Held)


@pytest.mark.parametrize(
    ("header", "changes", "flag"),
    [
        ("", {}, Flag.NONE),
        (ONCE, {}, Flag.AT_MOST_ONCE),
        ("backstamp-semantics :  At-Most-Once \r\n", {}, Flag.AT_MOST_ONCE),
        ("", {"at_most_once": True}, Flag.AT_MOST_ONCE),
        ("Backstamp-Semantics: at-least-once\r\n", {"at_most_once": True}, Flag.NONE),
    ],
)
async def test_who_asks_for_it(header: str, changes: dict[str, Any], flag: Flag) -> None:
    async with door(**changes) as here:
        await here.talk(wire(f"{header}Subject: x\r\n\r\nx\r\n"))
        [queued] = here.queue.messages
        assert queued.flags is flag
        assert header.encode() in queued.content


async def test_an_unknown_wish_is_refused() -> None:
    async with door() as here:
        answer = await here.talk(wire("Backstamp-Semantics: exactly-once\r\n\r\nx\r\n"))
        assert b"\r\n554 5.6.0 Backstamp-Semantics is neither" in answer
        assert not here.queue.messages


async def test_a_route_asks_for_it(tmp_path: Path) -> None:
    hop = Smarthost((NextHop("127.0.0.1", 9),))
    routes = [Route("once.test", hop, at_most_once=True), Route("*", hop)]
    async with relay(tmp_path, routes=routes) as running:
        asked = running.relay._at_most_once
        assert asked(message(b"a@y.test", b"b@once.test").envelope)
        assert not asked(message(b"a@y.test").envelope)


async def once(root: Path) -> LocalQueue:
    """Return a queue with a message for two, of whom the first is in doubt, as a kill leaves it."""
    queue = await local_queue(root)
    await queue.append(message(b"a@y.example", b"b@z.example", flags=Flag.AT_MOST_ONCE))
    claims = {claim.domain: claim for claim in await queue.claim(9)}
    load = await queue.load([claims[b"y.example"]])
    assert list(load.recipients) == [0]
    permit = queue.doubt(claims[b"y.example"], [0])
    assert permit is not None
    await permit
    return queue


async def test_after_a_crash_who_is_in_doubt_is_held(tmp_path: Path) -> None:
    running = await once(tmp_path / "q")
    shutil.copytree(tmp_path / "q", tmp_path / "crashed")
    await running.close()
    for _ in range(2):
        told: list[events.Event] = []
        queue = await local_queue(tmp_path / "crashed", told)
        [entry] = await queue.oldest(10, b"")
        assert [entry.stamp(ordinal) for ordinal in range(2)] == [Stamp.HELD, Stamp.TODO]
        assert [claim.domain for claim in queue.ledger.scheduled()] == [b"z.example"]
        await queue.close()
    queue = await local_queue(tmp_path / "crashed")
    [entry] = await queue.oldest(10, b"")
    assert await operations.act(queue, "remove", entry, [0, 1]) == (0, 1)
    assert queue.ledger.messages == 0
    await queue.close()


def wire(content: str) -> bytes:
    return (
        "EHLO c.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"
        f"{content}.\r\nQUIT\r\n"
    ).encode()
