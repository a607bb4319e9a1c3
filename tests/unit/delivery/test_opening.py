"""Opening a session, on virtual time: addresses race where permits allow, TLS or not, dead hosts, loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from tests.sim.virtual import VirtualClock, run

from backstamp.delivery import opening
from backstamp.delivery.feedback import Feedback
from backstamp.delivery.lane import Lane, Way
from backstamp.delivery.opening import CLEAR, STAGGER, Opener, Slot
from backstamp.delivery.outside import Candidate, Manner, Source
from backstamp.delivery.pacing import paced
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Throttle
from backstamp.delivery.tries import CONNECTS, DEAD, Tries
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal
from backstamp.policy import classify
from backstamp.policy.adapt import Adaptations
from backstamp.policy.destination import DestinationPolicy, Rate, Tls
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import Credentials
from backstamp.telemetry import events
from backstamp.telemetry.events import Event

REFUSED = Fault(Phase.CONNECT, "refused", "no connection")
BROKEN_TLS = Fault(Phase.TLS, "handshake", "the handshake failed")
FOUR, SIX = "192.0.2.1", "2001:db8::1"
NEVER = float("inf")


def at(address: str, name: str = "mx.example") -> Candidate:
    return Candidate(name, address, 25)


class Session:
    """A session that was opened."""

    usable = True
    size_limit = None
    tls = ""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.extensions: dict[str, str] = {}
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class World:
    """Hosts by address: how long a connect takes, what comes of it, and of the session."""

    def __init__(self, *hosts: tuple[Candidate, ...] | Outcome, connections: int = 10, **knobs: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self.loop)
        self.events: list[Event] = []
        self.delays: dict[str, float] = {}
        self.connects: dict[str, Any] = {}
        self.opens: dict[str, Callable[[Manner], Any]] = {}
        self.dialled: list[tuple[float, str]] = []
        self.manners: list[Manner] = []
        self.sources: list[Source] = []
        self.hung_up: list[str] = []
        self.freed: list[float] = []
        self.sessions: list[Session] = []
        policy = DestinationPolicy(connections=connections, retry=RetryPolicy((60.0,), 600.0), **knobs)
        self.throttle = Throttle("d.example", policy)
        self.throttle.window.size = float(connections)
        self.hosts = hosts
        self.lane = self.another()
        tell = Teller(self.events.append, self.clock, trace=False)
        self.opener = Opener(
            self,
            hostname="relay.example",
            clock=self.clock,
            tell=tell,
            feedback=Feedback(Adaptations(()), self.clock, tell, lambda: None),
            own_names=frozenset({"relay.example"}),
            freed=lambda lane: self.freed.append(self.loop.time()),
        )

    def another(self, **way: Any) -> Lane[Any]:
        return Lane("key", Way("d.example", self.throttle.policy, self.find, **way), (self.throttle,))

    async def find(self) -> AsyncIterator[tuple[Candidate, ...] | Outcome]:
        for host in self.hosts:
            yield host

    async def dial(self, candidate: Candidate, source: Source, seconds: float) -> Any:
        self.dialled.append((self.loop.time(), candidate.address))
        self.sources.append(source)
        await asyncio.sleep(self.delays.get(candidate.address, 0.01))
        answer = self.connects.get(candidate.address, candidate.address)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def open(self, wire: str, candidate: Candidate, manner: Manner) -> Any:
        self.manners.append(manner)
        opens = self.opens.get(candidate.address)
        opened = opens(manner) if opens is not None else None
        if opened is None:
            opened = Session(candidate.name)
            self.sessions.append(opened)
        return opened

    def hang_up(self, wire: str) -> None:
        self.hung_up.append(wire)

    async def opened(self, tried: Tries | None = None, lane: Lane[Any] | None = None) -> "Opened":
        """Open a session, with a permit."""
        lane = lane or self.lane
        slot = Slot(lane)
        self.throttle.held += 1
        try:
            outcome = await self.opener.open(lane, slot, Tries() if tried is None else tried)
        finally:
            self.throttle.held -= 1
        return Opened(slot, outcome)


class Opened:
    def __init__(self, slot: Slot, outcome: Outcome | None) -> None:
        self.slot = slot
        self.outcome = outcome

    @property
    def address(self) -> str:
        assert self.slot.session is not None
        assert self.slot.candidate is not None
        return self.slot.candidate.address


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a virtual loop of its own."""

    def wrapped() -> None:
        run(lambda _: test())

    wrapped.__name__ = test.__name__
    return wrapped


