"""The ledger: what waits, what is claimed, what is owed, in memory, for every engine alike.

Nothing here is truth (Q7): it is made from records and stamps and can be made again. The
stamps it judges by are the segment's image, which runs ahead of the disk by one commit.
Pure: times are monotonic seconds given by the caller. Who waits for what is the engine's.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from backstamp.mail.envelope import DomainRun, Envelope
from backstamp.queue import stamps
from backstamp.queue.port import Reason
from backstamp.queue.schedule import Schedule
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import FINAL, WAITING, Stamp

_IS_WAITING = bytes(byte in {int(stamp) for stamp in WAITING} for byte in range(256))
_IS_OPEN = bytes(byte not in {int(stamp) for stamp in FINAL} for byte in range(256))
_CLOSED = -1
_BY_BYTE = {int(stamp): stamp for stamp in Stamp}


class Entry:
    """One message with a stamp that is not final."""

    __slots__ = (
        "arrival", "count", "first", "flags", "hot", "length", "offset", "open", "queue_id", "segment",
        "size", "untried",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        *,
        queue_id: bytes,
        arrival: int,
        flags: int,
        size: int,
        offset: int,
        length: int,
        first: int,
        count: int,
    ) -> None:
        self.segment = segment
        self.queue_id = queue_id
        self.arrival = arrival
        self.flags = flags
        self.size = size
        self.offset = offset
        self.length = length
        self.first = first
        self.count = count
        self.open = count
        """Recipients whose stamp is not final."""
        self.untried = 0
        """Deliveries this process has not tried to the end."""
        self.hot: tuple[Envelope, bytes] | None = None

    def stamp(self, ordinal: int) -> Stamp:
        """Return a recipient's stamp."""
        return _BY_BYTE[self.segment.image[self.first + ordinal]]

    def ordinals(self, stamp: Stamp) -> tuple[int, ...]:
        """Return who stands at a stamp."""
        image = self.segment.image[self.first : self.first + self.count]
        return tuple(ordinal for ordinal, byte in enumerate(image) if byte == stamp)


class Claim:
    """A delivery, claimed or scheduled: one domain's run of a message's recipients."""

    __slots__ = ("attempts", "count", "domain", "entry", "first", "retry_at")

    def __init__(self, entry: Entry, run: DomainRun) -> None:
        self.entry = entry
        self.domain = run.domain
        self.first = run.first
        self.count = run.count
        self.attempts = 0
        self.retry_at = 0.0
        """When it is due, seconds since the epoch; 0: at once, or claimed."""

    @property
    def queue_id(self) -> bytes:
        """The message's id."""
        return self.entry.queue_id

    @property
    def arrival(self) -> int:
        """Microseconds since the epoch."""
        return self.entry.arrival

    @property
    def size(self) -> int:
        """Octets of content."""
        return self.entry.size

    def waiting(self) -> list[int]:
        """Return the ordinals still to be delivered."""
        image = self.entry.segment.image
        base = self.entry.first
        return [o for o in range(self.first, self.first + self.count) if _IS_WAITING[image[base + o]]]


class Debt:
    """What is owed to a sender: reasons, and the segments that keep them."""

    __slots__ = ("claimed", "pinned", "ready", "reasons")

    def __init__(self) -> None:
        self.reasons: list[Reason] = []
        self.pinned: list[Segment] = []
        self.ready = False
        self.claimed = False


