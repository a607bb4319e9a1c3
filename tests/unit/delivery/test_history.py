"""What was answered so far: counted, bounded, forgotten in time."""

from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery.history import ANSWERS, LENGTH, History
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply

ID = b"\0" * 15 + b"\1"
PEOPLE = {0: Recipient(b"a@x.test"), 1: Recipient(b"b@y.test"), 2: Recipient(b"c@Y.test")}


def deferred(text: str, verdict: Verdict = Verdict.DEFERRED) -> Outcome:
    return Outcome(verdict, Reply(450, text), host="mx[192.0.2.1]:25")


class Claim:
    def __init__(self, domain: bytes, waiting: int) -> None:
        self.queue_id, self.domain, self.waiting = ID, domain, waiting


def test_each_domain_has_its_own_past() -> None:
    history = History()
    history.note(ID, PEOPLE, {0: deferred("x"), 1: deferred("y"), 2: deferred("y")}, attempt=1, now=5.0)
    first, second = history.get(ID, b"x.test"), history.get(ID, b"y.test")
    assert first is not None and second is not None
    assert [(one.reply.text, one.recipients) for one in first.heard] == [("x", 1)]
    assert [(one.reply.text, one.recipients) for one in second.heard] == [("y", 2)]
    assert history.get(ID, b"z.test") is None


def test_the_same_answer_is_counted_once_an_attempt() -> None:
    history = History()
    for attempt, now in ((1, 5.0), (1, 6.0), (2, 70.0)):
        history.note(ID, PEOPLE, {0: deferred("busy")}, attempt=attempt, now=now)
    past = history.get(ID, b"x.test")
    assert past is not None
    [heard] = past.heard
    assert (heard.times, heard.first, heard.last, heard.recipients) == (2, 5.0, 70.0, 1)
    assert (past.first, past.last) == (5.0, 70.0)


def test_an_attempt_of_several_transactions_counts_its_recipients_together() -> None:
    history = History()
    history.note(ID, PEOPLE, {1: deferred("busy")}, attempt=1, now=5.0)
    history.note(ID, PEOPLE, {2: deferred("busy")}, attempt=1, now=5.5)
    past = history.get(ID, b"y.test")
    assert past is not None
    assert past.heard[0].recipients == 2


def test_the_last_answer_stands_first_and_few_are_kept() -> None:
    history = History()
    for number in range(6):
        history.note(ID, PEOPLE, {0: deferred(str(number))}, attempt=number + 1, now=float(number))
    past = history.get(ID, b"x.test")
    assert past is not None
    assert [one.reply.text for one in past.heard] == ["5", "4", "3"]
    assert past.first == 0.0


def test_what_came_to_its_end_well_is_forgotten_and_a_failure_is_not() -> None:
    history = History()
    history.note(ID, PEOPLE, {0: deferred("x"), 1: deferred("y", Verdict.FAILED)}, attempt=1, now=5.0)
    history.ended(Claim(b"x.test", 1))
    assert history.get(ID, b"x.test") is not None
    history.ended(Claim(b"x.test", 0))
    history.ended(Claim(b"y.test", 0))
    history.ended(Claim(b"z.test", 0))
    assert history.get(ID, b"x.test") is None
    assert history.get(ID, b"y.test") is not None


def test_beyond_the_bound_the_one_not_heard_of_longest_goes() -> None:
    history = History(size=2)
    for number in (1, 2, 1, 3):
        history.note(bytes([number]), PEOPLE, {0: deferred("x")}, attempt=1, now=0.0)
    assert len(history) == 2
    assert history.get(b"\2", b"x.test") is None


@given(st.lists(st.tuples(st.text(max_size=2000), st.integers(1, 3)), max_size=20))
def test_whatever_is_said_it_stays_small(said: list[tuple[str, int]]) -> None:
    history = History()
    for text, attempt in said:
        history.note(ID, PEOPLE, {0: deferred(text)}, attempt=attempt, now=1.0)
    past = history.get(ID, b"x.test")
    heard = past.heard if past is not None else ()
    assert len(heard) <= ANSWERS
    assert all(len(one.reply.text) <= LENGTH for one in heard)
    assert (past is None) == (not said)
