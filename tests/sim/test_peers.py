"""Peers in memory do what hosts do, and take the time that hosts take."""

import asyncio

import pytest
from tests.sim import habits
from tests.sim.client import Client, codes, in_a_world
from tests.sim.habits import Habit
from tests.sim.talk import GO_ON, OK, Talk
from tests.sim.world import World

from backstamp.delivery.outside import Candidate, Source
from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal
from backstamp.net.transaction import Transaction
from backstamp.policy.destination import Timeouts, Tls
from backstamp.policy.mx import Addresses, DnsFault, DnsProblem, Exchangers


def client(world: World, *habits: Habit, **more: object) -> Client:
    return Client(world.simple("d.example", *habits), **more)  # type: ignore[arg-type]


@in_a_world
async def test_a_message_is_taken_and_settled_in_the_turn_of_the_reply(world: World) -> None:
    talker = client(world)
    session = await talker.session()
    result = await talker.send(session, b"u@d.example", b"v@d.example")
    assert codes(result) == [250, 250]
    assert (result.mail, result.data, result.final) == (OK, GO_ON, OK)
    assert talker.settled == [(OK, [0, 1])]
    assert talker.dots == [[0, 1]]
    assert not result.in_doubt
    assert session.usable
    assert 0.05 < talker.now < 0.3
    await session.close()
    assert not session.usable
    assert world.present() == 0
    assert world.taken == {
        (b"Message-ID: <0>", b"u@d.example"): True,
        (b"Message-ID: <0>", b"v@d.example"): True,
    }


@in_a_world
async def test_the_dot_waits_for_its_permit(world: World) -> None:
    talker = client(world)
    talker.hold = asyncio.sleep(100)
    await talker.send(await talker.session())
    assert talker.now > 100


@in_a_world
async def test_a_dot_that_must_not_go_out_does_not(world: World) -> None:
    talker = client(world)
    talker.hold = asyncio.wait_for(asyncio.Event().wait(), 5)
    session = await talker.session()
    with pytest.raises(TimeoutError):
        await talker.send(session)
    assert not world.taken
    assert not session.usable


@in_a_world
async def test_a_dead_host_refuses_or_is_silent_for_its_time(world: World) -> None:
    refusing = Client(world.simple("refusing.example", habits.Dead(until=50)))
    silent = Client(world.simple("silent.example", habits.Dead(silent=True)))
    refused, unanswered = await refusing.dial(), await silent.dial()
    assert isinstance(refused, Fault)
    assert (refused.phase, refused.problem) == (Phase.CONNECT, "refused")
    assert isinstance(unanswered, Fault)
    assert unanswered.problem == "timeout"
    assert 30 < silent.now < 31
    await asyncio.sleep(20)
    await refusing.session()
    assert world.present() == 1


@in_a_world
async def test_the_sixth_connection_is_told_421_until_one_is_over(world: World) -> None:
    talker = client(world, habits.MaxConnections(5))
    sessions = [await talker.session() for _ in range(5)]
    refusal = await talker.open()
    assert isinstance(refusal, Refusal)
    assert (refusal.reply.code, refusal.phase) == (421, Phase.GREETING)
    assert world.present() == 5
    await sessions[0].close()
    await talker.session()


@in_a_world
async def test_a_limit_may_be_shared_and_may_be_each_sources_own(world: World) -> None:
    shared = habits.MaxConnections(1)
    one = Client(world.simple("one.example", shared))
    two = Client(world.simple("two.example", shared))
    await one.session()
    assert isinstance(await two.open(), Refusal)
    own = world.simple("own.example", habits.MaxConnections(1, refuse=True, by_source=True))
    await Client(own, "192.0.2.1").session()
    await Client(own, "192.0.2.2").session()
    assert isinstance(await Client(own, "192.0.2.1").open(), Fault)


@in_a_world
async def test_a_rate_limit_says_when_to_come_again(world: World) -> None:
    talker = client(world, habits.RateLimit(2, 600))
    session = await talker.session()
    await talker.send(session)
    await talker.send(session)
    result = await talker.send(session)
    assert result.mail == Reply(450, "4.7.28 rate limit exceeded, try again in 10 minutes")
    assert codes(result) == [None]
    await asyncio.sleep(550)
    again = await talker.send(session)
    assert again.mail is not None
    assert again.mail.text.endswith("in 1 minutes")
    await asyncio.sleep(50)
    assert (await talker.send(session)).final is not None


