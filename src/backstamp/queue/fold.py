"""The fold: records and stamps become what waits, what is held and what is owed.

The one judge for recovery, `queue list` on a stopped queue, fsck and tests. Pure: it is fed
what a reader found, one segment after the other, and gives values; it changes no file. It
keeps only what concerns several segments: why recipients failed, and which failures a
report names (Q5). A stamp that is not exactly a codeword reads as `T`, of at-most-once mail
as `H` (Q3); so does `?` of at-most-once mail, because nobody may send that again unasked.
"""

import contextlib
from typing import Final

import msgspec

from backstamp.mail.envelope import DomainRun, Envelope, domain_runs
from backstamp.queue import ids, keys, stamps
from backstamp.queue.port import Flag, Reason
from backstamp.queue.reader import Scan
from backstamp.queue.record import Header, Kind, covered
from backstamp.queue.segment import CAPACITY
from backstamp.queue.stamps import FINAL, WAITING, Stamp

_TODO: Final = bytes([Stamp.TODO])
_FINAL: Final = bytes(FINAL)


class Found(msgspec.Struct, gc=False):
    """A message with a stamp that is not final, and where it stands."""

    segment: int
    header: Header
    envelope: Envelope
    stamps: bytes
    """As they are to be taken, one octet each."""
    runs: tuple[DomainRun, ...]
    """Runs of recipients of one domain of which somebody still waits."""
    doubts: tuple[int, ...] = ()
    """Who was in doubt; of at-most-once mail they are held now."""
    unreadable: int = 0
    """Stamps that were no codeword."""

    def ordinals(self, stamp: Stamp) -> tuple[int, ...]:
        """Return who stands at a stamp."""
        return tuple(ordinal for ordinal, found in enumerate(self.stamps) if found == stamp)


class Judged(msgspec.Struct):
    """What a segment comes to."""

    open: list[Found]
    """Messages with a stamp that is not final, in the order of the file."""
    image: bytearray
    """The stamps as they are to be taken."""
    keys: bytes = b""
    """The keys of all its messages, finished ones among them, in rows (`queue.keys`, Q13)."""
    proves: bool = False
    """It holds reasons, or reports: what other segments owe depends on it (Q5)."""
    rewrite: bool = False
    """The image must be durable before anything is sent: at-most-once mail is held."""


class KeptReasons(msgspec.Struct, gc=False):
    """Reasons found for a message, and the segment that keeps them."""

    segment: int
    reasons: tuple[Reason, ...]


class Fold:
    """Feed it every segment; then ask what reports there are."""

    def __init__(self) -> None:
        self.reasons: dict[bytes, list[KeptReasons]] = {}
        self._covered: dict[bytes, set[int]] = {}

    def take(self, scan: Scan) -> Judged:
        """Take one segment as it was read; judge the messages in it. It may be taken again."""
        image = bytearray(_TODO * CAPACITY)
        image[: len(scan.image)] = scan.image
        judged = Judged([], image)
        named = bytearray()
        for record in scan.records:
            header = record.header
            if header.kind == Kind.REASON:
                judged.proves = True
                kept = KeptReasons(scan.number, record.reasons)
                before = self.reasons.setdefault(header.queue_id, [])
                if kept not in before:
                    before.append(kept)
            elif header.kind == Kind.MAIL:
                if header.flags & Flag.REPORT:
                    judged.proves = True
                    self._covers(record.envelope)
                if record.envelope.parameters and (key := keys.told(record.envelope)):
                    named += key + header.queue_id
                raw = scan.image[header.first_stamp : header.first_stamp + header.recipients]
                if len(raw) < header.recipients or raw.translate(None, _FINAL):
                    judged.open.append(self._judge(scan.number, header, record.envelope, raw, judged))
        judged.keys = bytes(named)
        return judged

    def _covers(self, envelope: Envelope) -> None:
        if (covers := covered(envelope.parameters)) is not None:
            with contextlib.suppress(ValueError):
                self._covered.setdefault(ids.parse(covers[0]), set()).update(covers[1])

    def _judge(self, number: int, header: Header, envelope: Envelope, raw: bytes, judged: Judged) -> Found:
        count = header.recipients
        if raw == _TODO * count:
            runs = tuple(domain_runs(envelope.recipients))
            return Found(number, header, envelope, raw, runs)
        once = bool(header.flags & Flag.AT_MOST_ONCE)
        read = [stamps.read(byte, at_most_once=once) for byte in raw]
        # A stamps file that is missing or cut short reads like one whose every byte is unreadable.
        lost = count - len(raw)
        marks = [stamp for stamp, _ in read] + [Stamp.HELD if once else Stamp.TODO] * lost
        doubts = tuple(ordinal for ordinal, mark in enumerate(marks) if mark is Stamp.DOUBT)
        if once:
            for ordinal in doubts:
                marks[ordinal] = Stamp.HELD
        settled = bytes(marks)
        judged.rewrite = judged.rewrite or (once and settled != raw)
        judged.image[header.first_stamp : header.first_stamp + count] = settled
        runs = tuple(
            run
            for run in domain_runs(envelope.recipients)
            if any(mark in WAITING for mark in marks[run.first : run.first + run.count])
        )
        unreadable = lost + sum(not readable for _, readable in read)
        return Found(number, header, envelope, settled, runs, doubts, unreadable)

    def reported(self, queue_id: bytes, failed: tuple[int, ...]) -> tuple[int, ...]:
        """Return the failures of a message that a report on disk covers: they become `B` (Q5)."""
        covers = self._covered.get(queue_id, ())
        return tuple(ordinal for ordinal in failed if ordinal in covers)