class Ledger:
    """The books of one partition."""

    def __init__(self, *, hot_limit: int) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.waiting = 0
        """Recipients still to be delivered."""
        self.claimed = 0
        """Deliveries claimed and not given back."""
        self._hot_limit = hot_limit
        self._hot = 0
        self._ready: deque[Claim] = deque()
        self._later: Schedule[Claim] = Schedule()
        self._debts: dict[Entry, Debt] = {}
        self._reports: deque[Entry] = deque()
        self._report_checks: Schedule[Entry] = Schedule()

    # ---- messages in and out ----

    def enter(self, entry: Entry) -> None:
        """Count a durable record in; its deliveries follow with `release`."""
        self.entries[entry.queue_id] = entry
        entry.segment.live += 1
        image = entry.segment.image[entry.first : entry.first + entry.count]
        entry.open = sum(_IS_OPEN[byte] for byte in image)
        self.waiting += sum(_IS_WAITING[byte] for byte in image)

    def keep_hot(self, entry: Entry, envelope: Envelope, content: bytes) -> None:
        """Keep a message in memory until its first attempt, if there is room."""
        if self._hot + entry.length <= self._hot_limit:
            self._hot += entry.length
            entry.hot = (envelope, content)

    def release(self, entry: Entry, runs: Iterable[DomainRun]) -> None:
        """Make a message's deliveries claimable now."""
        for run in runs:
            entry.untried += 1
            self._ready.append(Claim(entry, run))

    def release_later(self, entry: Entry, runs: Iterable[DomainRun], due: float, retry_at: float) -> None:
        """Make a message's deliveries claimable at the monotonic time `due`, shown as `retry_at`."""
        for run in runs:
            claim = Claim(entry, run)
            claim.retry_at = retry_at
            entry.untried += 1
            self._later.add(due, claim)

    def _cool(self, entry: Entry) -> None:
        if entry.hot is not None:
            entry.hot = None
            self._hot -= entry.length

    # ---- claims ----

    def take(self, limit: int, now: float) -> list[Claim]:
        """Return claims that are due, at most `limit`."""
        ready = self._ready
        while (claim := self._later.take(now)) is not None:
            claim.retry_at = 0.0
            ready.append(claim)
        taken = [ready.popleft() for _ in range(min(limit, len(ready)))]
        self.claimed += len(taken)
        return taken

    def next_due(self) -> float | None:
        """Return when the next claim is due, None if none is scheduled."""
        return self._later.next_due()

    def give_back(self, claim: Claim, due: float, retry_at: float) -> bool:
        """End a claim; what waits of it is due at a monotonic time, shown as `retry_at`.

        Tell whether anything waits.
        """
        self.claimed -= 1
        claim.attempts += 1
        entry = claim.entry
        if claim.attempts == 1:
            entry.untried -= 1
            if not entry.untried:
                self._cool(entry)
        waits = bool(claim.waiting())
        if waits:
            claim.retry_at = retry_at
            self._later.add(due, claim)
        if not entry.untried and entry in self._debts:
            self._report(entry)
        return waits

    def scheduled(self) -> list[Claim]:
        """Return every delivery that waits for its time or its turn, in no order."""
        return [*self._ready, *(claim for _, claim in self._later.items())]

    # ---- stamps ----

    def mark(self, entry: Entry, marks: Mapping[int, Stamp]) -> list[tuple[int, bytes]]:
        """Stamp in memory along the table (Q3); return the runs of bytes to be written.

        Raises:
            IllegalStampError: the table has no such way; nothing was changed.
        """
        image = entry.segment.image
        base = entry.first
        for ordinal, stamp in marks.items():
            stamps.check(_BY_BYTE[image[base + ordinal]], stamp)
        for ordinal, stamp in marks.items():
            before = image[base + ordinal]
            image[base + ordinal] = stamp
            self.waiting += _IS_WAITING[stamp] - _IS_WAITING[before]
            entry.open += _IS_OPEN[stamp] - _IS_OPEN[before]
        return _runs(marks)

    def close(self, entry: Entry) -> Segment | None:
        """Count a message out if all its stamps are final; return its segment if that is finished too."""
        if entry.open:
            return None
        entry.open = _CLOSED
        if self.entries.get(entry.queue_id) is entry:
            del self.entries[entry.queue_id]
        self._cool(entry)
        segment = entry.segment
        segment.live -= 1
        return segment if segment.removable else None

    # ---- reports ----

    def owe(self, entry: Entry, reasons: Sequence[Reason], pinned: Segment, check: float) -> None:
        """Note failures that must be reported; they are due at the monotonic time `check` at the latest.

        `pinned` keeps the reasons on disk and stays until the report is made.
        """
        debt = self._debts.get(entry)
        if debt is None:
            debt = self._debts[entry] = Debt()
        debt.reasons.extend(reasons)
        pinned.pins += 1
        debt.pinned.append(pinned)
        self._report_checks.add(check, entry)
        if not entry.untried:
            self._report(entry)

    def _report(self, entry: Entry) -> None:
        debt = self._debts[entry]
        if not debt.ready and not debt.claimed:
            debt.ready = True
            self._reports.append(entry)

    def take_report(self, now: float) -> tuple[Entry, tuple[int, ...], tuple[Reason, ...]] | None:
        """Return a message whose report is due, whom it must name, and why."""
        while (entry := self._report_checks.take(now)) is not None:
            if entry in self._debts:
                self._report(entry)
        if not self._reports:
            return None
        entry = self._reports.popleft()
        debt = self._debts[entry]
        debt.ready = False
        debt.claimed = True
        return entry, entry.ordinals(Stamp.FAILED), tuple(debt.reasons)

    @property
    def report_ready(self) -> bool:
        """Whether a report is due now."""
        return bool(self._reports)

    def next_report(self) -> float | None:
        """Return when a report may be due next."""
        return self._report_checks.next_due()

    def settle(self, entry: Entry) -> list[Segment]:
        """End a report's claim after its `B`s; return segments that are finished now no reason pins them."""
        debt = self._debts[entry]
        debt.claimed = False
        if entry.ordinals(Stamp.FAILED):
            # More failed while the report was made: the next report is theirs.
            self._report(entry)
            return []
        del self._debts[entry]
        for segment in debt.pinned:
            segment.pins -= 1
        return [segment for segment in dict.fromkeys(debt.pinned) if segment.removable]

    def postpone(self, entry: Entry, check: float) -> None:
        """Give a report's claim back: it could not be made; look again at a monotonic time."""
        self._debts[entry].claimed = False
        self._report_checks.add(check, entry)


def _runs(marks: Mapping[int, Stamp]) -> list[tuple[int, bytes]]:
    """Return marks as runs of neighbouring bytes."""
    if len(marks) == 1:
        [(ordinal, stamp)] = marks.items()
        return [(ordinal, _BYTES[stamp])]
    runs: list[tuple[int, bytearray]] = []
    for ordinal in sorted(marks):
        if runs and runs[-1][0] + len(runs[-1][1]) == ordinal:
            runs[-1][1].append(marks[ordinal])
        else:
            runs.append((ordinal, bytearray([marks[ordinal]])))
    return [(first, bytes(run)) for first, run in runs]


_BYTES = {stamp: bytes([stamp]) for stamp in Stamp}
