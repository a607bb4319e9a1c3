"""Classification, every row: which reply or fault at which place comes to what, and how far it reaches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy import classify
from backstamp.policy.mx import DnsFault, DnsProblem

DELIVERED, DEFERRED, FAILED = Verdict.DELIVERED, Verdict.DEFERRED, Verdict.FAILED
RECIPIENT, MESSAGE, HOST, DESTINATION = Scope.RECIPIENT, Scope.MESSAGE, Scope.HOST, Scope.DESTINATION

# What the phase makes of 250, 354, 421, 450, 550, and how far the last two reach.
ROWS = {
    Phase.CONNECT: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, DEFERRED, HOST),
    Phase.GREETING: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, DEFERRED, HOST),
    Phase.EHLO: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, DEFERRED, HOST),
    Phase.TLS: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, DEFERRED, HOST),
    Phase.AUTH: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, DEFERRED, HOST),
    Phase.MAIL: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, FAILED, MESSAGE),
    Phase.RCPT: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, FAILED, RECIPIENT),
    Phase.DATA: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, FAILED, MESSAGE),
    Phase.CONTENT: (DEFERRED, DEFERRED, DEFERRED, DEFERRED, FAILED, MESSAGE),
    Phase.FINAL: (DELIVERED, DEFERRED, DEFERRED, DEFERRED, FAILED, MESSAGE),
}
CODES = (250, 354, 421, 450, 550)
CASES = [
    (phase, code, verdict, HOST if code == 421 else row[-1])
    for phase, row in ROWS.items()
    for code, verdict in zip(CODES, row[:-1], strict=True)
]


def test_every_phase_has_a_row() -> None:
    assert set(ROWS) == set(Phase)


@pytest.mark.parametrize(("phase", "code", "verdict", "scope"), CASES)
def test_replies(phase: Phase, code: int, verdict: Verdict, scope: Scope) -> None:
    answer = Reply(code, "words")
    assert classify.reply(answer, phase, "mx.test") == Outcome(verdict, answer, scope, "mx.test")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("too many recipients", DEFERRED),
        ("", DEFERRED),
        ("5.5.3 too many recipients", DEFERRED),
        ("5.2.2 mailbox full", FAILED),
        ("5.3.4 too big", FAILED),
    ],
)
def test_a_552_to_a_recipient_may_mean_too_many_of_them(text: str, verdict: Verdict) -> None:
    assert classify.reply(Reply(552, text), Phase.RCPT, "").verdict is verdict


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.DATA, Phase.FINAL])
def test_a_552_elsewhere_is_final(phase: Phase) -> None:
    assert classify.reply(Reply(552, "too big"), phase, "").verdict is FAILED


@pytest.mark.parametrize(
    ("words", "too_many"),
    [
        (Reply(452, "4.5.3 Error: too many recipients"), True),
        (Reply(452, "Too many recipients"), True),
        (Reply(452, "4.5.3 Domain policy size per transaction exceeded, try a separate transaction"), True),
        (Reply(552, "Too many recipients"), True),
        (Reply(552, "5.5.3 Too many recipients"), True),
        (Reply(452, ""), True),
        (Reply(452, "Too many recipients received this hour"), False),
        (Reply(452, "4.5.3 Recipient rate exceeded"), False),
        (Reply(452, "4.2.2 over quota"), False),
        (Reply(452, "4.3.1 Insufficient system resources"), False),
        (Reply(452, "Requested action not taken: insufficient system storage"), False),
        (Reply(552, "5.2.2 mailbox full"), False),
        (Reply(552, "Mailbox full"), False),
        (Reply(450, "4.5.3 too many recipients"), False),
        (Reply(550, "5.5.3 too many recipients"), False),
    ],
)
def test_too_many_recipients_of_one_transaction(words: Reply, too_many: bool) -> None:
    assert classify.too_many_recipients(words) is too_many


BUSY = Reply(450, "4.7.1 Too many concurrent connections from 192.0.2.1")


@pytest.mark.parametrize(
    ("answer", "phase", "scope"),
    [
        (BUSY, Phase.MAIL, HOST),
        (BUSY, Phase.RCPT, RECIPIENT),
        (BUSY, Phase.FINAL, MESSAGE),
        (Reply(550, BUSY.text), Phase.MAIL, MESSAGE),
        (Reply(450, "4.7.1 Too many messages from 192.0.2.1"), Phase.MAIL, MESSAGE),
        (Reply(451, "4.7.650 rate limited due to IP reputation"), Phase.MAIL, MESSAGE),
        (Reply(450, "4.7.1 too many connections per minute"), Phase.MAIL, MESSAGE),
        (Reply(554, "5.7.1 blocked using zen.spamhaus.org"), Phase.MAIL, MESSAGE),
        (Reply(554, "5.7.1 blocked using zen.spamhaus.org"), Phase.GREETING, HOST),
        (Reply(421, "4.7.28 unusual rate of mail"), Phase.FINAL, HOST),
    ],
)
def test_how_far_a_refusal_reaches(answer: Reply, phase: Phase, scope: Scope) -> None:
    assert classify.reach(answer, phase) is scope
    assert classify.reply(answer, phase, "mx.test").scope is scope


@given(st.integers(-1, 1000), st.sampled_from(Phase))
def test_only_the_final_dot_delivers_and_only_a_5yz_fails(code: int, phase: Phase) -> None:
    verdict = classify.reply(Reply(code), phase, "").verdict
    assert (verdict is DELIVERED) == (200 <= code <= 299 and phase is Phase.FINAL)
    if verdict is FAILED:
        assert 500 <= code <= 599


@pytest.mark.parametrize("phase", Phase)
def test_a_session_that_breaks_is_the_hosts_trouble(phase: Phase) -> None:
    outcome = classify.fault(Fault(phase, "timeout", "no reply in 300 s"), "mx.test")
    status = {Phase.CONNECT: "4.4.1", Phase.TLS: "4.7.5", Phase.AUTH: "4.7.0"}.get(phase, "4.4.2")
    assert outcome == Outcome(DEFERRED, Reply(450, f"{status} no reply in 300 s"), HOST, "mx.test")


@pytest.mark.parametrize(
    ("problem", "verdict", "code", "status"),
    [
        (DnsProblem.NO_DOMAIN, FAILED, 550, "5.1.2"),
        (DnsProblem.NULL_MX, FAILED, 556, "5.1.10"),
        (DnsProblem.NO_ADDRESS, FAILED, 550, "5.4.4"),
        (DnsProblem.BAD_NAME, FAILED, 550, "5.1.2"),
        (DnsProblem.SERVER_FAILURE, DEFERRED, 451, "4.4.3"),
        (DnsProblem.TIMEOUT, DEFERRED, 451, "4.4.3"),
        (DnsProblem.ALIAS_LOOP, DEFERRED, 451, "4.4.3"),
    ],
)
def test_names_that_lead_nowhere(problem: DnsProblem, verdict: Verdict, code: int, status: str) -> None:
    outcome = classify.dns(DnsFault(problem, "example.test"))
    assert (outcome.verdict, outcome.scope, outcome.host) == (verdict, DESTINATION, "")
    assert (outcome.reply.code, str(outcome.reply.enhanced)) == (code, status)
    assert "example.test" in outcome.reply.text


@pytest.mark.parametrize("problem", DnsProblem)
def test_every_problem_of_dns_has_a_row(problem: DnsProblem) -> None:
    classify.dns(DnsFault(problem, "example.test"))


OURS = {
    "loop": (classify.loop("example.test"), FAILED, DESTINATION, "", 554, "5.4.6"),
    "forbidden": (
        classify.forbidden("mx.test", "127.0.0.1", "loopback"), FAILED, HOST, "mx.test", 550, "5.4.4",
    ),
    "address": (classify.no_smtputf8("mx.test", address=True), FAILED, MESSAGE, "mx.test", 553, "5.6.7"),
    "header": (classify.no_smtputf8("mx.test", address=False), FAILED, MESSAGE, "mx.test", 554, "5.6.9"),
    "8bit": (classify.no_8bitmime("mx.test"), FAILED, MESSAGE, "mx.test", 554, "5.6.3"),
    "size": (classify.too_big("mx.test", 20, 10), FAILED, MESSAGE, "mx.test", 552, "5.3.4"),
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_what_the_relay_decides_itself(name: str) -> None:
    outcome, verdict, scope, host, code, status = OURS[name]
    assert (outcome.verdict, outcome.scope, outcome.host) == (verdict, scope, host)
    assert (outcome.reply.code, str(outcome.reply.enhanced)) == (code, status)


def test_giving_up_tells_the_last_answer() -> None:
    last = Outcome(DEFERRED, Reply(451, "4.7.1 greylisted"), RECIPIENT, "mx.test")
    words = "5.4.7 delivery time expired; the last answer was: 451 4.7.1 greylisted"
    assert classify.expired(last) == Outcome(FAILED, Reply(554, words), RECIPIENT, "mx.test")
