"""The ledger: what waits, what is claimed, what is owed, in memory, for every engine alike.

Nothing here is truth (Q7): it is made from records and stamps and can be made again. The
stamps it judges by are the segment's image, which runs ahead of the disk by one commit.
Pure: times are monotonic seconds given by the caller. Who waits for what is the engine's.
"""

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from backstamp.mail.envelope import DomainRun, Envelope, Flow, domain_of
from backstamp.mail.envelope import flow as flow_of
from backstamp.queue import entry as entries
from backstamp.queue import stamps
from backstamp.queue.entry import BY_BYTE, CLAIMED, ENDED, IS_WAITING, SCHEDULED, Claim, Entry, Facts
from backstamp.queue.port import Reason
from backstamp.queue.schedule import Schedule
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import Stamp

_NAMES = 65536
"""Domains, and flows, that deliveries share, so that a million of one domain hold one name."""


class Among:
    """Tells whether any of some ordinals lies in a run."""

    def __init__(self, ordinals: Iterable[int]) -> None:
        self._sorted = sorted(ordinals)

    def __call__(self, first: int, count: int) -> bool:
        """Tell it of the `count` ordinals from `first` on."""
        at = bisect_left(self._sorted, first)
        return at < len(self._sorted) and self._sorted[at] < first + count


class Debt:
    """What is owed to a sender: reasons, and the segments that keep them."""

    __slots__ = ("claimed", "entry", "failed", "pinned", "ready", "reasons")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.reasons: list[Reason] = []
        self.failed: set[int] = set()
        """Whose `F` is durable."""
        self.pinned: list[Segment] = []
        self.ready = False
        self.claimed = False

    def due(self) -> tuple[int, ...]:
        """Return who is to be reported. Not who fails just now: neither `F` nor reason is durable (Q5)."""
        return tuple([one for one in self.entry.ordinals(Stamp.FAILED) if one in self.failed])


