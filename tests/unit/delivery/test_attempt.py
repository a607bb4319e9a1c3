"""Attempts, on virtual time: one job, its transactions and hosts, and what the queue knows afterwards."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from tests.sim.virtual import run
from tests.support.attempts import (
    OK,
    TOO_MANY,
    D,
    Dotting,
    F,
    H,
    Q,
    Session,
    Settled,
    T,
    World,
    answering,
    at_most,
    breaks,
    is_a_bug,
    people,
    takes,
    vanishes,
)
from tests.support.queues import message

from backstamp.delivery.attempt import RETURNS
from backstamp.delivery.lane import Job
from backstamp.delivery.opening import Slot
from backstamp.delivery.outside import Candidate, Manner
from backstamp.delivery.tries import Tries
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result, Transaction
from backstamp.policy import classify
from backstamp.policy.destination import Rate, Tls
from backstamp.policy.suppression import Match
from backstamp.policy.suppression import Source as Origin
from backstamp.queue.port import DamagedError, Flag, StampNotDurableError
from backstamp.telemetry import events

MATCH = Match("invalid-recipient", Origin.BOUNCE, None)


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a virtual loop of its own."""

    def wrapped() -> None:
        run(lambda _: test())

    wrapped.__name__ = test.__name__
    return wrapped


# ---- delivered ----


@virtually
async def test_what_is_delivered_is_stamped_told_and_given_back() -> None:
    world = World()
    await world.post(*people(2))
    slot = await world.work()
    assert world.kinds() == {"Delivered": 2}
    assert world.queue.ledger.messages == 0
    assert world.balanced()
    assert (slot.sent, slot.turns, world.lane.sessions, world.closed) == (1, 1, 1, 0)
    # The session is used again.
    await world.post(*people(1))
    await world.work(slot)
    assert (slot.sent, world.dialled) == (2, ["mx"])


@virtually
async def test_deliveries_of_one_message_go_in_one_transaction() -> None:
    world = World()
    await world.post(*people(2, "a.example"), *people(2, "b.example"))
    await world.work()
    assert [len(who) for _, who in world.transactions] == [4]
    assert len(world.given_back) == 2
    assert world.balanced()


@virtually
async def test_a_message_waits_for_its_rate_after_its_session_is_open() -> None:
    world = World(message_rate=Rate(1, 50.0))
    for _ in range(2):
        await world.post(*people(1))
    await world.work()
    first, second = [event.time / 1e6 for event in world.told(events.Delivered)]
    assert second - first == pytest.approx(50.0)
    assert world.balanced()


@virtually
async def test_who_asked_is_told_that_it_was_relayed() -> None:
    world = World()
    sent = message(b"a@d.example", arrival=world.clock.wall())
    [recipient] = sent.envelope.recipients
    asked = type(recipient)(recipient.address, b"NOTIFY=SUCCESS")
    envelope = type(sent.envelope)(sent.envelope.sender, (asked,))
    await world.queue.append(type(sent)(sent.queue_id, sent.arrival, envelope, sent.content))
    [claim] = await world.queue.claim(1)
    world.lane.offer(claim)
    await world.work()
    assert world.relayed == [0]


# ---- several transactions ----


@virtually
async def test_those_a_host_has_no_room_for_go_at_once() -> None:
    world = World()
    world.habits["mx"] = [at_most(2)]
    await world.post(*people(5))
    await world.work()
    assert [len(who) for _, who in world.transactions] == [5, 2, 1]
    assert world.kinds() == {"Delivered": 5, "Throttled": 1}
    assert world.lane.recipients == 2
    assert world.dialled == ["mx"]
    assert world.kicked >= 2
    assert len(world.given_back) == 1
    assert world.balanced()


@virtually
async def test_a_host_without_room_for_anybody_is_asked_later() -> None:
    world = World()
    world.habits["mx"] = [answering(TOO_MANY)]
    queue_id = await world.post(*people(1))
    await world.work()
    assert len(world.transactions) == 1
    assert world.kinds() == {"Deferred": 1}
    assert world.stamps(queue_id) == [T]
    assert world.due == [60.0]