@in_a_world
async def test_a_connection_ends_after_its_messages(world: World) -> None:
    talker = client(world, habits.MessagesPerConnection(2))
    session = await talker.session()
    await talker.send(session)
    await talker.send(session)
    assert session.usable
    result = await talker.send(session)
    assert result.mail is not None
    assert result.mail.code == 421
    assert not session.usable
    assert world.present() == 0
    after = await talker.send(session)
    assert after.fault is not None
    assert after.fault.problem == "disconnected"


@in_a_world
async def test_too_many_recipients_are_told_452_and_the_rest_is_delivered(world: World) -> None:
    talker = client(world, habits.RecipientsPerTransaction(2))
    result = await talker.send(await talker.session(), b"a@d.example", b"b@d.example", b"c@d.example")
    assert codes(result) == [250, 250, 452]
    assert talker.settled == [(OK, [0, 1])]


@in_a_world
async def test_a_stranger_is_put_off_and_known_from_then_on(world: World) -> None:
    talker = client(world, habits.Greylist(300))
    session = await talker.session()
    assert codes(await talker.send(session, b"a@d.example")) == [451]
    await asyncio.sleep(299)
    assert codes(await talker.send(session, b"a@d.example", b"b@d.example")) == [451, 451]
    await asyncio.sleep(2)
    assert codes(await talker.send(session, b"a@d.example", b"b@d.example")) == [250, 451]
    assert codes(await talker.send(session, b"a@d.example", sender=b"other@b.example")) == [451]
    other = Client(talker.peer, "192.0.2.9")
    assert codes(await other.send(await other.session(), b"a@d.example")) == [451]


@in_a_world
async def test_a_greylist_may_look_at_the_source_alone(world: World) -> None:
    talker = client(world, habits.Greylist(300, ("source",)))
    session = await talker.session()
    await talker.send(session, b"a@d.example")
    await asyncio.sleep(300)
    assert codes(await talker.send(session, b"other@d.example", sender=b"x@y.example")) == [250]


@in_a_world
async def test_some_recipients_are_refused_always_and_some_at_times(world: World) -> None:
    everybody = [b"u%d@d.example" % number for number in range(200)]
    gone = client(world, habits.Refuses(Reply(550, "5.1.1 unknown"), share=0.25))
    session = await gone.session()
    first, second = await gone.send(session, *everybody), await gone.send(session, *everybody)
    assert codes(first) == codes(second)
    assert 20 < codes(first).count(550) < 80
    moody = client(world, habits.BadDays(0.25))
    session = await moody.session()
    first, second = await moody.send(session, *everybody), await moody.send(session, *everybody)
    assert codes(first) != codes(second)
    assert 20 < codes(first).count(451) < 80


@in_a_world
async def test_nobody_taken_means_no_content(world: World) -> None:
    talker = client(world, habits.Refuses(Reply(550), lambda _: True))
    result = await talker.send(await talker.session())
    assert (result.data, result.final, talker.dots, talker.settled) == (None, None, [], [])


@in_a_world
async def test_a_block_has_its_time(world: World) -> None:
    talker = client(world, habits.Blocks(Reply(421, "4.7.0 blocked"), since=10, until=20))
    session = await talker.session()
    assert (await talker.send(session)).final is not None
    await asyncio.sleep(10)
    blocked = await talker.send(session)
    assert blocked.mail == Reply(421, "4.7.0 blocked")
    await asyncio.sleep(10)
    assert (await talker.send(await talker.session())).final is not None


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [(Phase.MAIL, 300), (Phase.RCPT, 300), (Phase.DATA, 120), (Phase.FINAL, 600)],
)
def test_a_stall_ends_with_the_wait_for_its_reply(phase: Phase, seconds: float) -> None:
    @in_a_world
    async def test(world: World) -> None:
        talker = client(world, habits.Slow(86400, phase))
        session = await talker.session()
        began = talker.now
        result = await talker.send(session)
        assert result.fault is not None
        assert (result.fault.phase, result.fault.problem) == (phase, "timeout")
        assert result.in_doubt == (phase is Phase.FINAL)
        assert seconds <= talker.now - began < seconds + 1
        assert not session.usable

    test()


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.GREETING, Phase.EHLO])
def test_a_stall_before_the_session_is_a_fault(phase: Phase) -> None:
    @in_a_world
    async def test(world: World) -> None:
        timeouts = Timeouts(connect=30, greeting=40)
        talker = client(world, habits.Slow(86400, phase), timeouts=timeouts)
        opened = await talker.open()
        assert isinstance(opened, Fault)
        assert (opened.phase, opened.problem) == (phase, "timeout")
        assert world.present() == 0
        assert 30 <= talker.now < 41

    test()


