"""What an attempt keeps of its outcomes: who is done, who is for the next host, what is told in the end."""

import pytest

from backstamp.delivery.progress import Progress, worse
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply


def outcome(verdict: Verdict, scope: Scope, code: int = 450) -> Outcome:
    return Outcome(verdict, Reply(code), scope)


DELIVERED = outcome(Verdict.DELIVERED, Scope.MESSAGE, 250)
REFUSED = outcome(Verdict.FAILED, Scope.RECIPIENT, 550)
LATER = outcome(Verdict.DEFERRED, Scope.MESSAGE)
BROKEN = outcome(Verdict.DEFERRED, Scope.HOST)
FORBIDDEN = outcome(Verdict.FAILED, Scope.HOST, 550)


def test_whoever_met_a_hosts_trouble_stays_for_the_next() -> None:
    progress = Progress({number: Recipient(b"r%d@x.example" % number) for number in range(4)}, {}, {})
    progress.done({0: DELIVERED, 1: REFUSED, 2: LATER, 3: BROKEN}, 1.5)
    assert list(progress.pending) == [3]
    assert progress.outcomes == {1: REFUSED, 2: LATER}
    assert progress.durations == {1: 1.5, 2: 1.5}
    assert progress.last == BROKEN and progress.failed_by_host


def test_only_who_is_done_with_was_refused_for_something_else() -> None:
    """Who goes to the next host may be refused there for a reason of its own."""
    progress = Progress({number: Recipient(b"r%d@x.example" % number) for number in range(3)}, {}, {})
    progress.done({0: REFUSED, 1: BROKEN, 2: DELIVERED}, 1.5, {0, 1})
    assert progress.impersonal == {0}
    progress.done({1: REFUSED}, 1.5)
    assert progress.impersonal == {0}


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (None, FORBIDDEN, FORBIDDEN),
        (FORBIDDEN, BROKEN, BROKEN),
        (BROKEN, FORBIDDEN, BROKEN),
        (LATER, BROKEN, BROKEN),
    ],
)
def test_temporary_trouble_outweighs_what_is_final_elsewhere(
    first: Outcome | None, second: Outcome, told: Outcome
) -> None:
    assert worse(first, second) == told


@pytest.mark.parametrize("last", [None, LATER, FORBIDDEN])
def test_what_is_no_hosts_passing_trouble(last: Outcome | None) -> None:
    assert not Progress({}, {}, {}, last).failed_by_host
