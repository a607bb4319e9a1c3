"""Mail that is to leave later, among peers: nothing goes before its time, and its life begins then."""

from tests.sim import habits
from tests.sim.harness import Simulation, simulate
from tests.sim.traffic import Post

from backstamp.mail.reply import Reply

HOUR = 3600.0
DAY = 24 * HOUR
FULL = Reply(452, "4.2.2 mailbox full")


def test_rfc_4865_mail_that_waited_longer_than_a_lifetime_is_tried_for_a_whole_one() -> None:
    """RFC 4865: five days of tries begin when it may leave; a report tells what was asked for."""

    async def test(sim: Simulation) -> None:
        sim.world.simple("later.example", habits.Greylist(300))
        sim.world.simple("full.example", habits.Refuses(FULL, share=1.0))
        sim.world.simple("tenant.example")
        async with sim.running():
            later = await sim.hand_in(Post(0.0, (b"a@later.example",), hold=6 * DAY))
            full = await sim.hand_in(Post(0.0, (b"a@full.example",), hold=6 * DAY))
            assert not await sim.empty(within=6 * DAY - 2)
            assert not sim.counts["deferred"] + sim.counts["delivered"] + sim.counts["failed"]
            assert not await sim.empty(within=5 * DAY - HOUR)
            assert 0 < sim.delivered[later, "a@later.example"] - 6 * DAY < HOUR
            assert sim.percentile(b"tenant.example", 1.0) < HOUR
            assert (full, "a@full.example") not in sim.failed
            assert await sim.empty(within=DAY)
            assert "5.4.7" in sim.failed[full, "a@full.example"]
            assert (full, "a@full.example") in sim.reported
        assert await sim.verdict() == []

    simulate(test)
