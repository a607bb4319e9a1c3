"""Peers hold who talks to them to what was promised."""

import asyncio

from tests.sim.client import Client, in_a_world
from tests.sim.promise import Limits, Promise
from tests.sim.world import World

from backstamp.policy.destination import Rate


@in_a_world
async def test_broken_promises_are_written_down(world: World) -> None:
    promise = Promise(connections=1, recipients=2, messages_per_connection=2)
    talker = Client(world.simple("d.example", promises=[promise]))
    session = await talker.session()
    await talker.send(session, b"a@d.example", b"b@d.example")
    await talker.send(session)
    assert not world.violations()
    await talker.send(session, b"a@d.example", b"b@d.example", b"c@d.example")
    await talker.session()
    assert promise.most == 2
    assert [line.partition(": ")[2] for line in world.violations()] == [
        "3 recipients, 2 promised",
        "message 3 of a connection, 2 promised",
        "2 connections, 1 promised",
    ]


@in_a_world
async def test_a_race_counts_for_the_promise_from_its_begin(world: World) -> None:
    promise = Promise(connections=1)
    first, second = world.host("two.example", promises=[promise], addresses=2)
    await asyncio.gather(Client(first).dial(), Client(second).dial())
    assert promise.most == 2
    assert world.violations()


def test_windows_are_half_open() -> None:
    promise = Promise(message_rate=Rate(2, 10))
    for now in (0.0, 1.0, 10.0, 11.0, 20.0, 21.0):
        promise.sent(now, "", 1, 1)
    assert not promise.violations
    promise.sent(29.9, "", 1, 1)
    assert promise.violations == ["second 29.900000: 3 messages within 9.900000 s, 2 in 10 s promised"]


def test_each_source_may_have_a_promise_of_its_own() -> None:
    promise = Promise(connections=1, connection_rate=Rate(1, 60), by_source=True)
    promise.dialled(0.0, "192.0.2.1")
    promise.dialled(0.0, "192.0.2.2")
    assert not promise.violations
    promise.ended("192.0.2.1")
    promise.dialled(59.0, "192.0.2.1")
    assert promise.violations == [
        "second 59.000000: 2 connections within 59.000000 s, 1 in 60 s promised (from 192.0.2.1)"
    ]


def test_while_one_promise_follows_another_the_weaker_holds() -> None:
    promise = Promise(connections=2, message_rate=Rate(1, 10))
    promise.change(Limits(connections=1, message_rate=Rate(1, 60)), since=100.0)
    promise.dialled(0.0, "")
    promise.dialled(0.0, "")
    promise.sent(80.0, "", 1, 1)
    promise.sent(90.0, "", 1, 1)
    assert not promise.violations
    # What went before counts no more.
    promise.sent(100.0, "", 1, 1)
    assert not promise.violations
    promise.sent(159.0, "", 1, 1)
    promise.dialled(159.0, "")
    assert [line.partition(": ")[2] for line in promise.violations] == [
        "2 messages within 59.000000 s, 1 in 60 s promised",
        "3 connections, 1 promised",
    ]


def test_a_rate_that_is_used_up_is_counted() -> None:
    promise = Promise(message_rate=Rate(1, 10))
    for now in (0.0, 20.0, 30.1):
        promise.sent(now, "", 1, 1)
    assert promise.tight == 1
