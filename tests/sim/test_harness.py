"""The verdict sees every kind of wrong, and nothing where all is well."""

import asyncio
import re
from collections.abc import Callable

import pytest
from tests.sim import habits
from tests.sim.harness import Simulation, simulate
from tests.sim.promise import Promise
from tests.sim.traffic import Post

from backstamp.policy.destination import DestinationPolicy, PolicyTable, Rate
from backstamp.queue.stamps import Stamp

POST = Post(0.0, (b"a@d.example", b"b@d.example"))


async def a_day(sim: Simulation, *manners: habits.Habit) -> str:
    """Send one message; return its queue id."""
    sim.world.simple("d.example", *manners, promises=[Promise(recipients=1)])
    async with sim.running():
        queue_id = await sim.hand_in(POST)
        await sim.empty(within=86400)
    return queue_id


async def wrong(sim: Simulation) -> str:
    """Return the verdict without the promise that `a_day` breaks."""
    lines = await sim.verdict()
    assert re.fullmatch(r"broken promise: second .*: 2 recipients, 1 promised", lines[0])
    return "\n".join(lines[1:])


def test_a_broken_promise_is_told_and_the_rest_was_well() -> None:
    async def test(sim: Simulation) -> str:
        queue_id = await a_day(sim)
        assert sim.delay(queue_id) < 1
        return await wrong(sim)

    assert simulate(test) == ""


def test_who_waits_is_not_lost() -> None:
    async def test(sim: Simulation) -> str:
        sim.world.simple("d.example", habits.Dead())
        async with sim.running():
            await sim.hand_in(POST)
            assert not await sim.empty(within=3600)
        return "\n".join(await sim.verdict())

    assert simulate(test) == ""


@pytest.mark.parametrize("told", ["delivered", "reported"])
def test_who_is_nowhere_or_has_two_fates_is_told(told: str) -> None:
    async def test(sim: Simulation) -> str:
        queue_id = await a_day(sim)
        if told == "delivered":
            del sim.delivered[queue_id, "a@d.example"]
        else:
            sim.reported.add((queue_id, "a@d.example"))
        return await wrong(sim)

    found = simulate(test)
    assert "not exactly one of" in found
    assert "a@d.example" in found
    assert "b@d.example" not in found


def test_what_a_queue_forgets_is_told() -> None:
    async def test(sim: Simulation) -> str:
        sim.world.simple("d.example", habits.Dead())
        async with sim.running():
            queue_id = await sim.hand_in(POST)
            await sim.empty(within=30)
            [entry] = [entry for entry in sim.queue.segments()[0].entries if entry is not None]
            sim.queue.mark(entry, {0: Stamp.REMOVED, 1: Stamp.REMOVED})
        assert queue_id in sim.posts
        return "\n".join(await sim.verdict())

    assert simulate(test).count("not exactly one of") == 2


def test_a_lie_is_told() -> None:
    async def test(sim: Simulation) -> str:
        queue_id = await a_day(sim)
        _, name = sim.posts[queue_id]
        sim.world.taken[name, b"b@d.example"] = False
        return await wrong(sim)

    assert "said to be delivered and is not" in simulate(test)


def test_a_second_copy_is_told() -> None:
    async def test(sim: Simulation) -> str:
        queue_id = await a_day(sim)
        [peer] = sim.world.peers.values()
        sim.world.take(peer, sim.posts[queue_id][1], [b"a@d.example"], acknowledged=False)
        return await wrong(sim)

    assert simulate(test) == "sent again: Message-ID: <0@sim.example> to a@d.example"


def test_an_alarm_is_told() -> None:
    async def test(sim: Simulation) -> str:
        sim.world.domain("d.example", "mx.d.example")
        sim.world.hosts["mx.d.example"] = sim.world.host("other.example")
        sim.world.peers.clear()
        async with sim.running():
            await sim.hand_in(POST)
            await sim.empty(within=10)
        return "\n".join(await sim.verdict())

    assert simulate(test).startswith("alarm: opening a session broke: KeyError")


def test_percentiles() -> None:
    async def test(sim: Simulation) -> list[float]:
        sim.world.simple("d.example", habits.Greylist(30, ("recipient",)))
        async with sim.running():
            for number in range(100):
                await sim.feed([Post(10.0 * number, (b"u%d@d.example" % (number // 2),))])
            assert await sim.empty(within=3600)
        return [sim.percentile(b"tenant.example", share) for share in (0.0, 0.5, 1.0)]

    least, middle, most = simulate(test)
    assert 50 < least <= middle <= most < 75


def spoil_count(sim: Simulation) -> None:
    next(iter(sim.dispatcher._sorter.lanes.values())).coming += 1


def spoil_permit(sim: Simulation) -> None:
    sim.dispatcher._throttles.all.held += 1


def spoil_throttle(sim: Simulation) -> None:
    sim.dispatcher._throttles.known.clear()


def spoil_timer(sim: Simulation) -> None:
    for timer in sim.dispatcher._timers.values():
        timer.cancel()
    sim.dispatcher._timers.clear()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_count, "mx.d.example: coming counted 1, there are 0"),
        (spoil_permit, "all: held counted 1, there are 0"),
        (spoil_throttle, "mx.d.example has a throttle of its own that others do not see"),
        (spoil_timer, "mx.d.example: 1 wait for nobody"),
    ],
)
def test_books_that_are_wrong_are_told(spoil: Callable[[Simulation], None], told: str) -> None:
    """A second message waits for the rate of its destination: its lane has a timer and nobody at work."""

    async def test(sim: Simulation) -> str:
        sim.world.simple("d.example")
        async with sim.running():
            await sim.hand_in(POST)
            await sim.hand_in(POST)
            await asyncio.sleep(60)
            assert not sim.unbalanced
            spoil(sim)
            await asyncio.sleep(60)
        return "\n".join(await sim.verdict())

    policies = PolicyTable(DestinationPolicy(message_rate=Rate(1, 600.0)))
    assert told in simulate(test, policies=policies, looks=5.0)


def test_what_is_left_when_all_is_done_is_told() -> None:
    async def test(sim: Simulation) -> list[str]:
        sim.world.simple("d.example")
        async with sim.running():
            await sim.hand_in(POST)
            assert await sim.empty(within=60)
            assert await sim.idle() == []
            sim.dispatcher._throttles.all.held += 1
            found = await sim.idle()
            sim.dispatcher._throttles.all.held -= 1
        return found

    assert simulate(test) == ["permits are left: 1"]