# ---- the race ----


@virtually
async def test_the_first_address_is_enough_if_it_answers() -> None:
    world = World((at(SIX), at(FOUR)))
    opened = await world.opened()
    assert (opened.address, opened.outcome) == (SIX, None)
    assert [address for _, address in world.dialled] == [SIX]
    assert (world.lane.sessions, world.throttle.held) == (1, 0)
    await opened.slot.close()
    assert world.sessions[0].closed
    assert world.lane.sessions == 0
    await opened.slot.close()
    assert world.lane.sessions == 0


@virtually
async def test_the_next_address_starts_a_quarter_of_a_second_later() -> None:
    world = World((at("a"), at("b"), at("c")))
    world.delays = {"a": 10.0, "b": 0.6, "c": 10.0}
    tried = Tries()
    opened = await world.opened(tried)
    assert opened.address == "b"
    assert world.dialled == [(0.0, "a"), (STAGGER, "b"), (2 * STAGGER, "c")]
    assert world.loop.time() == pytest.approx(STAGGER + 0.6)
    assert tried.hosts == {at("b")}
    assert STAGGER == 0.25


@virtually
async def test_an_address_that_fails_hands_on_at_once() -> None:
    world = World((at("a"), at("b"), at("c")))
    world.delays = {"a": 0.05, "b": 5.0}
    world.connects = {"a": REFUSED}
    assert (await world.opened()).address == "c"
    assert world.dialled == [(0.0, "a"), (0.05, "b"), (0.05 + STAGGER, "c")]


@virtually
async def test_a_racer_needs_a_permit_and_gives_it_back() -> None:
    world = World((at("a"), at("b"), at("c")), connections=2)
    world.delays = dict.fromkeys("abc", 1.0)
    held = []

    async def watch() -> None:
        while True:
            held.append(world.throttle.held)
            await asyncio.sleep(0.1)

    watching = asyncio.ensure_future(watch())
    assert (await world.opened()).address == "a"
    watching.cancel()
    # There is room for two: the third never starts.
    assert [address for _, address in world.dialled] == ["a", "b"]
    assert set(held) == {1, 2}
    assert world.throttle.held == 0
    assert world.freed == [1.0]


@virtually
async def test_without_room_nobody_races_until_there_is_some() -> None:
    world = World((at("a"), at("b")), connections=1)
    world.delays = {"a": 5.0}
    world.loop.call_later(1.1, setattr, world.throttle.window, "most", 2)
    world.loop.call_later(1.1, setattr, world.throttle.window, "size", 2.0)
    assert (await world.opened()).address == "b"
    assert world.dialled == [(0.0, "a"), (1.25, "b")]
    assert world.throttle.held == 0


@virtually
async def test_a_racer_keeps_the_rate_of_connections() -> None:
    world = World((at("a"), at("b")), connection_rate=Rate(1, 2.0))
    world.delays = {"a": 5.0}
    assert (await world.opened()).address == "b"
    assert world.dialled[1][0] >= 2.0


@virtually
async def test_a_connection_waits_for_its_rate() -> None:
    world = World((at("a"),), connection_rate=Rate(1, 60.0))
    await world.opened()
    waiting = asyncio.ensure_future(world.opened())
    await asyncio.sleep(1.0)
    # Whoever asks for a permit meanwhile has one behind that.
    assert len(world.throttle.callers) == 1
    assert world.throttle.may_connect(world.loop.time()) >= 120.0
    await waiting
    assert [address for _, address in world.dialled] == ["a", "a"]
    assert 60.0 <= world.dialled[1][0] < 60.1
    assert not world.throttle.callers


@virtually
async def test_connections_wait_for_their_rate_in_the_order_in_which_they_came() -> None:
    """Whoever waits is not overtaken by who comes in the moment in which the next may begin."""
    world = World((at("a"),), connection_rate=Rate(1, 0.7))
    began: list[int] = []

    async def begin(number: int) -> None:
        await asyncio.sleep(number * 0.1)
        await paced(world.lane, world.clock)
        began.append(number)

    await asyncio.gather(*[begin(number) for number in range(60)])
    assert began == [*range(60)]
    assert world.loop.time() == pytest.approx(59 * 0.7, abs=0.01)