@in_a_world
async def test_what_is_slow_within_its_time_is_only_late(world: World) -> None:
    talker = client(world, habits.Slow(100, Phase.GREETING, Phase.MAIL, Phase.DATA, Phase.FINAL))
    result = await talker.send(await talker.session())
    assert result.final is not None
    assert 400 < talker.now < 401


@in_a_world
async def test_a_cut_before_the_dot_leaves_no_doubt(world: World) -> None:
    talker = client(world, habits.Flaky(before=1.0))
    result = await talker.send(await talker.session())
    assert result.fault is not None
    assert (result.fault.phase, result.fault.problem) == (Phase.DATA, "disconnected")
    assert not result.in_doubt
    assert not world.taken


@pytest.mark.parametrize("taken", [0.0, 1.0])
def test_a_cut_behind_the_dot_does(taken: float) -> None:
    @in_a_world
    async def test(world: World) -> None:
        talker = client(world, habits.Flaky(after=1.0, taken=taken))
        result = await talker.send(await talker.session())
        assert result.fault is not None
        assert result.fault.phase is Phase.FINAL
        assert result.in_doubt
        assert talker.settled == []
        assert [*world.taken.values()] == [False] * bool(taken)

    test()


@in_a_world
async def test_tls_is_begun_where_it_is_offered_and_may_break(world: World) -> None:
    good = Client(world.host("good.example", tls="TLSv1.3")[0])
    broken = Client(world.host("broken.example", tls="broken")[0])
    plain = Client(world.host("plain.example")[0])
    session = await good.session()
    assert session.tls == "TLSv1.3"
    assert "STARTTLS" in session.extensions
    assert isinstance(await broken.open(), Fault)
    assert isinstance(await broken.open(Tls.NONE), Talk)
    assert isinstance(await plain.open(Tls.ENCRYPT), Fault)
    assert (await plain.session()).tls == ""


@in_a_world
async def test_who_gives_up_in_the_middle_is_gone(world: World) -> None:
    talker = client(world, habits.Slow(100, Phase.FINAL))
    session = await talker.session()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(50):
            await talker.send(session)
    assert world.present() == 0
    assert not session.usable
    assert [*world.taken.values()] == [False]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await talker.dial()
    assert world.present() == 0


@in_a_world
async def test_a_connection_nobody_wants_is_over(world: World) -> None:
    talker = client(world)
    wire = await talker.dial()
    assert not isinstance(wire, Fault)
    world.hang_up(wire)
    assert world.present() == 0


@in_a_world
async def test_what_is_sent_again_after_its_acknowledgement_is_noticed(world: World) -> None:
    talker = client(world, habits.Flaky(after=0.0))
    session = await talker.session()

    async def send() -> None:
        transaction = Transaction(b"a@b.example", (Recipient(b"u@d.example"),), b"Message-ID: <7>\r\n\r\n")
        await session.transact(transaction, lambda *_: None)

    await send()
    assert not world.duplicates
    await send()
    assert world.duplicates == [(b"Message-ID: <7>", b"u@d.example")]


@in_a_world
async def test_names_change_at_their_time_and_are_kept_for_a_while(world: World) -> None:
    names = world.names
    world.host("old.example")
    world.domain("d.example", "old.example")
    world.domain("d.example", "new.example", since=100)
    names.put("d.example", DnsFault(DnsProblem.SERVER_FAILURE, "d.example"), since=200)
    seen = []
    for _ in range(7):
        answer = await names.exchangers("d.example")
        seen.append(answer.hosts[0].name if isinstance(answer, Exchangers) else answer.problem.value)
        await asyncio.sleep(40)
    assert seen == ["old.example"] * 4 + ["new.example"] * 2 + ["SERVFAIL"]
    assert names.questions == 4
    nobody = await names.exchangers("nowhere.example")
    assert nobody == DnsFault(DnsProblem.NO_DOMAIN, "nowhere.example")
    assert await names.addresses("old.example") == Addresses(("11.0.0.1",))
    assert isinstance(await names.addresses("new.example"), DnsFault)


@in_a_world
async def test_an_address_nobody_made_is_a_mistake_of_the_test(world: World) -> None:
    with pytest.raises(KeyError):
        await world.dial(Candidate("x", "11.9.9.9", 25), Source(), 30)
