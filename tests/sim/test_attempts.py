"""One attempt: the next host is tried at once, and so is what a host only had no room for."""

import pytest
from tests.sim import habits, traffic
from tests.sim.habits import Answer, Cut, Visit
from tests.sim.harness import Simulation, simulate

from backstamp.mail.reply import Reply


class CutsFirst(habits.Habit):
    """Closes the first `count` transactions before the final dot."""

    def __init__(self, count: int) -> None:
        self._left = count

    def data(self, visit: Visit) -> Answer:
        self._left -= 1
        return Cut.CLOSED if self._left >= 0 else None


@pytest.mark.parametrize(
    "trouble",
    [
        habits.Dead(),
        habits.Dead(silent=True),
        habits.MaxConnections(0),
        habits.Blocks(Reply(421, "4.3.2 shutting down")),
    ],
    ids=["refused", "silent", "421 for a greeting", "421 to MAIL"],
)
def test_at_least_two_hosts_are_tried(trouble: habits.Habit) -> None:
    async def test(sim: Simulation) -> None:
        sim.world.domain("d.example", "one.example", "two.example")
        sim.world.host("one.example", trouble)
        sim.world.host("two.example")
        async with sim.running():
            await sim.feed(traffic.mailing([b"u@d.example"]))
            assert await sim.empty(within=50)
        assert await sim.verdict() == []
        assert sim.counts["deferred"] == 0

    simulate(test)


def test_a_connection_cut_before_the_dot_is_tried_again_at_once() -> None:
    async def test(sim: Simulation) -> None:
        sim.world.simple("d.example", CutsFirst(1))
        async with sim.running():
            await sim.feed(traffic.mailing([b"u@d.example"]))
            assert await sim.empty(within=5)
        assert await sim.verdict() == []
        assert sim.counts["deferred"] == 0

    simulate(test)


def test_who_was_too_many_goes_at_once() -> None:
    async def test(sim: Simulation) -> None:
        peer = sim.world.simple("d.example", habits.RecipientsPerTransaction(10))
        async with sim.running():
            await sim.feed(traffic.mailing(traffic.people(100, "d.example"), each=100))
            assert await sim.empty(within=10)
        assert await sim.verdict() == []
        assert sim.counts["deferred"] == 0
        assert len(peer.connections) <= 5

    simulate(test)
