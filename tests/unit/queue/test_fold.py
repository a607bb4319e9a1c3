"""The fold: records and stamps in, what waits and what is owed out."""

from backstamp.mail.envelope import DomainRun, Envelope, Recipient
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.fold import Fold
from backstamp.queue.port import Flag, Reason
from backstamp.queue.record import Header, Kind, covers
from backstamp.queue.stamps import Stamp

T, D, F, B, H = Stamp.TODO, Stamp.DELIVERED, Stamp.FAILED, Stamp.BOUNCED, Stamp.HELD
TWO = Envelope(b"s@x.example", (Recipient(b"a@one.example"), Recipient(b"b@two.example")))
ID = ids.make(1, bytes(10))


def header(
    first: int = 0, *, queue_id: bytes = ID, flags: Flag = Flag.NONE, crc: int = 1, count: int = 2
) -> Header:
    return Header(Kind.MAIL, flags, 16, 10, count, 5, first, 7, queue_id, 16, 0, crc, crc)


def image(*stamps: int) -> bytes:
    return bytes(stamps)


def test_who_waits_is_grouped_by_domain() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(D, T))
    [found] = fold.open()
    assert found.runs == (DomainRun(b"two.example", 1, 1),)
    assert found.ordinals(D) == (0,)


def test_what_is_final_is_done() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(D, B))
    assert fold.open() == []


def test_held_and_owed_messages_are_open_and_wait_for_nobody() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(H, F))
    [found] = fold.open()
    assert found.runs == ()
    assert fold.reported(found) == ()


def test_unreadable_and_missing_stamps() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(0x00))
    [found] = fold.open()
    assert (found.stamps, found.unreadable) == ([T, T], 2)
    fold = Fold()
    fold.mail(1, header(flags=Flag.AT_MOST_ONCE), TWO, b"")
    [found] = fold.open()
    assert (found.stamps, found.unreadable) == ([H, H], 2)


def test_a_report_covers_what_it_names_and_nothing_else() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(F, F))
    report = Envelope(b"", (Recipient(b"s@x.example"),), covers(ids.text(ID), (1,)))
    # A report that is all done proves as much as one that waits.
    fold.mail(2, header(queue_id=ids.make(2, bytes(10)), flags=Flag.REPORT, count=1), report, image(D))
    [found] = fold.open()
    assert fold.reported(found) == (1,)


def test_only_reports_cover() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(F, F))
    forged = Envelope(b"x@y.example", (Recipient(b"s@x.example"),), covers(ids.text(ID), (0, 1)))
    nonsense = Envelope(b"", (Recipient(b"s@x.example"),), b"REPORTS=what:0")
    fold.mail(1, header(queue_id=ids.make(2, bytes(10)), count=1), forged, image(D))
    fold.mail(1, header(queue_id=ids.make(3, bytes(10)), flags=Flag.REPORT, count=1), nonsense, image(D))
    [found] = fold.open()
    assert fold.reported(found) == ()


def test_reasons_are_kept_with_their_segment() -> None:
    fold = Fold()
    reason = Reason((1,), Reply(550, "no"))
    fold.reason(3, header(), (reason,))
    [kept] = fold.reasons[ID]
    assert (kept.segment, kept.reasons) == (3, (reason,))


def test_of_two_copies_the_higher_number_wins() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(T, T))
    fold.mail(2, header(4), TWO, bytes(4) + image(D, T))
    [found] = fold.open()
    assert (found.segment, found.stamps) == (2, [D, T])
    assert [old.segment for old in fold.superseded] == [1]


def test_a_copy_that_is_done_ends_its_source() -> None:
    fold = Fold()
    fold.mail(1, header(), TWO, image(T, T))
    fold.mail(2, header(), TWO, image(D, D))
    assert fold.open() == []


def test_two_messages_of_one_id_are_both_kept() -> None:
    fold = Fold()
    fold.mail(1, header(crc=1), TWO, image(T, T))
    fold.mail(2, header(crc=2), TWO, image(T, T))
    assert [found.segment for found in fold.open()] == [1, 2]