@virtually
async def test_the_loser_is_called_off_or_hung_up() -> None:
    world = World((at("a"), at("b"), at("c")))
    # The second and the third answer in the same moment; the first never does.
    world.delays = {"a": 1000.0, "b": 1.0, "c": 1.0 - STAGGER}
    opened = await world.opened()
    loser = "c" if opened.address == "b" else "b"
    assert world.hung_up == [loser]
    assert world.loop.time() < 2.0
    assert world.throttle.held == 0
    assert len(asyncio.all_tasks()) == 1


NO = Refusal(Reply(554, "5.7.1 no"), Phase.GREETING)


@virtually
async def test_who_was_called_off_is_tried_where_the_winner_is_no_good() -> None:
    world = World((at("a"), at("b"), at("c")))
    world.delays = {"a": 0.3, "b": 0.3, "c": 0.3}
    world.opens["a"] = lambda manner: NO
    tried = Tries()
    opened = await world.opened(tried)
    assert opened.address == "b"
    assert [address for _, address in world.dialled] == ["a", "b", "b", "c"]
    assert tried.hosts == {at("a"), at("b")}
    assert world.throttle.held == 0


@virtually
async def test_a_loser_that_answered_too_is_tried_where_the_winner_is_no_good() -> None:
    world = World((at("a"), at("b")))
    # Both answer in one moment: one connection is hung up, and made again.
    world.delays = {"a": 1.0, "b": 1.0 - STAGGER}
    world.opens = dict.fromkeys("ab", lambda manner: NO)
    tried = Tries()
    assert (await world.opened(tried)).slot.session is None
    assert len(world.hung_up) == 1
    assert len(world.dialled) == 3
    assert tried.hosts == {at("a"), at("b")}


@virtually
async def test_who_was_called_off_is_there_when_the_winners_session_breaks_later() -> None:
    world = World((at("a"), at("b")))
    world.delays = {"a": 0.3, "b": 0.3}
    tried = Tries()
    assert (await world.opened(tried)).address == "a"
    assert (await world.opened(tried)).address == "b"


@virtually
async def test_a_dead_host_whose_try_was_called_off_is_still_to_be_tried() -> None:
    world = World((at("a"), at("b")))
    world.delays = {"a": 0.3, "b": 0.3}
    world.opens["a"] = lambda manner: NO
    world.opener.dead.failed(("", "b", 25), classify.fault(REFUSED, "b"), -100.0, 30.0)
    assert (await world.opened()).address == "b"
    assert len(world.opener.dead) == 1, "a, which greets with no"


