"""The fold: records and stamps, in order, become what waits, what is held and what is owed.

The one judge for recovery, `queue list` on a stopped queue, fsck and tests. Pure: it is fed
what a reader found and gives values; it changes no file. Facts it relies on: a message may
stand in two segments with the same checksums (a copy made by compaction: the higher number
wins), a report's record names the failures it covers (Q5), and a stamp that is not exactly
a codeword reads as `T`, or as `H` for at-most-once mail (Q3).
"""

import contextlib

import msgspec

from backstamp.mail.envelope import DomainRun, Envelope, domain_runs
from backstamp.queue import ids, stamps
from backstamp.queue.port import Flag, Reason
from backstamp.queue.record import Header, covered
from backstamp.queue.stamps import FINAL, WAITING, Stamp


class Found(msgspec.Struct, gc=False):
    """A message with a stamp that is not final, and where it stands."""

    segment: int
    header: Header
    stamps: list[Stamp]
    runs: tuple[DomainRun, ...]
    """Runs of recipients of one domain of which somebody still waits."""
    unreadable: int = 0
    """Stamps that were no codeword."""

    def ordinals(self, stamp: Stamp) -> tuple[int, ...]:
        """Return who stands at a stamp."""
        return tuple(ordinal for ordinal, found in enumerate(self.stamps) if found is stamp)


class KeptReasons(msgspec.Struct, gc=False):
    """Reasons found for a message, and the segment that keeps them."""

    segment: int
    reasons: tuple[Reason, ...]


class Fold:
    """Feed it every record of every segment, in order; then ask."""

    def __init__(self) -> None:
        self.messages: dict[bytes, Found] = {}
        self.reasons: dict[bytes, list[KeptReasons]] = {}
        self.superseded: list[Found] = []
        """Copies whose message lives on in a segment of a higher number."""
        self._covered: dict[bytes, set[int]] = {}
        self._twins: list[Found] = []

    def mail(self, segment: int, header: Header, envelope: Envelope, image: bytes | bytearray) -> None:
        """Take one verified message with its segment's stamps as they are on disk."""
        if header.flags & Flag.REPORT and (covers := covered(envelope.parameters)) is not None:
            with contextlib.suppress(ValueError):
                self._covered.setdefault(ids.parse(covers[0]), set()).update(covers[1])
        once = bool(header.flags & Flag.AT_MOST_ONCE)
        raw = image[header.first_stamp : header.first_stamp + header.recipients]
        read = [stamps.read(byte, at_most_once=once) for byte in raw]
        # A stamps file that is missing or cut short reads like one whose every byte is unreadable.
        lost = header.recipients - len(raw)
        marks = [stamp for stamp, _ in read] + [Stamp.HELD if once else Stamp.TODO] * lost
        found = Found(segment, header, marks, (), lost + sum(not readable for _, readable in read))
        twin = self.messages.get(header.queue_id)
        if twin is not None and _same(twin.header, header):
            self.superseded.append(twin)
        elif twin is not None:
            self._twins.append(twin)
        if all(mark in FINAL for mark in marks):
            self.messages.pop(header.queue_id, None)
            return
        found.runs = tuple(
            run
            for run in domain_runs(envelope.recipients)
            if any(mark in WAITING for mark in marks[run.first : run.first + run.count])
        )
        self.messages[header.queue_id] = found

    def reason(self, segment: int, header: Header, reasons: tuple[Reason, ...]) -> None:
        """Take one verified reason record."""
        self.reasons.setdefault(header.queue_id, []).append(KeptReasons(segment, reasons))

    def open(self) -> list[Found]:
        """Return every message with a stamp that is not final, in order of arrival in the files."""
        return [*self._twins, *self.messages.values()]

    def reported(self, found: Found) -> tuple[int, ...]:
        """Return the failures of a message that a report on disk covers: they become `B` (Q5)."""
        covers = self._covered.get(found.header.queue_id, ())
        return tuple(ordinal for ordinal in found.ordinals(Stamp.FAILED) if ordinal in covers)


def _same(one: Header, other: Header) -> bool:
    return one.envelope_crc == other.envelope_crc and one.content_crc == other.content_crc
