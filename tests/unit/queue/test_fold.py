"""The fold: records and stamps in, what waits and what is owed out."""

import msgspec

from backstamp.mail.envelope import DomainRun, Envelope, Recipient
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.fold import Fold
from backstamp.queue.port import Flag, Reason
from backstamp.queue.reader import Record, Scan
from backstamp.queue.record import Header, Kind, covers
from backstamp.queue.stamps import Stamp

T, D, F, B, H = Stamp.TODO, Stamp.DELIVERED, Stamp.FAILED, Stamp.BOUNCED, Stamp.HELD
Q = Stamp.DOUBT
TWO = Envelope(b"s@x.example", (Recipient(b"a@one.example"), Recipient(b"b@two.example")))
ID = ids.make(1, bytes(10))


def header(
    first: int = 0, *, queue_id: bytes = ID, flags: Flag = Flag.NONE, crc: int = 1, count: int = 2
) -> Header:
    return Header(Kind.MAIL, flags, 16, 10, count, 5, first, 7, queue_id, 16, 0, crc, crc)


def image(*stamps: int) -> bytes:
    return bytes(stamps)


def scan(number: int, stamps: bytes, *records: tuple[Header, Envelope]) -> Scan:
    found = [Record(header, envelope) for header, envelope in records]
    return Scan(number, bytes(16), 100, found, [], 100, True, stamps, True)


def test_who_waits_is_grouped_by_domain() -> None:
    fold = Fold()
    [found] = fold.take(scan(1, image(D, T), (header(), TWO))).open
    assert found.runs == (DomainRun(b"two.example", 1, 1),)
    assert found.ordinals(D) == (0,)


def test_what_is_final_is_done() -> None:
    fold = Fold()
    assert fold.take(scan(1, image(D, B), (header(), TWO))).open == []


def test_held_and_owed_messages_are_open_and_wait_for_nobody() -> None:
    fold = Fold()
    [found] = fold.take(scan(1, image(H, F), (header(), TWO))).open
    assert found.runs == ()
    assert fold.reported(ID, (1,)) == ()


def test_unreadable_and_missing_stamps() -> None:
    fold = Fold()
    [found] = fold.take(scan(1, image(0x00), (header(), TWO))).open
    assert (found.stamps, found.unreadable) == (image(T, T), 2)
    fold = Fold()
    [found] = fold.take(scan(1, b"", (header(flags=Flag.AT_MOST_ONCE), TWO))).open
    assert (found.stamps, found.unreadable) == (image(H, H), 2)


def test_a_report_covers_what_it_names_and_nothing_else() -> None:
    fold = Fold()
    fold.take(scan(1, image(F, F), (header(), TWO)))
    report = Envelope(b"", (Recipient(b"s@x.example"),), covers(ids.text(ID), (1,)))
    # A report that is all done proves as much as one that waits.
    fold.take(
        scan(2, image(D), (header(queue_id=ids.make(2, bytes(10)), flags=Flag.REPORT, count=1), report))
    )
    assert fold.reported(ID, (0, 1)) == (1,)
    assert fold.reported(ID, (0,)) == ()


def test_only_reports_cover() -> None:
    fold = Fold()
    forged = Envelope(b"x@y.example", (Recipient(b"s@x.example"),), covers(ids.text(ID), (0, 1)))
    nonsense = Envelope(b"", (Recipient(b"s@x.example"),), b"REPORTS=what:0")
    plain = header(queue_id=ids.make(2, bytes(10)), count=1)
    silly = header(queue_id=ids.make(3, bytes(10)), flags=Flag.REPORT, count=1)
    fold.take(scan(1, image(D), (plain, forged), (silly, nonsense)))
    assert fold.reported(ID, (0, 1)) == ()


def test_reasons_are_kept_with_their_segment() -> None:
    fold = Fold()
    reason = Reason((1,), Reply(550, "no"))
    fold.take(
        Scan(
            3,
            bytes(16),
            100,
            [Record(msgspec.structs.replace(header(), kind=Kind.REASON), TWO, (reason,))],
            [],
            100,
            True,
            b"",
            True,
        )
    )
    [kept] = fold.reasons[ID]
    assert (kept.segment, kept.reasons) == (3, (reason,))


def test_in_doubt_is_tried_again_but_held_where_it_must_come_once() -> None:
    fold = Fold()
    judged = fold.take(scan(1, image(Q, D), (header(), TWO)))
    [found] = judged.open
    assert (found.doubts, found.stamps, len(found.runs), judged.rewrite) == ((0,), image(Q, D), 1, False)
    judged = fold.take(scan(1, image(Q, T), (header(flags=Flag.AT_MOST_ONCE), TWO)))
    [found] = judged.open
    assert (found.doubts, found.stamps) == ((0,), image(H, T))
    assert [run.domain for run in found.runs] == [b"two.example"]
    assert judged.rewrite
    assert judged.image[:2] == image(H, T)


def test_the_image_is_what_is_to_be_taken_for_the_stamps() -> None:
    judged = Fold().take(scan(1, image(0, D), (header(), TWO)))
    assert judged.image[:3] == image(T, D, T)
    assert not judged.rewrite