class Ledger:
    """The books of one partition."""

    def __init__(self, *, hot_limit: int) -> None:
        self.messages = 0
        """Messages with a stamp that is not final."""
        self.waiting = 0
        """Recipients still to be delivered."""
        self._hot_limit = hot_limit
        self._hot = 0
        self._numbers = 0
        self._ready: deque[Claim] = deque()
        self._later: list[Claim] = []
        self.claimed = 0
        """Deliveries claimed and not given back."""
        self._names: dict[bytes, bytes] = {}
        self._flows: dict[bytes | Flow, Flow] = {}
        self._debts: dict[Entry, Debt] = {}
        self._reports: deque[Debt] = deque()
        self._reporting: dict[bytes, Debt] = {}
        self._report_checks: Schedule[Debt] = Schedule()

    # ---- messages in and out ----

    def enter(self, segment: Segment, facts: Facts) -> Entry:
        """Count a durable record in; its deliveries follow with `release`."""
        entry = entries.enter(segment, facts)
        segment.live += 1
        segment.live_octets += facts.length
        self.messages += 1
        image = segment.image[facts.first : facts.first + facts.recipients]
        self.waiting += image.translate(IS_WAITING).count(1)
        return entry

    def move(self, entry: Entry, segment: Segment, offset: int, first: int) -> None:
        """Give a message another place: its record was copied there, its stamps as they stand."""
        octets = entry.facts.length
        entry.segment.live -= 1
        entry.segment.live_octets -= octets
        entries.move(entry, segment, offset, first)
        segment.live += 1
        segment.live_octets += octets

    def keep_hot(self, entry: Entry, envelope: Envelope, content: bytes) -> None:
        """Keep a message in memory until its first attempt, if there is room."""
        length = len(content)
        if self._hot + length <= self._hot_limit:
            self._hot += length
            entry.hot = (envelope, content)

    def release(self, entry: Entry, runs: Sequence[DomainRun], envelope: Envelope) -> None:
        """Make some of a message's deliveries claimable now."""
        self._ready.extend(self._deliveries(entry, runs, envelope, 0.0))

    def release_later(self, entry: Entry, runs: Sequence[DomainRun], envelope: Envelope, due: float) -> None:
        """Make some of a message's deliveries claimable at the monotonic time `due`."""
        for claim in self._deliveries(entry, runs, envelope, due):
            heapq.heappush(self._later, claim)

    def _deliveries(
        self, entry: Entry, runs: Sequence[DomainRun], envelope: Envelope, due: float
    ) -> list[Claim]:
        made = []
        flow = self._flow(envelope)
        if entry.claims is not None:
            # What has a delivery gets no second one.
            known = {claim.first for claim in entry.deliveries if claim.stage is not ENDED}
            runs = [run for run in runs if run.first not in known]
        for run in runs:
            self._numbers += 1
            if len(self._names) >= _NAMES:
                self._names.clear()
            domain = self._names.setdefault(run.domain, run.domain)
            made.append(Claim(due, self._numbers, entry, domain, flow, run.first, run.count))
        entry.untried += len(made)
        if entry.claims is None and len(made) == 1:
            # Nearly all mail, and a tuple costs as much again as what it holds.
            entry.claims = made[0]
        else:
            entry.claims = (*entry.deliveries, *made)
        return made

    def _flow(self, envelope: Envelope) -> Flow:
        """Return the flow of a message, the same object for all of it, mostly."""
        # Nearly all mail has no parameters; its sender's domain is then all there is to know.
        key = flow_of(envelope) if envelope.parameters else domain_of(envelope.sender)
        known = self._flows.get(key)
        if known is None:
            if len(self._flows) >= _NAMES:
                self._flows.clear()
            found = flow_of(envelope)
            known = self._flows[key] = self._flows.setdefault(found, found)
        return known

    def _cool(self, entry: Entry) -> None:
        if entry.hot is not None:
            self._hot -= len(entry.hot[1])
            entry.hot = None

    # ---- claims ----

    def take(self, limit: int, now: float) -> list[Claim]:
        """Return claims that are due, at most `limit`."""
        ready = self._ready
        later = self._later
        while later and later[0].due <= now:
            ready.append(heapq.heappop(later))
        taken: list[Claim] = []
        while ready and len(taken) < limit:
            claim = ready.popleft()
            if claim.stage is SCHEDULED:
                claim.stage = CLAIMED
                taken.append(claim)
        self.claimed += len(taken)
        return taken

    def next_due(self) -> float | None:
        """Return when the next claim is due, None if none is scheduled."""
        return self._later[0].due if self._later else None

    def give_back(self, claim: Claim, due: float) -> bool:
        """End a claim; what waits of it is due at a monotonic time. Tell whether anything waits."""
        assert claim.stage is CLAIMED
        claim.stage = ENDED
        self.claimed -= 1
        claim.attempts += 1
        entry = claim.entry
        if claim.attempts == 1:
            entry.untried -= 1
            if not entry.untried:
                self._cool(entry)
        waits = bool(claim.waiting)
        if not entry.untried and (debt := self._debts.get(entry)) is not None:
            self._report(debt)
        if waits:
            claim.stage = SCHEDULED
            claim.due = due
            self._numbers += 1
            claim.number = self._numbers
            heapq.heappush(self._later, claim)
        entry.kept = None
        return waits

    def scheduled(self) -> list[Claim]:
        """Return every delivery that waits for its time or its turn, in no order."""
        return [claim for claim in (*self._ready, *self._later) if claim.stage is SCHEDULED]

    def hurry(self, entry: Entry, ordinals: Sequence[int]) -> None:
        """Make what is scheduled for later for some recipients of a message due now."""
        among = Among(ordinals)
        entry.claims = tuple(
            self._at_once(claim) if among(claim.first, claim.count) else claim for claim in entry.deliveries
        )

    def _at_once(self, claim: Claim) -> Claim:
        if claim.stage is not SCHEDULED or not claim.due:
            return claim
        # Another takes its place: finding this one among a million that wait would take a while.
        claim.stage = ENDED
        self._numbers += 1
        hurried = msgspec.structs.replace(claim, due=0.0, number=self._numbers, stage=SCHEDULED)
        self._ready.append(hurried)
        return hurried

    # ---- stamps ----

    def mark(self, entry: Entry, marks: Mapping[int, Stamp]) -> list[tuple[int, bytes]]:
        """Stamp in memory along the table (Q3); return the runs of bytes to be written, by index.

        Raises:
            IllegalStampError: the table has no such way; nothing was changed.
        """
        image = entry.segment.image
        base = entry.facts.first
        for ordinal, stamp in marks.items():
            stamps.check(BY_BYTE[image[base + ordinal]], stamp)
        for ordinal, stamp in marks.items():
            before = image[base + ordinal]
            image[base + ordinal] = stamp
            self.waiting += IS_WAITING[stamp] - IS_WAITING[before]
        return _runs(base, marks)

    def close(self, entry: Entry) -> None:
        """Count a message out if all its stamps are final."""
        if entry.closed or not entry.finished:
            return
        segment = entry.segment
        segment.entries[entry.row] = None
        # They know the message, and it must not know them: neither would ever go.
        entry.claims = None
        self._cool(entry)
        self.messages -= 1
        segment.live -= 1
        segment.live_octets -= entry.facts.length

    def doubt(self, entry: Entry, ordinals: Sequence[int]) -> list[tuple[int, bytes]]:
        """Stamp `?` in memory; return the runs to be written. As `mark`, made for one recipient."""
        if len(ordinals) == 1:
            image = entry.segment.image
            at = entry.facts.first + ordinals[0]
            if IS_WAITING[image[at]]:
                image[at] = Stamp.DOUBT
                return [(at, _DOUBT)]
        return self.mark(entry, dict.fromkeys(ordinals, Stamp.DOUBT))

    # ---- reports ----

    def owe(
        self,
        entry: Entry,
        failed: Iterable[int],
        reasons: Sequence[Reason],
        pinned: Segment,
        check: float,
    ) -> None:
        """Note failures that must be reported; they are due at the monotonic time `check` at the latest.

        `failed` are those whose `F` is durable by now. `pinned` keeps the reasons on disk and stays until the
        report is made.
        """
        debt = self._debts.get(entry)
        if debt is None:
            debt = self._debts[entry] = Debt(entry)
        debt.failed.update(failed)
        debt.reasons.extend(reasons)
        pinned.pins += 1
        debt.pinned.append(pinned)
        self._report_checks.add(check, debt)
        if not entry.untried:
            self._report(debt)

    def _report(self, debt: Debt) -> None:
        if not debt.ready and not debt.claimed:
            debt.ready = True
            self._reports.append(debt)

    def take_report(self, now: float) -> Debt | None:
        """Return a debt whose report is due; exclusive until `settle` or `postpone`."""
        while (due := self._report_checks.take(now)) is not None:
            if self._debts.get(due.entry) is due:
                self._report(due)
        if not self._reports:
            return None
        debt = self._reports.popleft()
        debt.ready = False
        debt.claimed = True
        self._reporting[debt.entry.queue_id] = debt
        return debt

    @property
    def report_ready(self) -> bool:
        """Whether a report is due now."""
        return bool(self._reports)

    def next_report(self) -> float | None:
        """Return when a report may be due next."""
        return self._report_checks.next_due()

    def debt(self, queue_id: bytes) -> Debt:
        """Return the claimed debt of a message. Raises KeyError: it has none."""
        return self._reporting[queue_id]

    def owed(self, entry: Entry) -> Debt | None:
        """Return what is owed to the sender of a message, None if nothing is. To be read only."""
        return self._debts.get(entry)

    def reporting(self, entry: Entry) -> bool:
        """Tell whether a report of a message is being made."""
        return (debt := self.owed(entry)) is not None and debt.claimed

    def settle(self, debt: Debt) -> list[Segment]:
        """End a report's claim after its `B`s; return the segments that no reason of it pins any more."""
        entry = debt.entry
        self._end_claim(debt)
        if debt.due():
            # More failed while the report was made: the next report is theirs.
            self._report(debt)
            return []
        del self._debts[entry]
        for segment in debt.pinned:
            segment.pins -= 1
        return [*dict.fromkeys(debt.pinned)]

    def postpone(self, debt: Debt, check: float) -> None:
        """Give a report's claim back: it could not be made; look again at a monotonic time."""
        self._end_claim(debt)
        self._report_checks.add(check, debt)

    def _end_claim(self, debt: Debt) -> None:
        debt.claimed = False
        self._reporting.pop(debt.entry.queue_id, None)


def _runs(base: int, marks: Mapping[int, Stamp]) -> list[tuple[int, bytes]]:
    """Return marks as runs of neighbouring bytes, by their index in the segment."""
    if len(marks) == 1:
        [(ordinal, stamp)] = marks.items()
        return [(base + ordinal, _BYTES[stamp])]
    runs: list[tuple[int, bytearray]] = []
    for ordinal in sorted(marks):
        if runs and runs[-1][0] + len(runs[-1][1]) == base + ordinal:
            runs[-1][1].append(marks[ordinal])
        else:
            runs.append((base + ordinal, bytearray([marks[ordinal]])))
    return [(first, bytes(run)) for first, run in runs]


_BYTES = {stamp: bytes([stamp]) for stamp in Stamp}
_DOUBT = _BYTES[Stamp.DOUBT]
