"""Judging a transaction: what each recipient's answer is, and who goes again at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery.judge import again, impersonal, judge
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.outcome import Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result

OK = Reply(250, "2.1.5 Ok")
DONE = Reply(250, "2.0.0 queued")
ENOUGH = Reply(452, "4.5.3 Error: too many recipients")
OLD = Reply(552, "Too many recipients")
FULL = Reply(452, "4.2.2 mailbox full")
UNKNOWN = Reply(550, "5.1.1 unknown")


def result(
    *recipients: Reply | None, mail: Reply | None = OK, final: Reply | None = DONE, fault: Fault | None = None
) -> Result:
    return Result(list(recipients), mail=mail, data=Reply(354), final=final, fault=fault)


def test_those_beyond_what_a_transaction_takes_go_again() -> None:
    assert again(result(OK, UNKNOWN, OK, ENOUGH, FULL, OLD, ENOUGH), [3, 4, 5, 6, 7, 8, 9]) == [6, 8, 9]


def test_those_before_the_first_who_was_taken_do_not() -> None:
    assert again(result(ENOUGH, OK, ENOUGH), [0, 1, 2]) == [2]


@pytest.mark.parametrize(
    "answers",
    [
        result(ENOUGH, ENOUGH, final=None),
        result(UNKNOWN, ENOUGH, final=Reply(554, "5.5.1 no valid recipients")),
        result(OK, ENOUGH, final=Reply(451, "4.3.0 later")),
        result(OK, ENOUGH, final=Reply(421, "4.3.2 closing")),
        result(OK, ENOUGH, final=None, fault=Fault(Phase.FINAL, "timeout", "no reply")),
        result(OK, ENOUGH, mail=Reply(451, "4.3.0 later")),
        result(OK, ENOUGH, mail=None),
        result(OK, None),
        result(OK, FULL),
    ],
)
def test_nobody_goes_again_for_nothing(answers: Result) -> None:
    assert again(answers, [0, 1]) == []


def test_a_refused_content_is_an_answer_too() -> None:
    assert again(result(OK, ENOUGH, final=Reply(554, "5.7.1 spam")), [0, 1]) == [1]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        # A refusal of the sender, whatever was said to each recipient after it.
        (result(UNKNOWN, UNKNOWN, mail=UNKNOWN, final=None), {3, 4}),
        (result(None, mail=UNKNOWN, final=None), {3}),
        # One of the content, for all who were taken; where that is one, it may be about a mailbox.
        (result(OK, OK, final=UNKNOWN), {3, 4}),
        (result(OK, UNKNOWN, OK, final=UNKNOWN), {3, 5}),
        (result(OK, UNKNOWN, final=UNKNOWN), set()),
        (result(OK, final=UNKNOWN), set()),
        # To RCPT each answer is one recipient's.
        (result(OK, UNKNOWN, OK), set()),
        (result(UNKNOWN, UNKNOWN, final=None), set()),
    ],
)
def test_whose_refusal_tells_nothing_of_them(answers: Result, expected: set[int]) -> None:
    assert impersonal(answers, [3, 4, 5][: len(answers.recipients)]) == expected


def test_a_refusal_of_data_is_as_one_of_the_content() -> None:
    assert impersonal(Result([OK, OK], mail=OK, data=UNKNOWN), [0, 1]) == {0, 1}
    assert impersonal(Result([OK], mail=OK, data=UNKNOWN), [0]) == set()


@pytest.mark.parametrize(
    "answers", [(OK, Reply(421, "4.3.2 bye"), None), (Reply(421, "4.3.2 bye"), None, None)]
)
def test_a_421_tells_why_those_behind_it_got_no_answer(answers: tuple[Reply | None, ...]) -> None:
    for outcome in judge(Result([*answers], mail=OK), [0, 1, 2], "mx").values():
        assert (outcome.verdict, outcome.scope) == (Verdict.DEFERRED, Scope.HOST)
        assert outcome.reply == Reply(421, "4.3.2 bye")


replies = st.sampled_from([None, OK, ENOUGH, OLD, FULL, UNKNOWN, Reply(421, "4.3.2 bye")])


@given(st.lists(replies, max_size=8), st.sampled_from([None, DONE, Reply(451, ""), Reply(554, "")]))
def test_each_round_answers_for_somebody(answers: list[Reply | None], final: Reply | None) -> None:
    one = result(*answers, final=final)
    ordinals = list(range(10, 10 + len(answers)))
    outcomes = judge(one, ordinals, "mx.test")
    found = again(one, ordinals)
    assert all(outcomes[ordinal].verdict is Verdict.DEFERRED for ordinal in found)
    assert all(outcomes[ordinal].scope is Scope.RECIPIENT for ordinal in found)
    if found:
        rest = set(ordinals) - set(found)
        assert any(outcomes[ordinal].verdict is not Verdict.DEFERRED for ordinal in rest)