@virtually
async def test_450_is_for_later_and_others_are_not_held_up() -> None:
    world = World("mx", "other")
    world.habits["mx"] = [answering(OK, Reply(450, "4.2.0 greylisted"), Reply(550, "5.1.1 unknown"))]
    queue_id = await world.post(*people(3))
    await world.work()
    assert world.kinds() == {"Delivered": 1, "Deferred": 1, "Failed": 1}
    assert world.stamps(queue_id) == [D, T, F]
    assert [host for host, _ in world.transactions] == ["mx"]
    assert world.balanced()


@virtually
async def test_a_job_is_given_back_when_the_last_transaction_ends() -> None:
    world = World(recipients_per_transaction=2)
    world.habits["mx"] = [
        answering(OK, OK, seconds=9.0),
        answering(OK, Reply(450, "4.2.0 later")),
        answering(OK, seconds=5.0),
    ]
    queue_id = await world.post(*people(5))
    job = world.take()
    first = asyncio.ensure_future(world.attempter.run(job, world.lane, Slot(world.lane)))
    await asyncio.sleep(0.5)
    for _ in range(2):
        # Each transaction lets what is left wait for its turn at once.
        assert world.take() is job
        await asyncio.sleep(0)
        others = asyncio.ensure_future(world.attempter.run(job, world.lane, Slot(world.lane)))
        await asyncio.sleep(0.1)
    assert job.out == 3
    await others
    assert (job.out, world.given_back) == (1, [])
    await first
    assert world.stamps(queue_id) == [D, D, D, T, D]
    assert (job.out, job.claims) == (0, [])
    # A minute after the one that was deferred, not after the one that took long.
    assert world.due == [pytest.approx(60.0 - 7.5, abs=0.2)]
    assert world.balanced()


# ---- pauses ----


@virtually
async def test_who_was_not_asked_before_a_pause_began_waits_for_its_end() -> None:
    """While a message was read its session ended, and the host told another session to come later."""
    world = World()
    await world.post(*people(1))
    slot = await world.work()
    assert slot.session is not None
    queue_id = await world.post(*people(1))
    slot.session.usable = False
    [throttle] = world.lane.throttles
    throttle.pause(world.clock.monotonic(), 300.0, "421 come back in five minutes")
    await world.attempter.run(world.take(), world.lane, slot)
    assert world.kinds() == {"Delivered": 1}
    assert (len(world.lane.turns), world.stamps(queue_id)) == (1, [T])
    await asyncio.sleep(300.0)
    await world.work(slot)
    assert world.kinds() == {"Delivered": 2}
    assert world.balanced()


# ---- hosts ----


@virtually
async def test_those_a_failing_host_did_not_answer_for_go_to_the_next() -> None:
    world = World("one", "two")
    closing = Reply(421, "4.3.2 closing")
    world.habits["one"] = [answering(Reply(550, "5.1.1 unknown"), OK, OK, final=closing)]
    queue_id = await world.post(*people(3))
    await world.work()
    assert world.transactions[1] == ("two", ["1@d.example", "2@d.example"])
    assert world.stamps(queue_id) == [F, D, D]
    assert world.balanced()


@virtually
async def test_a_host_that_breaks_off_before_the_dot_is_tried_once_more() -> None:
    world = World()
    world.habits["mx"] = [breaks, takes]
    await world.post(*people(1))
    await world.work()
    assert world.kinds() == {"Delivered": 1}
    assert world.dialled == ["mx", "mx"]
    assert world.balanced()


@virtually
async def test_but_not_twice() -> None:
    world = World()
    world.habits["mx"] = [breaks]
    queue_id = await world.post(*people(2))
    await world.work()
    assert world.dialled == ["mx", "mx"]
    assert world.kinds() == {"Deferred": 2}
    assert world.stamps(queue_id) == [T, T]
    assert world.balanced()


