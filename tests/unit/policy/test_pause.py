"""Named pauses: what a refusal asks to wait, and the numbers that mean something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.policy import classify
from backstamp.policy.mx import DnsFault, DnsProblem
from backstamp.policy.pause import LONGEST, SHORTEST, named


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("try again in 5 minutes", 300),
        ("4.7.1 Greylisted, please try again after 300s", 300),
        ("4.7.1 <a@b.example>: Recipient address rejected: Greylisted for 5 minutes", 300),
        ("4.7.1 Greylisting in action, please come back in 00:04:59", 299),
        ("4.2.0 greylisted for 00:04:59 (see http://b.example/?ip=192.0.2.1)", 299),
        ("4.7.1 Graylisted, retry in 0:30", 30),
        ("4.7.1 Please retry after 1 hour", 3600),
        ("come back in 600 s", 600),
        ("deferred for 15 mins", 900),
        ("4.3.2 retry in 300 seconds", 300),
        ("Retry-After: 120 s", 120),
        ("You must wait at least 60 minutes", 3600),
        ("please wait 4m59s", 299),
        ("please wait 1 hour, 30 minutes and 5 seconds", 5405),
        ("try again in 4 min, 59 s", 299),
        ("please try 5 minutes later", 300),
        ("try again later (in 90sec)", 90),
        ("try again in 5 minute(s)", 300),
        ("Try again in an hour", 3600),
        ("retry in half an hour", 1800),
        ("wait five minutes", 300),
        ("4.7.1 try again in\n4.7.1 5 minutes", 300),
        ("blocked for 2 days", LONGEST),
        ("try again in 999999 hours", LONGEST),
        ("try again in 0 seconds", SHORTEST),
        ("retry in 1.5 hours", 5400),
        ("Too many messages in the last 24 hours, retry in 10 minutes", 600),
    ],
)
def test_named(text: str, seconds: float) -> None:
    found = named(Reply(451, text))
    assert found == seconds
    assert isinstance(found, float)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4.7.1 try again later",
        "4.7.1 Greylisted, see http://postgrey.schweikert.ch/help/b.example.html",
        "you sent 100 messages in the last 24 hours, try again later",
        "4.7.1 too many messages, try again later. Limit is 20 in 60 seconds",
        "try again later, limit of 100 per 60 minutes",
        "4.7.0 retry 192.0.2.5 minutes",
        "retry in 5.7.1 minutes",
        "try again in 10:30:11:22",
        "retry on port 587 s",
        "id 300 s",
        "message of 300 m deferred",
        "mailbox full, 5 minutes ago",
        "blocked 5 minutes ago",
        "try again in a few minutes",
        "wait 300",
        "try again in 300 messages",
        "delay is 5 minutesworth",
        "retry after 2026-11-24T10:00:00Z",
    ],
)
def test_a_number_that_is_something_else(text: str) -> None:
    assert named(Reply(451, text)) is None


@pytest.mark.parametrize("code", [250, 354, 399, 500, 550, 554])
def test_only_a_4yz_can_ask_for_patience(code: int) -> None:
    assert named(Reply(code, "try again in 5 minutes")) is None


@pytest.mark.parametrize("phase", Phase)
def test_the_relays_own_words_name_none(phase: Phase) -> None:
    assert named(classify.fault(Fault(phase, "timeout", "no reply in 300 s"), "mx").reply) is None
    assert named(classify.fault(Fault(phase, "timeout", "no connection in 30 s"), "mx").reply) is None


@pytest.mark.parametrize("problem", DnsProblem)
def test_nor_do_those_about_names(problem: DnsProblem) -> None:
    assert named(classify.dns(DnsFault(problem, "wait-5-minutes.example")).reply) is None


WORDS = [
    "try again",
    "in",
    "wait",
    "for",
    "after",
    "5",
    "99999999",
    "00:00:07",
    "minutes",
    "s",
    "h",
    ".",
    ":",
]


@given(
    st.integers(200, 599),
    st.one_of(st.text(max_size=2000), st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)),
)
def test_whatever_is_said_the_pause_is_bounded(code: int, text: str) -> None:
    found = named(Reply(code, text))
    assert found is None or (400 <= code <= 499 and SHORTEST <= found <= LONGEST)
