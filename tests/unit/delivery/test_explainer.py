"""What is gathered about a message: from the queue's ledger, the history and the books."""

from typing import Any

from tests.support.queues import TestClock, message

from backstamp.delivery import explain
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.explainer import BOUND, Explainer, _step
from backstamp.delivery.facts import State
from backstamp.delivery.history import Heard, Past
from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Tables
from backstamp.delivery.tell import Teller
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchanger, Exchangers
from backstamp.policy.retry import RetryPolicy
from backstamp.queue import ids
from backstamp.queue.memory import MemoryQueue
from backstamp.queue.port import Flag, Message, Reason
from backstamp.queue.stamps import Stamp
from backstamp.queue.views import LedgerView


class Names:
    """Every domain is its own host; `lost.test` is not to be found now."""

    async def exchangers(self, domain: str) -> Exchangers | DnsFault:
        if domain == "lost.test":
            return DnsFault(DnsProblem.SERVER_FAILURE, domain)
        return Exchangers((Exchanger(0, domain),))

    async def addresses(self, host: str) -> Addresses:
        return Addresses(("127.0.0.1",))


class World:
    """A queue in memory, and a dispatcher that does not run."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.clock.advance(1000.0)
        self.queue = MemoryQueue(clock=self.clock, emit=self.emit)
        self.dispatcher = Dispatcher(
            self.queue,
            None,  # type: ignore[arg-type]  # nobody is connected to
            Names(),
            tables=Tables(),
            reporter=Reporter(self.queue, hostname="r", clock=self.clock, entropy=bytes, emit=self.emit),
            clock=self.clock,
            chance=lambda: 0.0,
            tell=Teller(self.emit, self.clock, trace=False),
            hostname="r",
        )
        self.view = LedgerView(self.queue, self.emit)
        self.explainer = Explainer(self.view, self.dispatcher, self.clock, lambda: None)

    def emit(self, event: object) -> None:
        """Nobody listens."""

    async def explain(self, mail: Message, recipient: str = "") -> Any:
        facts = await self.explainer.explain(ids.text(mail.queue_id), recipient)
        assert facts is not None
        assert explain.text(facts)
        return facts


async def test_a_failure_whose_report_is_owed_has_its_reason() -> None:
    world = World()
    mail = message(b"a@y.test", b"b@z.test")
    await world.queue.append(mail)
    first, _ = await world.queue.claim(9)
    reason = Reason((0,), Reply(550, "5.1.1 no such user"), "mx[127.0.0.1]:25", int(world.clock.wall() * 1e6))
    await world.queue.stamp(first, {0: Stamp.FAILED}, [reason])
    world.queue.give_back(first, 0.0)
    owed, other = (await world.explain(mail)).destinations
    assert (owed.state, [one.reply for one in owed.failures]) == (State.REPORT, ["550 5.1.1 no such user"])
    assert other.domain == "z.test" and other.state is State.DUE


async def test_what_waits_for_its_time_says_by_which_wait() -> None:
    world = World()
    mail = message(b"a@y.test", arrival=world.clock.wall() - 10)
    await world.queue.append(mail)
    [claim] = await world.queue.claim(9)
    load = await world.queue.load([claim])
    outcome = Outcome(Verdict.DEFERRED, Reply(450, "4.7.1 greylisted, try again in 300 seconds"), host="mx")
    world.dispatcher.history.note(
        mail.queue_id, load.recipients, {0: outcome}, attempt=1, now=world.clock.wall()
    )
    world.queue.give_back(claim, world.clock.wall() + 300)
    [found] = (await world.explain(mail)).destinations
    assert found.state is State.SCHEDULED
    assert found.next_try == world.clock.wall() + 300
    assert found.expires == mail.arrival / 1e6 + 5 * 86400
    assert (found.step.number, found.step.of, found.step.wait, found.step.asked) == (1, 7, 60, 300)
    assert found.step.cut is None
    world.clock.advance(301)
    [found] = (await world.explain(mail)).destinations
    assert (found.state, found.next_try) == (State.DUE, None)


async def test_at_most_once_mail_in_doubt_is_held() -> None:
    world = World()
    mail = message(b"a@y.test", flags=Flag.AT_MOST_ONCE)
    await world.queue.append(mail)
    [claim] = await world.queue.claim(9)
    await world.queue.load([claim])
    doubt = world.queue.doubt(claim, [0])
    assert doubt is not None
    await doubt
    outcome = Outcome(Verdict.DEFERRED, Reply(450, "4.4.2 no reply"), host="mx[127.0.0.1]:25")
    people = {0: Recipient(b"a@y.test")}
    world.dispatcher.history.note(mail.queue_id, people, {0: outcome}, attempt=1, now=world.clock.wall())
    world.queue.give_back(claim, 0.0)
    facts = await world.explain(mail)
    [found] = facts.destinations
    assert found.state is State.HELD and facts.at_most_once
    assert "In doubt, and held" in explain.text(facts)


async def test_a_domain_that_leads_nowhere_now() -> None:
    world = World()
    mail = message(b"a@lost.test")
    await world.queue.append(mail)
    [found] = (await world.explain(mail)).destinations
    assert found.lost.startswith("451 4.4.3") and found.way is None


async def test_of_many_destinations_some_are_explained_and_each_can_be_asked_for() -> None:
    world = World()
    mail = message(*(b"a@d%d.test" % number for number in range(BOUND + 5)))
    await world.queue.append(mail)
    facts = await world.explain(mail)
    assert (len(facts.destinations), facts.hidden) == (BOUND, 5)
    [found] = (await world.explain(mail, "a@d24.test")).destinations
    assert found.domain == "d24.test"


async def test_what_is_not_queued() -> None:
    world = World()
    assert await world.explainer.explain("0" * 26) is None


async def test_rfc_4865_mail_waits_because_its_sender_asked_and_ends_later() -> None:
    """RFC 4865: the explanation names the sender's wish, and the lifetime counts from then."""
    world = World()
    mail = message(b"a@y.test", parameters=b"HOLDUNTIL=2027-02-15T08:00:00Z", arrival=world.clock.wall())
    await world.queue.append(mail)
    facts = await world.explain(mail)
    [found] = facts.destinations
    assert (found.state, found.next_try) == (State.SCHEDULED, facts.release)
    assert found.expires == facts.release + 5 * 86400
    assert "Its sender asked that it waits until 2027-02-15 08:00 UTC" in explain.text(facts)

    world.queue.hurry(world.queue.find(mail.queue_id), [0])  # type: ignore[arg-type]
    [claim] = await world.queue.claim(9)
    load = await world.queue.load([claim])
    outcome = Outcome(Verdict.DEFERRED, Reply(450, "4.7.1 greylisted"), host="mx")
    world.dispatcher.history.note(
        mail.queue_id, load.recipients, {0: outcome}, attempt=1, now=world.clock.wall()
    )
    world.queue.give_back(claim, facts.release)
    [found] = (await world.explain(mail)).destinations
    assert (found.next_try, found.step) == (facts.release, None)


def test_what_a_reply_asks_for_is_told_though_the_schedule_waits_less() -> None:
    said = Heard(Reply(450, "4.7.1 try again in 2 hours"), "mx", "greylist", False, 1, 10.0, 10.0, 1)
    step = _step(RetryPolicy((60.0, 300.0)), Past(10.0, 10.0, (said,)), 0.0)
    assert step is not None
    assert (step.asked, step.cut) == (7200, 300)
