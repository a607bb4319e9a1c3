"""Feedback: what hosts say and do changes their pace, and is told once, with why."""

from typing import Any

import pytest
from tests.support.queues import TestClock

from backstamp.delivery.feedback import Feedback
from backstamp.delivery.lane import Lane, Way
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Capacity, Throttle
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result
from backstamp.policy.adapt import Action, Adaptation, Adaptations
from backstamp.policy.destination import DestinationPolicy, Rate
from backstamp.telemetry import events

OK = Reply(250, "2.0.0 ok")
CROWDED = Reply(421, "4.7.0 too many connections from you")
RULES = (
    Adaptation("big", "slow down", Action.SLOWER, 600.0, 0.5),
    Adaptation("big", "go away", Action.PAUSE, 300.0),
    Adaptation("*", "be gentle", Action.FEWER, 600.0, 0.5),
)


class World:
    """A lane with a provider's throttle, its own, and one of all lanes."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.events: list[Any] = []
        self.changes = 0
        policy = DestinationPolicy(connections=20, message_rate=Rate(60, 60.0))
        self.provider, self.own = Throttle("provider big", policy), Throttle("d.example", policy)
        self.whole = Throttle("all", policy, learns=False)
        for throttle in (self.provider, self.own, self.whole):
            throttle.window.size = 10.0
            throttle.held = 5
        way = Way("d.example", policy, lambda: None, provider="big")  # type: ignore[arg-type,return-value]
        self.lane: Lane[Any] = Lane("key", way, (self.provider, self.own, self.whole))
        tell = Teller(self.events.append, self.clock, trace=False)
        self.feedback = Feedback(Adaptations(RULES), self.clock, tell, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def sizes(self) -> list[float]:
        return [one.window.size for one in self.lane.throttles]

    def transacted(self, result: Result, *, sent: int = 0, probe: Throttle | None = None) -> None:
        self.feedback.transacted(self.lane, result, "mx[1]:25", sent=sent, probe=probe)

    def heard(self, text: str, code: int = 450, phase: Phase = Phase.RCPT) -> None:
        self.feedback.heard(self.lane, Reply(code, text), phase, "mx[1]:25")

    def told(self) -> list[tuple[str, str, float]]:
        assert all(isinstance(event, events.Throttled) for event in self.events)
        assert self.changes == len(self.events)
        return [(event.destination, event.change, event.seconds) for event in self.events]


def test_an_answer_opens_the_windows_that_learn() -> None:
    world = World()
    world.transacted(Result([OK], OK, Reply(354), OK))
    assert world.sizes() == [pytest.approx(10.1), pytest.approx(10.1), 10.0]
    assert world.told() == []


@pytest.mark.parametrize(
    ("result", "sizes"),
    [
        (Result([None], fault=Fault(Phase.MAIL, "disconnected", "gone")), [5.0, 5.0, 10.0]),
        (Result([OK], OK, Reply(354), Reply(421, "4.3.0 shutting down")), [5.0, 10.0, 10.0]),
        (Result([None], Reply(421, "4.3.0 shutting down")), [5.0, 10.0, 10.0]),
    ],
)
def test_a_failure_halves_the_windows_that_learn(result: Result, sizes: list[float]) -> None:
    world = World()
    world.transacted(result)
    assert world.sizes() == sizes
    world.clock.advance(5.0)
    world.feedback.failed(world.lane)
    assert world.sizes()[0] == 2.5
    assert world.sizes()[2] == 10.0


def test_a_refusal_of_the_mail_is_no_failure() -> None:
    world = World()
    world.transacted(Result([Reply(550, "5.1.1 no such user")], OK, Reply(554)))
    assert world.sizes() == [10.0, 10.0, 10.0]
    world.heard("fine", 250)
    assert world.told() == []


def test_a_host_that_counts_connections_teaches_its_ceiling() -> None:
    world = World()
    world.feedback.heard(world.lane, CROWDED, Phase.GREETING, "mx[1]:25")
    assert (world.provider.window.ceiling, world.own.window.ceiling) == (4, None)
    assert world.told() == [("provider big", "up to 4 connections", 0.0)]
    assert world.provider.lessons[Action.FEWER].why == f"mx[1]:25 said {CROWDED}"
    # The same again is no news: the probe after it found what was known.
    world.feedback.heard(world.lane, CROWDED, Phase.GREETING, "mx[1]:25")
    assert len(world.events) == 1
    # With one connection it cannot be about ours.
    alone = World()
    alone.provider.held = 1
    alone.feedback.heard(alone.lane, CROWDED, Phase.GREETING, "mx[1]:25")
    assert alone.told() == []
    assert alone.provider.window.size == 5.0


def test_a_probe_that_is_answered_raises_it() -> None:
    world = World()
    world.provider.window.refused(0.0, 4)
    world.provider.window.size = 10.0
    answered = Result([OK], OK, Reply(354), OK)
    world.transacted(answered)
    assert world.provider.window.ceiling == 4
    world.transacted(answered, probe=world.provider)
    assert world.provider.window.ceiling == 5
    assert world.told() == [("provider big", "up to 5 connections", 0.0)]


def test_replies_change_the_pace_by_rules() -> None:
    world = World()
    world.heard("4.7.0 slow down")
    world.heard("4.7.0 slow down")
    world.heard("4.7.0 go away")
    world.heard("4.7.0 go away")
    world.heard("4.7.0 be gentle")
    world.heard("4.7.0 be gentle")
    world.heard("4.2.0 whatever")
    assert world.told() == [
        ("provider big", "one message in 2 s", 600.0),
        ("provider big", "paused", 300.0),
        ("provider big", "up to 5 connections", 600.0),
    ]
    assert world.provider.slow == Rate(1, 2.0)
    assert world.provider.paused_until == 300.0
    assert (world.provider.window.ceiling, world.own.window.ceiling) == (5, None)
    assert "mx[1]:25 said 450 4.7.0 be gentle" in world.events[-1].why
    assert "a rule for all" in world.events[-1].why


def test_each_refusal_of_a_transaction_is_heard_once() -> None:
    world = World()
    slow, other = Reply(450, "4.7.0 slow down"), Reply(550, "5.7.1 be gentle")
    world.transacted(Result([slow, slow, None, OK, other], OK, Reply(354), Reply(451, "4.0.0 go away")))
    assert [change for _, change, _ in world.told()] == [
        "one message in 2 s",
        "up to 5 connections",
        "paused",
    ]


def test_the_same_421_twice_after_as_many_messages_is_the_hosts_limit() -> None:
    world = World()
    enough = Result([None], Reply(421, "4.7.0 enough for this session"))
    world.transacted(enough, sent=20)
    assert world.told() == []
    world.transacted(enough, sent=20)
    assert world.lane.messages == 20
    words = "mx[1]:25 said 421 4.7.0 enough for this session"
    assert world.provider.messages == Capacity(20, words, world.clock.monotonic())
    assert world.told() == [("provider big", "20 messages a connection", 0.0)]
    assert world.sizes() == [10.0, 10.0, 10.0]
    # It may be about connections all the same.
    world.transacted(Result([None], CROWDED), sent=7)
    assert world.provider.window.ceiling == 4


@pytest.mark.parametrize(
    ("text", "seconds"), [("4.7.0 blocked, try again in 10 minutes", 600.0), ("4.0.0 go away", 300.0)]
)
def test_a_block_in_the_middle_of_a_session_is_a_pause_not_the_hosts_limit(text: str, seconds: float) -> None:
    """Sessions that take turns have sent as many when it comes: that is no number a connection takes."""
    world = World()
    for _ in range(2):
        world.transacted(Result([None], Reply(421, text)), sent=20)
    now = world.clock.monotonic()
    assert world.lane.may_send(now) == now + seconds
    assert world.lane.messages > 20
    assert world.told() == [("provider big", "paused", seconds)]


def test_a_transaction_has_as_many_recipients_as_were_taken() -> None:
    world = World()
    refused = Outcome(Verdict.DEFERRED, Reply(452, "4.5.3 too many"), Scope.RECIPIENT, "mx[1]:25")
    result = Result([OK, OK, refused.reply], OK, Reply(354), OK)
    world.feedback.crowded(world.lane, result, refused)
    assert world.lane.recipients == 2
    words = "mx[1]:25 said 452 4.5.3 too many"
    assert world.provider.recipients == Capacity(2, words, world.clock.monotonic())
    assert world.told() == [("provider big", "2 recipients a transaction", 0.0)]
    world.feedback.crowded(world.lane, result, refused)
    world.feedback.crowded(world.lane, Result([refused.reply], OK), refused)
    assert (world.lane.recipients, len(world.events)) == (2, 1)


@pytest.mark.parametrize(
    ("text", "code", "phase", "seconds"),
    [
        ("4.7.0 busy, try again in 5 minutes", 450, Phase.MAIL, 300.0),
        ("4.7.0 busy, try again in 5 minutes", 450, Phase.GREETING, 300.0),
        ("4.3.2 closing, retry in 90 seconds", 421, Phase.FINAL, 90.0),
        ("4.7.0 quota is used up, try again in 23 hours", 421, Phase.MAIL, 3600.0),
        ("4.2.0 greylisted, try again in 5 minutes", 450, Phase.RCPT, 0.0),
        ("4.7.1 Greylisted, try again in 5 minutes", 451, Phase.MAIL, 0.0),
        ("4.7.1 Greylisted, try again in 5 minutes", 421, Phase.RCPT, 0.0),
        ("4.7.1 Greylisted, try again in 5 minutes", 421, Phase.GREETING, 300.0),
        ("4.7.0 busy, try again later", 450, Phase.MAIL, 0.0),
    ],
)
def test_a_time_that_a_host_names_is_a_pause_where_it_speaks_for_itself(
    text: str, code: int, phase: Phase, seconds: float
) -> None:
    world = World()
    world.heard(text, code, phase)
    now = world.clock.monotonic()
    assert world.lane.may_send(now) == now + seconds
    assert [one for one in world.told() if one[1] == "paused"] == (
        [("provider big", "paused", seconds)] if seconds else []
    )


@pytest.mark.parametrize(
    ("text", "code", "phase", "slower"),
    [
        ("4.2.0 greylisted, slow down", 450, Phase.RCPT, False),
        ("4.7.1 Greylisted: slow down", 451, Phase.FINAL, False),
        ("4.7.1 greylisted, slow down", 451, Phase.MAIL, True),
        ("4.7.1 greylisted, slow down", 421, Phase.RCPT, True),
        ("4.7.1 slow down", 450, Phase.RCPT, True),
    ],
)
def test_a_mail_that_is_greylisted_slows_nobody_down(
    text: str, code: int, phase: Phase, *, slower: bool
) -> None:
    world = World()
    world.heard(text, code, phase)
    assert [one[1] for one in world.told()] == (["one message in 2 s"] if slower else [])


@pytest.mark.parametrize(
    "result",
    [
        Result([Reply(503, "5.5.1 no")], Reply(451, "4.7.1 slow down"), Reply(354), OK),
        Result([Reply(450, "4.7.1 slow down")], OK, Reply(354), OK),
    ],
)
def test_a_lone_dot_that_is_taken_hides_no_refusal(result: Result) -> None:
    """RFC 2920 §3.1: DATA may be taken though nobody was; the 250 to the dot that follows says nothing."""
    world = World()
    sizes = world.sizes()
    world.transacted(result)
    assert world.sizes() == sizes
    assert [change for _, change, _ in world.told()] == ["one message in 2 s"]