@virtually
async def test_other_hosts_come_before_the_one_that_broke_off() -> None:
    world = World("one", "two")
    world.habits["one"] = [breaks]
    await world.post(*people(1))
    await world.work()
    assert world.dialled == ["one", "two"]
    assert world.kinds() == {"Delivered": 1}


@virtually
async def test_without_hosts_mail_fails_as_without_addresses() -> None:
    world = World()
    world.hosts = ()
    queue_id = await world.post(*people(1))
    await world.work()
    assert world.stamps(queue_id) == [F]
    assert "5.4.4" in world.told(events.Failed)[0].reply


@virtually
async def test_what_a_host_cannot_take_fails_without_a_transaction() -> None:
    world = World()
    world.extensions = {}
    eight_bit = b"Subject: x\r\n\r\n\xfc\r\n"
    queue_id = await world.post(*people(1), content=eight_bit, parameters=b"BODY=8BITMIME")
    slot = await world.work()
    assert (world.transactions, world.stamps(queue_id)) == ([], [F])
    assert slot.session is not None
    assert world.balanced()


def promising(world: World, *hosts: str) -> None:
    """Let these hosts offer REQUIRETLS."""
    plainly = world.open

    async def opened(wire: str, candidate: Candidate, manner: Manner) -> Session:
        session = await plainly(wire, candidate, manner)
        if candidate.name in hosts:
            session.extensions["REQUIRETLS"] = ""
        return session

    world.open = opened  # type: ignore[method-assign]


@virtually
async def test_rfc_8689_a_host_that_does_not_promise_tls_is_passed_over() -> None:
    """RFC 8689: the next host is tried, over the session that was open or not."""
    world = World("mx1", "mx2", tls=Tls.VERIFY)
    promising(world, "mx2")
    queue_id = await world.post(*people(2), parameters=b"REQUIRETLS")
    slot = await world.work()
    assert (world.dialled, world.stamps(queue_id)) == (["mx1", "mx2"], [])
    assert [host for host, _ in world.transactions] == ["mx2"]
    await slot.close()
    await world.post(*people(1))
    slot = await world.work()
    assert slot.host.startswith("mx1")
    await world.post(*people(1), parameters=b"REQUIRETLS")
    await world.work(slot)
    assert [host for host, _ in world.transactions] == ["mx2", "mx1", "mx2"]
    assert world.balanced()


@virtually
async def test_rfc_8689_where_no_host_promises_tls_mail_that_demands_it_comes_back() -> None:
    """RFC 8689: 5.7.30 where none of them offers it; while one of them is down it may be that one."""
    world = World("mx1", "mx2", tls=Tls.VERIFY)
    queue_id = await world.post(*people(1), parameters=b"REQUIRETLS")
    await world.work()
    assert (world.transactions, world.stamps(queue_id)) == ([], [F])
    assert "5.7.30" in world.told(events.Failed)[0].reply
    world.down.add("mx2")
    later = await world.post(*people(1), parameters=b"REQUIRETLS")
    await world.work()
    assert (world.transactions, world.stamps(later)) == ([], [T])
    assert world.balanced()


@virtually
async def test_rfc_8689_where_tls_is_not_verified_mail_that_demands_it_is_not_sent() -> None:
    """RFC 8689: 5.7.10, whatever the host offers; other mail goes on."""
    world = World(tls=Tls.ENCRYPT)
    promising(world, "mx")
    queue_id = await world.post(*people(1), parameters=b"REQUIRETLS")
    slot = await world.work()
    assert (world.transactions, world.stamps(queue_id)) == ([], [F])
    assert "5.7.10" in world.told(events.Failed)[0].reply
    assert slot.session is not None
    assert world.balanced()


@virtually
async def test_rfc_8689_a_host_that_an_mx_record_names_is_not_verified_by_its_certificate() -> None:
    """RFC 8689: whoever answers DNS names the host, so its own certificate proves nothing."""
    world = World(tls=Tls.VERIFY)
    promising(world, "mx")
    world.lane.way = msgspec.structs.replace(world.lane.way, by_mx=True)
    queue_id = await world.post(*people(1), parameters=b"REQUIRETLS")
    await world.work()
    assert (world.transactions, world.stamps(queue_id)) == ([], [F])
    assert "5.7.10" in world.told(events.Failed)[0].reply


