"""The books: what is claimable when, what is open, what is owed. The engines' contract covers the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.envelope import DomainRun, Envelope, Flow
from backstamp.mail.reply import Reply
from backstamp.queue import ledger as ledgers
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.ledger import Among, Ledger
from backstamp.queue.port import Reason
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import FINAL, NEXT, WAITING, Stamp

T, D, F, B = Stamp.TODO, Stamp.DELIVERED, Stamp.FAILED, Stamp.BOUNCED
MAIL = Envelope(b"s@origin.example", ())
WHY = Reason((0,), Reply(550, "no"))


def segment() -> Segment:
    return Segment("d", 1, bytes(16), -1, -1, bytearray([T]) * 100)


def entry(
    ledger: Ledger, home: Segment, first: int = 0, count: int = 2, *, queue_id: bytes = b"1" * 16
) -> Entry:
    return ledger.enter(home, Facts(queue_id, 0, 16, 10, 2, first, count, 0))


def test_claims_leave_when_they_are_due() -> None:
    ledger = Ledger(hot_limit=0)
    one = entry(ledger, segment())
    ledger.release_later(one, [DomainRun(b"a", 0, 2)], MAIL, due=5.0)
    assert ledger.take(10, 4.9) == []
    assert ledger.next_due() == 5.0
    [waiting] = ledger.scheduled()
    assert waiting.due == 5.0
    [claim] = ledger.take(10, 5.0)
    assert (ledger.claimed, claim.ordinals(), claim.waiting) == (1, [0, 1], 2)


def test_what_is_hurried_is_claimed_once() -> None:
    ledger = Ledger(hot_limit=0)
    one = entry(ledger, segment())
    ledger.release_later(one, [DomainRun(b"a", 0, 1), DomainRun(b"b", 1, 1)], MAIL, due=5.0)
    ledger.hurry(one, [1])
    ledger.hurry(one, [1])
    [claim] = ledger.take(10, 1.0)
    assert (claim.domain, ledger.claimed, len(ledger.scheduled())) == (b"b", 1, 1)
    ledger.give_back(claim, 9.0)
    assert [claim.domain for claim in ledger.take(10, 8.0)] == [b"a"]
    assert [claim.domain for claim in ledger.take(10, 9.0)] == [b"b"]


def test_a_finished_message_and_its_deliveries_let_go_of_each_other() -> None:
    """Neither is seen by the garbage collector: a ring of them would stay for ever."""
    ledger = Ledger(hot_limit=0)
    one = entry(ledger, segment())
    ledger.release(one, [DomainRun(b"a", 0, 1), DomainRun(b"b", 1, 1)], MAIL)
    assert [claim.entry for claim in one.deliveries] == [one, one]
    ledger.mark(one, {0: D, 1: D})
    ledger.close(one)
    assert one.deliveries == ()
    for claim in ledger.take(10, 0.0):
        ledger.give_back(claim, 0.0)
    assert ledger.claimed == 0


def test_flows_are_shared_and_what_is_kept_of_them_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_NAMES", 4)
    ledger, home = Ledger(hot_limit=0), segment()
    domains = [b"%d.example" % number for number in range(20)]
    for first, domain in enumerate(domains):
        plain, said = Envelope(b"s@" + domain, ()), Envelope(b"t@" + domain, (), b"BODY=8BITMIME")
        for envelope in (plain, said, plain):
            one = entry(ledger, home, first, 1, queue_id=domain.ljust(16))
            ledger.release(one, [DomainRun(b"a", 0, 1)], envelope)
        assert len(ledger._flows) <= 5
    claims = ledger.take(100, 0.0)
    assert [claim.flow for claim in claims] == [Flow(domain) for domain in domains for _ in range(3)]
    assert len({id(claim.flow) for claim in claims}) == len(domains)


def test_hot_mail_is_bounded_and_cools_after_the_first_attempt() -> None:
    ledger, home = Ledger(hot_limit=1), segment()
    first, second = entry(ledger, home), entry(ledger, home, 2, queue_id=b"2" * 16)
    for one in (first, second):
        ledger.keep_hot(one, Envelope(b"", ()), b"x")
        ledger.release(one, [DomainRun(b"a", 0, 2)], MAIL)
    assert first.hot is not None
    assert second.hot is None
    claim, _ = ledger.take(10, 0.0)
    ledger.give_back(claim, 1.0)
    assert first.hot is None
    ledger.keep_hot(second, Envelope(b"", ()), b"x")
    assert second.hot is not None


def test_a_segment_is_removable_when_all_in_it_is_final() -> None:
    ledger, home = Ledger(hot_limit=0), segment()
    one, two = entry(ledger, home), entry(ledger, home, 2, queue_id=b"2" * 16)
    home.sealed = True
    for member, marks in ((one, {0: D, 1: D}), (one, {}), (two, {0: D})):
        ledger.mark(member, marks)
        ledger.close(member)
        assert not home.removable
    ledger.mark(two, {1: D})
    ledger.close(two)
    ledger.close(two)
    assert home.removable
    assert (home.live, home.live_octets) == (0, 0)
    home.busy = 1
    assert not home.removable


def test_an_unsealed_segment_is_never_finished() -> None:
    ledger, home = Ledger(hot_limit=0), segment()
    one = entry(ledger, home)
    ledger.mark(one, {0: D, 1: D})
    ledger.close(one)
    assert home.live == 0
    assert not home.removable


def test_runs_are_neighbours_written_together() -> None:
    ledger = Ledger(hot_limit=0)
    one = entry(ledger, segment(), count=6)
    assert ledger.mark(one, {4: D, 0: D, 1: F, 5: F}) == [(0, bytes([D, F])), (4, bytes([D, F]))]
    assert ledger.mark(one, {2: D}) == [(2, bytes([D]))]
    assert ledger.mark(one, {}) == []


def test_reasons_pin_their_segment_until_the_report() -> None:
    ledger, home, other = Ledger(hot_limit=0), segment(), segment()
    other.sealed = True
    one = entry(ledger, home)
    ledger.mark(one, {0: F})
    ledger.owe(one, [0], [WHY], other, 300.0)
    assert not other.removable
    debt = ledger.take_report(0.0)
    assert debt is not None
    ledger.mark(one, {0: B})
    assert ledger.settle(debt) == [other]


def test_a_postponed_report_is_due_again() -> None:
    ledger, home = Ledger(hot_limit=0), segment()
    one = entry(ledger, home)
    ledger.mark(one, {0: F})
    ledger.owe(one, [0], [WHY], home, 300.0)
    assert ledger.report_ready
    debt = ledger.take_report(0.0)
    assert debt is not None
    assert ledger.take_report(1000.0) is None
    ledger.postpone(debt, 1060.0)
    assert ledger.take_report(1059.0) is None
    assert ledger.next_report() == 1060.0
    assert ledger.take_report(1060.0) is not None


def test_two_messages_of_one_id_are_counted_apart() -> None:
    ledger, home = Ledger(hot_limit=0), segment()
    one, twin = entry(ledger, home), entry(ledger, home, 2)
    home.sealed = True
    for member in (one, twin):
        ledger.mark(member, {0: D, 1: D})
    ledger.close(one)
    assert (ledger.messages, home.removable) == (1, False)
    ledger.close(twin)
    assert home.removable
    assert not ledger.messages


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(sorted(Stamp))), max_size=30))
def test_the_counts_are_those_of_the_stamps(moves: list[tuple[int, Stamp]]) -> None:
    ledger = Ledger(hot_limit=0)
    one = entry(ledger, segment(), count=5)
    stamps = [T] * 5
    for ordinal, stamp in moves:
        if stamp is stamps[ordinal] or stamp in NEXT[stamps[ordinal]]:
            ledger.mark(one, {ordinal: stamp})
            stamps[ordinal] = stamp
    assert [one.stamp(ordinal) for ordinal in range(5)] == stamps
    assert ledger.waiting == sum(stamp in WAITING for stamp in stamps)
    assert one.finished == all(stamp in FINAL for stamp in stamps)


@pytest.mark.parametrize(
    ("ordinals", "run", "there"),
    [
        ([], (0, 5), False),
        ([3], (3, 1), True),
        ([3], (0, 3), False),
        ([9, 1], (2, 7), False),
        ([9, 1], (2, 8), True),
    ],
)
def test_whether_any_of_some_is_in_a_run(ordinals: list[int], run: tuple[int, int], there: bool) -> None:
    assert Among(ordinals)(*run) is there