@virtually
async def test_a_bug_in_a_connect_keeps_no_permit() -> None:
    world = World((at("a"), at("b")))
    world.delays = {"a": 5.0, "b": 0.5}
    world.connects = {"b": ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        await world.opened()
    assert world.throttle.held == 0
    assert len(asyncio.all_tasks()) == 1


@virtually
async def test_giving_up_in_the_middle_keeps_no_permit() -> None:
    world = World((at("a"), at("b")))
    world.delays = {"a": 50.0, "b": 50.0}
    task = asyncio.ensure_future(world.opened())
    await asyncio.sleep(1.0)
    assert world.throttle.held == 2
    task.cancel()
    await asyncio.wait([task])
    assert (world.throttle.held, len(asyncio.all_tasks())) == (0, 1)


@virtually
async def test_hosts_do_not_race_but_follow_each_other() -> None:
    world = World((at("a", "one"),), (at("b", "two"),))
    world.delays = {"a": 5.0}
    world.connects = {"a": REFUSED}
    opened = await world.opened()
    assert opened.address == "b"
    assert world.dialled == [(0.0, "a"), (5.0, "b")]
    assert opened.outcome is not None
    assert opened.outcome.host == "one[a]:25"


@virtually
async def test_who_was_tried_is_not_tried_again() -> None:
    world = World((at("a"), at("b")))
    assert (await world.opened(Tries([at("a")]))).address == "b"
    again = await world.opened(Tries([at("a"), at("b")]))
    assert (again.slot.session, again.outcome) == (None, None)


@virtually
async def test_a_session_that_is_there_is_closed_first() -> None:
    world = World((at("a"),))
    slot = (await world.opened()).slot
    await world.opener.open(world.lane, slot, Tries([at("a")]))
    assert slot.session is None
    assert world.sessions[0].closed
    assert world.lane.sessions == 0


@virtually
async def test_with_addresses_of_ones_own_only_their_families_are_tried() -> None:
    world = World((at(SIX), at(FOUR)))
    lane = world.another(sources=(Source("198.51.100.1", "out.example"),))
    assert (await world.opened(lane=lane)).address == FOUR
    assert [address for _, address in world.dialled] == [FOUR]
    assert world.sources == [Source("198.51.100.1", "out.example")]
    assert world.manners[0].helo == "out.example"
    both = world.another(sources=(Source("198.51.100.1"), Source("2001:db8::99")))
    assert (await world.opened(lane=both)).address == SIX
    assert world.sources[-1] == Source("2001:db8::99")
    assert world.manners[-1].helo == "relay.example"
    six = world.another(sources=(Source("2001:db8::99"),))
    world.hosts = ((at(FOUR),),)
    nobody = await world.opened(lane=six)
    assert (nobody.slot.session, nobody.outcome) == (None, classify.no_source("mx.example"))


# ---- what is told ----


@virtually
async def test_temporary_trouble_outweighs_what_is_final_elsewhere() -> None:
    final = classify.forbidden("bad.example", "10.0.0.1", "a private address")
    world = World(final, (at("a"),), final)
    world.connects = {"a": REFUSED}
    found = (await world.opened()).outcome
    assert found is not None
    assert found.verdict is Verdict.DEFERRED
    alone = World(final)
    assert (await alone.opened()).outcome == final


# ---- TLS ----


@virtually
async def test_broken_tls_is_answered_by_clear_text_on_a_fresh_connection_for_a_day() -> None:
    world = World((at("a"),))
    world.opens["a"] = lambda manner: BROKEN_TLS if manner.starttls else None
    opened = await world.opened()
    assert opened.address == "a"
    assert [manner.starttls for manner in world.manners] == [True, False]
    assert len(world.dialled) == 2
    assert world.opener.clear(at("a"))
    assert not world.opener.clear(at("b"))
    assert [type(event) for event in world.events] == [events.TlsFailed]
    # Others know it.
    await world.opened()
    assert [manner.starttls for manner in world.manners] == [True, False, False]
    await asyncio.sleep(CLEAR)
    assert not world.opener.clear(at("a"))
    await world.opened()
    assert [manner.starttls for manner in world.manners[3:]] == [True, False]
    assert len(world.events) == 1
    assert CLEAR == 86400


NOT_NOW = Refusal(Reply(421, "4.7.0 closing"), Phase.TLS)


@virtually
async def test_a_starttls_that_is_answered_by_421_is_answered_by_clear_text_too() -> None:
    world = World((at("a"),))
    world.opens["a"] = lambda manner: NOT_NOW if manner.starttls else None
    assert (await world.opened()).address == "a"
    assert [manner.starttls for manner in world.manners] == [True, False]
    assert world.opener.clear(at("a"))
    [told] = world.events
    assert isinstance(told, events.TlsFailed)
    assert told.reply == "STARTTLS was refused: 421 4.7.0 closing"
    # In clear text another refusal is the host's last word.
    world.opens["a"] = lambda manner: NO
    found = await world.opened()
    assert found.outcome is not None
    assert str(found.outcome.reply) == "554 5.7.1 no"
    assert len(world.manners) == 3


@pytest.mark.parametrize("broken", [BROKEN_TLS, NOT_NOW], ids=["broken", "refused"])
@pytest.mark.parametrize("demand", [Tls.ENCRYPT, Tls.VERIFY])
def test_where_tls_is_demanded_nothing_goes_in_clear_text(demand: Tls, broken: Fault | Refusal) -> None:
    """Security 8: whatever a host offers, and however its handshake ends."""

    async def test(_: object) -> None:
        world = World((at("a"),), tls=demand)
        world.opens["a"] = lambda manner: broken
        opened = await world.opened()
        assert opened.slot.session is None
        assert opened.outcome is not None
        assert opened.outcome.verdict is Verdict.DEFERRED
        assert [manner.tls for manner in world.manners] == [demand]
        assert not world.opener.clear(at("a"))

    run(test)


@pytest.mark.parametrize(
    "way", [{"implicit_tls": True}, {"credentials": Credentials("me", "secret")}], ids=["implicit", "secrets"]
)
def test_a_smarthost_that_is_spoken_to_in_secret_is_not_in_clear_text(way: dict[str, Any]) -> None:
    async def test(_: object) -> None:
        world = World((at("a"),))
        world.opens["a"] = lambda manner: BROKEN_TLS
        assert (await world.opened(lane=world.another(**way))).slot.session is None
        assert len(world.manners) == 1
        assert (world.manners[0].implicit_tls, world.manners[0].credentials) == (
            way.get("implicit_tls", False),
            way.get("credentials"),
        )

    run(test)


@virtually
async def test_what_looks_like_an_attack_is_no_reason_for_clear_text() -> None:
    """Security 8: octets in clear text behind the reply to STARTTLS are a stranger's (RFC 3207 §6)."""
    world = World((at("a"),))
    world.opens["a"] = lambda manner: Fault(Phase.TLS, "protocol", "octets behind the reply")
    assert (await world.opened()).slot.session is None
    assert len(world.manners) == 1
    assert not world.opener.clear(at("a"))


@virtually
async def test_a_host_that_is_gone_when_clear_text_is_tried_is_down() -> None:
    world = World((at("a"),))
    world.opens["a"] = lambda manner: BROKEN_TLS
    connects = iter(["wire", REFUSED])
    world.dial = lambda *_: _value(next(connects))  # type: ignore[assignment,method-assign]
    opened = await world.opened()
    assert opened.slot.session is None
    assert opened.outcome is not None
    assert "no connection" in str(opened.outcome.reply)


async def _value(value: Any) -> Any:
    return value


@virtually
async def test_the_memory_of_broken_tls_is_bounded() -> None:
    world = World((at("a"),), (at("b"),))
    monkey = pytest.MonkeyPatch()
    monkey.setattr(opening, "REMEMBERED", 1)
    world.opens = dict.fromkeys("ab", lambda manner: BROKEN_TLS if manner.starttls else None)
    await world.opened()
    await world.opened(Tries([at("a")]))
    assert (world.opener.clear(at("a")), world.opener.clear(at("b"))) == (False, True)
    monkey.undo()


# ---- dead hosts ----


@virtually
async def test_a_dead_host_is_met_by_its_last_answer() -> None:
    world = World((at("a", "one"),), (at("b", "two"),))
    world.connects = {"a": REFUSED}
    assert (await world.opened()).address == "b"
    again = await world.opened()
    assert again.address == "b"
    assert again.outcome is not None
    assert again.outcome.host == "one[a]:25"
    assert [address for _, address in world.dialled] == ["a", "b", "b"]
    # After a pause one tries again.
    await asyncio.sleep(30.0)
    world.connects.clear()
    assert (await world.opened()).address == "a"
    kinds = [type(event) for event in world.events]
    assert kinds == [events.HostDown, events.HostUp]


@virtually
async def test_a_dead_address_in_a_race_costs_no_time() -> None:
    world = World((at("a"), at("b"), at("c")))
    world.delays = {"a": 50.0, "c": 1.0}
    world.opener.dead.failed(("", "b", 25), classify.fault(REFUSED, "b"), 0.0, 30.0)
    assert (await world.opened()).address == "c"
    assert world.dialled == [(0.0, "a"), (STAGGER, "c")]
    assert world.throttle.held == 0


@virtually
async def test_a_host_that_greets_with_no_is_dead_unless_it_has_sessions_of_ours() -> None:
    world = World((at("a"),))
    busy = Refusal(Reply(421, "4.3.2 too many connections"), Phase.GREETING)
    world.opens["a"] = lambda manner: busy
    world.lane.sessions = 1
    first = await world.opened()
    assert first.outcome is not None
    assert first.outcome.scope is Scope.HOST
    assert len(world.opener.dead) == 0
    world.lane.sessions = 0
    await world.opened()
    assert len(world.opener.dead) == 1


@virtually
async def test_a_session_that_breaks_before_mail_is_a_dead_host() -> None:
    world = World((at("a"),))
    world.opens["a"] = lambda manner: Fault(Phase.EHLO, "timeout", "no reply")
    assert (await world.opened()).slot.session is None
    assert len(world.opener.dead) == 1
    assert world.throttle.window.size == 5.0


# ---- many dead hosts before one that is well ----


class Mx(World):
    """Hosts named by MX records, each with some addresses; all are dead but those of `well`."""

    def __init__(self, *counts: int, well: frozenset[str] = frozenset()) -> None:
        hosts = [
            tuple(at(f"{number}.{one}", f"mx{number}.example") for one in range(count))
            for number, count in enumerate(counts)
        ]
        super().__init__(*hosts)
        self.lane = self.another(by_mx=True)
        self.connects = {one.address: REFUSED for host in hosts for one in host if one.address not in well}

    async def attempt(self, wait: float) -> tuple[str, list[str]]:
        """Wait, and open a session; return with whom, and who was connected to for it."""
        await asyncio.sleep(wait)
        before = len(self.dialled)
        opened = await self.opened()
        address = opened.address if opened.slot.session is not None else ""
        await opened.slot.close()
        return address, [one for _, one in self.dialled[before:]]


def addresses(host: int, count: int = 5) -> list[str]:
    return [f"{host}.{one}" for one in range(count)]


@virtually
async def test_an_attempt_makes_ten_connects_at_most_to_hosts_it_knows_nothing_of() -> None:
    world = Mx(*[5] * 50, well=frozenset({"2.0"}))
    assert await world.attempt(0.0) == ("", [*addresses(0), *addresses(1)])
    assert (CONNECTS, DEAD) == (10, 10)


@pytest.mark.parametrize("wait", [1.0, 3600.0], ids=["in the pause", "later"])
def test_dead_hosts_do_not_keep_a_live_one_from_its_turn(wait: float) -> None:
    """Met by their answer or tried again: whoever is not known to be dead is tried all the same."""

    async def test(_: object) -> None:
        world = Mx(5, 5, 1, well=frozenset({"2.0"}))
        assert (await world.attempt(0.0))[0] == ""
        for _ in range(5):
            assert (await world.attempt(wait))[0] == "2.0"
        world.connects.clear()
        assert (await world.attempt(3600.0))[0] == "0.0", "and the better one is tried again"

    run(test)


@virtually
async def test_dead_hosts_take_turns_where_they_are_too_many() -> None:
    """The last one was dead once, and is well again: those before it do not use up every attempt."""
    world = Mx(5, 5, 5)
    for _ in range(3):
        await world.attempt(3600.0)
    del world.connects["2.4"]
    found = [await world.attempt(3600.0) for _ in range(2)]
    assert [address for address, _ in found] == ["", "2.4"] or found[0][0] == "2.4"
    found += [await world.attempt(3600.0) for _ in range(6)]
    assert all(len(connects) <= CONNECTS + DEAD for _, connects in found)
    assert all(address == "2.4" for address, _ in found[1:])
    # The others are not forgotten.
    assert {one for _, connects in found[2:] for one in connects} > {*addresses(0), *addresses(1)}


@virtually
async def test_of_hundreds_of_dead_addresses_every_attempt_tries_a_few_more() -> None:
    world = Mx(*[5] * 50)
    made = [len((await world.attempt(3600.0))[1]) for _ in range(30)]
    assert max(made) == CONNECTS + DEAD
    assert {address for _, address in world.dialled} == set(world.connects)


@virtually
async def test_hosts_an_operator_named_are_all_tried() -> None:
    world = Mx(5, 5, 1, well=frozenset({"2.0"}))
    world.lane = world.another()
    assert (await world.attempt(0.0))[0] == "2.0"


# ---- loops ----


@virtually
async def test_a_host_with_this_relays_name_is_this_relay() -> None:
    world = World((at("a", "relay.example"),))
    opened = await world.opened()
    assert opened.slot.session is None
    assert opened.outcome == classify.loop("d.example")
    assert world.sessions[0].closed
    assert world.lane.sessions == 0
    # A smarthost may be the same machine: the operator said so.
    assert (await world.opened(lane=world.another(route="* to *"))).address == "a"


# ---- the slot ----


@virtually
async def test_a_slot_knows_whose_ceiling_it_tries() -> None:
    world = World((at("a"),))
    world.throttle.window.refused(0.0, 1)
    world.throttle.window.size = 10.0
    plain = await world.opened()
    assert plain.slot.probe is None
    world.throttle.held = 1
    probe = await world.opened()
    assert probe.slot.probe is world.throttle
    await probe.slot.close()
    assert probe.slot.probe is None


@virtually
async def test_a_slot_counts_what_it_announced_once() -> None:
    world = World()
    world.throttle.adopt(DestinationPolicy(message_rate=Rate(1, 1.0)))
    slot = Slot(world.lane)
    world.lane.coming = 1
    slot.coming = True
    slot.arrived()
    slot.arrived()
    assert world.lane.coming == 0
    slot.unbook()
    slot.book(0.0)
    assert world.throttle.booked == 1
    slot.unbook()
    slot.unbook()
    assert world.throttle.booked == 0