@virtually
async def test_while_others_have_sessions_nobody_waits_for_a_retry() -> None:
    world = World()
    world.down.add("mx")
    world.lane.sessions = 1
    queue_id = await world.post(*people(2))
    job = world.take()
    for number in range(1, RETURNS + 1):
        await world.attempter.run(job, world.lane, Slot(world.lane))
        assert (job.returns, world.kicked, world.given_back) == (number, number, [])
        assert world.take() is job
        assert world.kinds()["Deferred"] == 0
    await world.attempter.run(job, world.lane, Slot(world.lane))
    assert world.kinds()["Deferred"] == 2
    assert world.stamps(queue_id) == [T, T]
    assert world.balanced()


@virtually
async def test_where_others_want_the_next_connection_a_used_one_that_ends_is_no_failure() -> None:
    """A mail that ends every connection has an end too."""
    world = World("one")
    world.habits["one"] = [takes, breaks]
    await world.post(*people(1))
    slot = await world.work()
    queue_id = await world.post(*people(1))
    world.wanted = True
    job = world.take()
    for number in range(1, RETURNS + 1):
        slot.sent = 1
        await world.attempter.run(job, world.lane, slot)
        assert (slot.session, job.returns, world.kinds()["Deferred"]) == (None, number, 0)
        assert world.take() is job
        await world.opener.open(world.lane, slot, Tries())
    slot.sent = 1
    await world.attempter.run(job, world.lane, slot)
    assert world.kinds()["Deferred"] == 1
    assert world.stamps(queue_id) == [T]


# ---- in doubt ----


@virtually
async def test_in_doubt_is_tried_later_and_nowhere_else() -> None:
    world = World("one", "two")
    world.habits["one"] = [vanishes]
    queue_id = await world.post(*people(2))
    await world.work()
    assert [host for host, _ in world.transactions] == ["one"]
    assert world.kinds() == {"InDoubt": 2, "Deferred": 2}
    assert world.stamps(queue_id) == [Q, Q]
    assert world.balanced()


@virtually
async def test_at_most_once_mail_in_doubt_is_held() -> None:
    world = World("one", "two")
    world.habits["one"] = [vanishes]
    queue_id = await world.post(*people(2), flags=Flag.AT_MOST_ONCE)
    await world.work()
    assert len(world.transactions) == 1
    assert world.kinds() == {"InDoubt": 2, "Held": 2}
    assert world.stamps(queue_id) == [H, H]
    assert world.balanced()


@virtually
async def test_an_answer_takes_the_doubt_back() -> None:
    world = World()
    world.habits["mx"] = [answering(OK, final=Reply(451, "4.3.0 later"))]
    queue_id = await world.post(*people(1))
    await world.work()
    assert world.stamps(queue_id) == [T]
    assert world.kinds() == {"Deferred": 1}


@virtually
async def test_without_a_note_of_the_doubt_the_dot_does_not_go_out() -> None:
    world = World("one", "two")

    def fails(*_: Any) -> None:
        raise StampNotDurableError

    world.queue.doubt = fails  # type: ignore[method-assign,assignment]
    queue_id = await world.post(*people(1))
    slot = await world.work()
    assert world.kinds() == {"Alarm": 1, "Deferred": 1}
    assert len(world.transactions) == 1
    assert (world.stamps(queue_id), slot.session) == ([T], None)
    assert world.balanced()


@virtually
async def test_what_is_not_durable_is_not_told_and_the_session_ends() -> None:
    world = World()
    stamp = world.queue.stamp

    def undurable(*how: Any) -> asyncio.Future[None]:
        stamp(*how)
        failed = world.loop.create_future()
        failed.set_exception(StampNotDurableError())
        return failed

    world.queue.stamp = undurable  # type: ignore[method-assign]
    await world.post(*people(1))
    slot = await world.work()
    assert world.kinds() == {}
    assert (slot.session, world.closed) == (None, 1)
    assert world.queue.ledger.messages == 0
    assert world.balanced()


