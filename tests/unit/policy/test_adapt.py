"""Adaptive rules: which reply changes a destination's pace, and which does not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.policy.adapt import (
    EVERYBODY,
    Action,
    Adaptation,
    Adaptations,
    Change,
    too_many_connections,
)


def reply(words: str) -> Reply:
    return Reply(int(words[:3]), words[4:])


ONE = Adaptation("one", "later", Action.SLOWER, 10, 0.25)
ALL = Adaptation(EVERYBODY, "later|never", Action.PAUSE, 20)
RULES = Adaptations([ALL, ONE])


def test_a_providers_own_rule_comes_first_and_the_first_that_fits_decides() -> None:
    rules = Adaptations([ALL, ONE, Adaptation("one", "later", Action.FEWER, 99)])
    why = 'a rule for one: slower on "later"'
    assert rules.decide("one", Reply(450, "LATER")) == Change(Action.SLOWER, 10, 0.25, why)
    assert rules.decide("one", Reply(450, "never")) == Change(
        Action.PAUSE, 20, 0.5, 'a rule for all: pause on "later|never"'
    )
    other = rules.decide("two", Reply(450, "later"))
    assert other is not None
    assert other.seconds == 20


def test_a_pause_is_as_long_as_the_reply_says() -> None:
    rules = Adaptations([ALL, ONE])
    words = Reply(451, "try again later, in 7 minutes")
    pause, slower = rules.decide("", words), rules.decide("one", words)
    assert pause is not None
    assert slower is not None
    assert (pause.seconds, slower.seconds) == (420, 10)


def test_lines_are_one_text_and_the_code_is_part_of_it() -> None:
    rules = Adaptations([Adaptation(EVERYBODY, "^421 .*too.*many", Action.PAUSE, 5)])
    assert rules.decide("", Reply(421, "too\nmany")) is not None
    assert rules.decide("", Reply(450, "too\nmany")) is None


def test_an_address_in_a_reply_says_nothing() -> None:
    rules = Adaptations([Adaptation(EVERYBODY, "throttl", Action.SLOWER, 5)])
    assert rules.decide("", Reply(450, "4.2.0 <throttle-alerts@y.test>: Recipient address rejected")) is None
    assert rules.decide("", Reply(450, "4.2.0 a@throttle.test: later")) is None
    assert rules.decide("", Reply(450, "4.2.0 <a@y.test>: throttled")) is not None


def test_groups_of_a_pattern_mean_what_they_mean_alone() -> None:
    rules = Adaptations(
        [Adaptation(EVERYBODY, r"(a)b\1", Action.PAUSE, 5), Adaptation(EVERYBODY, r"(c)d\1", Action.PAUSE, 6)]
    )
    found = rules.decide("", Reply(450, "cdc"))
    assert found is not None
    assert found.seconds == 6
    assert rules.decide("", Reply(450, "cda")) is None


@pytest.mark.parametrize("pattern", ["(", "x(?i)y", "(?i)x"])
def test_what_is_no_pattern_is_an_error(pattern: str) -> None:
    with pytest.raises(re.error):
        Adaptations([Adaptation(EVERYBODY, pattern, Action.PAUSE, 5)])


@given(st.integers(200, 599), st.text(max_size=1500), st.sampled_from(["", "one", "two"]))
def test_any_reply_has_an_answer(code: int, text: str, provider: str) -> None:
    change = RULES.decide(provider, Reply(code, text))
    assert change is None or code >= 400


CONNECTIONS = [
    "421 4.7.0 mx.example Error: too many connections from 192.0.2.1",
    "421 Too many concurrent SMTP connections from this IP address; please try again later.",
    "421 Too many sessions opened",
    "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing channel",
    "452 4.7.0 Maximum connections exceeded",
    "421 mwinf ME Trop de connexions, veuillez verifier votre configuration. OFR004_104",
    "450 4.7.1 Connection concurrency limit reached",
    "421 HL:ICC 163 mx5",
]
BARE = [
    "421 ",
    "421 mx.example",
    "421 mx.example Service not available, closing transmission channel",
    "421 4.3.2 Service not available",
    "421 mx.example ESMTP service unavailable",
    "421 mx.example busy, please try again later.",
]
NEITHER = [
    "421 Too many connections from your IP in the last minute",
    "250 too many connections",
    "554 5.7.1 Too many connections",
    "421 4.4.2 mx.example Error: timeout exceeded",
    "421 4.4.2 connection timeout exceeded",
    "421 4.4.2 Maximum session time exceeded",
    "421 too many messages in this connection",
    "421 max message per connection",
    "421 4.7.0 TLS required for RCPT domain, closing connection.",
    "421 4.7.0 mx.example Error: too many errors",
    "421 Connection rate limit exceeded",
    "450 4.7.1 Too many connections per minute",
    "450 4.7.1 Error: too many messages from 192.0.2.1",
    "450 4.2.1 mailbox busy",
]


@pytest.mark.parametrize("words", CONNECTIONS)
@pytest.mark.parametrize("phase", Phase)
def test_too_many_connections(words: str, phase: Phase) -> None:
    early = phase in (Phase.GREETING, Phase.EHLO, Phase.MAIL)
    assert too_many_connections(reply(words), phase) is early


@pytest.mark.parametrize("words", BARE)
def test_a_bare_421_counts_as_a_greeting_only(words: str) -> None:
    assert too_many_connections(reply(words))
    assert not too_many_connections(reply(words), Phase.EHLO)
    assert not too_many_connections(reply(f"450{words[3:]}"))


@pytest.mark.parametrize("words", NEITHER)
def test_what_is_about_something_else(words: str) -> None:
    assert not too_many_connections(reply(words))
