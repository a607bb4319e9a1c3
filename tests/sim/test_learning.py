"""What hosts say about their limits is learned: they are asked for no more, and for no less."""

from tests.sim import habits, traffic
from tests.sim.harness import Simulation, simulate

from backstamp.policy.destination import DestinationPolicy, PolicyTable

COUNT = 20_000


async def throughput(sim: Simulation, *manners: habits.Habit) -> tuple[float, float]:
    """Send a mailing; return the seconds of its second half, and the share of 421 in it."""
    peer = sim.world.simple("d.example", *manners)
    async with sim.running():
        await sim.feed(traffic.mailing(traffic.people(COUNT, "d.example")))
        while len(sim.delivered) < COUNT // 2:
            await sim.feed([traffic.Post(sim.loop.time() + 1.0, (b"tick@d.example",))])
        began, refused, asked = sim.loop.time(), peer.codes[421], len(peer.connections) + len(peer.mails)
        assert await sim.empty(within=86400)
    assert await sim.verdict() == []
    asked = len(peer.connections) + len(peer.mails) - asked
    return sim.loop.time() - began, (peer.codes[421] - refused) / asked


def test_421_above_five_connections_is_learned() -> None:
    five = PolicyTable(DestinationPolicy(connections=5))
    ideal, _ = simulate(throughput, policies=five)
    needed, refused = simulate(lambda sim: throughput(sim, habits.MaxConnections(5)))
    assert refused < 0.01
    assert needed <= ideal / 0.9


def test_messages_per_connection_are_learned() -> None:
    free, _ = simulate(throughput)
    needed, refused = simulate(lambda sim: throughput(sim, habits.MessagesPerConnection(20)))
    assert refused < 0.01
    assert needed <= free / 0.8