# ---- trouble of ours ----


@virtually
async def test_a_damaged_message_is_the_queues_to_end() -> None:
    world = World()
    await world.post(*people(1))
    job = world.take()

    async def damaged(*_: Any, **__: Any) -> None:
        raise DamagedError("damaged")

    world.queue.load = damaged  # type: ignore[method-assign,assignment]
    await world.attempter.run(job, world.lane, Slot(world.lane))
    assert (job.claims, world.given_back, world.events) == ([], [], [])
    job = Job([object()])  # type: ignore[list-item]
    await world.attempter.give_up(job, classify.broken(), world.lane.way.policy.retry)
    assert (job.claims, world.given_back, world.events) == ([], [], [])


@pytest.mark.parametrize("giving_up", [False, True])
def test_a_message_that_cannot_be_read_now_is_tried_later(giving_up: bool) -> None:
    async def test(_: object) -> None:
        world = World()
        queue_id = await world.post(*people(1))
        job = world.take()

        async def unreadable(*_: Any, **__: Any) -> None:
            raise OSError("EIO")

        world.queue.load = unreadable  # type: ignore[method-assign,assignment]
        if giving_up:
            await world.attempter.give_up(job, classify.broken(), world.lane.way.policy.retry)
        else:
            await world.attempter.run(job, world.lane, Slot(world.lane))
        assert world.kinds() == {"Alarm": 1}
        assert (world.stamps(queue_id), world.due) == ([T], [60.0])
        assert world.balanced()

    run(test)


@virtually
async def test_a_bug_in_a_session_costs_no_mail() -> None:
    world = World()
    world.habits["mx"] = [is_a_bug]
    queue_id = await world.post(*people(2))
    slot = await world.work()
    assert world.kinds() == {"Alarm": 1, "Deferred": 2}
    assert (world.stamps(queue_id), slot.session, world.lane.sessions) == ([T, T], None, 0)
    assert world.balanced()


@virtually
async def test_a_cancelled_attempt_gives_its_claims_back() -> None:
    world = World()
    world.habits["mx"] = [answering(OK, seconds=500.0)]
    queue_id = await world.post(*people(1))
    task = asyncio.ensure_future(world.attempter.run(world.take(), world.lane, Slot(world.lane)))
    await asyncio.sleep(5.0)
    task.cancel()
    await asyncio.wait([task])
    assert world.stamps(queue_id) == [T]
    assert world.balanced()


@virtually
async def test_those_an_operator_removed_meanwhile_are_not_sent_to() -> None:
    world = World()
    queue_id = await world.post(*people(1))
    entry = world.queue.find(queue_id)
    assert entry is not None
    await world.queue.mark(entry, {0: H})
    await world.work()
    assert (world.transactions, world.events) == ([], [])
    assert world.balanced()


# ---- giving up ----


@virtually
async def test_who_cannot_be_tried_is_settled_without_the_content() -> None:
    world = World()
    failed = await world.post(*people(2))
    contents = []
    read = world.queue.read

    async def reading(entry: Any, *, content: bool = True) -> Any:
        contents.append(content)
        return await read(entry, content=content)

    world.queue.read = reading  # type: ignore[method-assign]
    await world.attempter.give_up(world.take(), classify.loop("d.example"), world.lane.way.policy.retry)
    assert world.stamps(failed) == [F, F]
    deferred = await world.post(*people(1))
    await world.attempter.give_up(world.take(), classify.broken(), world.lane.way.policy.retry)
    assert world.stamps(deferred) == [T]
    assert contents == [False, False]
    assert world.due[-1] == 60.0
    assert world.balanced()


@virtually
async def test_of_a_job_under_way_only_those_in_no_transaction_are_given_up() -> None:
    world = World(recipients_per_transaction=2)
    world.habits["mx"] = [answering(OK, OK, seconds=9.0)]
    queue_id = await world.post(*people(3))
    job = world.take()
    first = asyncio.ensure_future(world.attempter.run(job, world.lane, Slot(world.lane)))
    await asyncio.sleep(0.5)
    await world.attempter.give_up(world.take(), classify.loop("d.example"), world.lane.way.policy.retry)
    assert (world.stamps(queue_id), world.given_back) == ([T, T, F], [])
    await first
    assert world.stamps(queue_id) == [D, D, F]
    assert world.balanced()


# ---- the suppression list ----


class Listed:
    """A list with one address, which learns."""

    def __init__(self, address: bytes) -> None:
        self._address = address
        self.learned: list[tuple[bytes, bytes, str]] = []

    def __len__(self) -> int:
        return 1

    def match(self, address: bytes, tenant: bytes) -> Match | None:
        return MATCH if address == self._address else None

    def bounced(self, recipient: bytes, tenant: bytes, bounce_class: str, reply: str) -> None:
        self.learned.append((recipient, tenant, bounce_class))


@virtually
async def test_a_report_that_is_refused_teaches_the_list_nothing() -> None:
    """It would be learned for all tenants, and servers refuse reports for reasons of their own."""
    listed = Listed(b"nobody@d.example")
    world = World(suppression=listed)
    world.habits["mx"] = [answering(Reply(550, "5.1.1 no such user"))]
    await world.post(*people(1), sender=b"")
    await world.work()
    assert (world.kinds(), listed.learned) == ({"Failed": 1}, [])
    await world.post(*people(1))
    await world.work()
    assert [who for who, _, _ in listed.learned] == [b"0@d.example"]


@virtually
async def test_whoever_is_on_the_list_fails_and_the_others_go() -> None:
    listed = Listed(b"1@d.example")
    world = World(suppression=listed)
    queue_id = await world.post(*people(3))
    await world.work()
    assert world.transactions == [("mx", ["0@d.example", "2@d.example"])]
    assert world.stamps(queue_id) == [D, F, D]
    assert listed.learned == [(b"1@d.example", b"example.org", "suppressed")]
    assert world.balanced()
    await world.post(b"1@d.example")
    await world.work()
    assert len(world.transactions) == 1
    assert world.balanced()


@virtually
async def test_trouble_with_the_list_costs_no_mail() -> None:
    listed = Listed(b"1@d.example")
    world = World(suppression=listed)
    listed.bounced = None  # type: ignore[method-assign,assignment]
    queue_id = await world.post(*people(2))
    await world.work()
    assert world.kinds() == {"Alarm": 1}
    assert world.stamps(queue_id) == [T, F]
    assert world.balanced()


@virtually
async def test_hard_bounces_are_learned_from() -> None:
    listed = Listed(b"")
    world = World(suppression=listed)
    world.habits["mx"] = [answering(Reply(550, "5.1.1 no such user"))]
    await world.post(*people(1))
    await world.work()
    assert listed.learned == [(b"0@d.example", b"example.org", "invalid-recipient")]


NO_SUCH_USER = Reply(550, "5.1.1 no such user")


async def refuses_the_sender(transaction: Transaction, settled: Settled, dotting: Dotting) -> Result:
    return Result([NO_SUCH_USER] * len(transaction.recipients), NO_SUCH_USER)


@virtually
async def test_a_refusal_of_the_sender_or_of_mail_for_many_is_nobodys_bounce() -> None:
    """Whatever the words are: a sender that a provider does not like would cost all its recipients."""
    listed = Listed(b"")
    world = World(suppression=listed)
    world.habits["mx"] = [
        refuses_the_sender,
        refuses_the_sender,
        answering(OK, OK, final=NO_SUCH_USER),
        answering(OK, NO_SUCH_USER, OK, final=NO_SUCH_USER),
        answering(OK, final=NO_SUCH_USER),
    ]
    slot = None
    for count, taught in ((1, []), (2, []), (2, []), (3, [b"1@d.example"]), (1, [b"0@d.example"])):
        listed.learned.clear()
        await world.post(*people(count))
        slot = await world.work(slot)
        assert [who for who, _, _ in listed.learned] == taught
    assert world.kinds() == {"Failed": 9}
    assert world.balanced()
