"""What the world was told of a queue through all its lives, and took from it; what must not be is noted."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from backstamp.queue import ids
from backstamp.queue.keys import counts
from backstamp.queue.port import Flag, Message, Owed

Who = tuple[bytes, int]
"""A recipient: queue id and ordinal."""


class Books:
    """The model: sets of recipients, which only ever grow, but for what an operator lets go."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.known: dict[bytes, Message] = {}
        """All that was handed in, taken or not."""
        self.accepted: set[bytes] = set()
        self.keys: dict[bytes, bytes] = {}
        self.stamped: set[Who] = set()
        self.failed: set[Who] = set()
        self.removed: set[Who] = set()
        self.perhaps_removed: set[Who] = set()
        """The relay was killed before it said so."""
        self.held: set[Who] = set()
        self.closed: set[Who] = set()
        """Failed, and nobody wants to be told."""
        self.dotted: set[Who] = set()
        """Of at-most-once mail: whose final dot was out, and who may not be sent to again."""
        self.let_go: set[Who] = set()
        """An operator said, or was about to say, that these may be sent to, whatever was."""
        self.unread = False
        """Something could not be read at a start: its keys are not known, nor its reasons."""
        self._copies: Counter[Who] = Counter()
        self._in_this_life: Counter[Who] = Counter()
        self._in_flight: set[Who] = set()
        """Taken, and not said to be stamped."""
        self._doubled: Counter[Who] = Counter()
        """How many more copies crashes allow for."""
        self._covers: dict[bytes, tuple[bytes, tuple[int, ...]]] = {}
        """What each report is about."""
        self._refused: set[bytes] = set()
        """Reports that were not taken: one that is there all the same may come besides another."""
        self._reports: defaultdict[Who, set[bytes]] = defaultdict(set)

    def bad(self, what: str, who: Who | None = None) -> None:
        self.wrong.append(what if who is None else f"{what}: {ids.text(who[0])}/{who[1]}")

    # ---- what the relay says ----

    def stands(self, one: Message, queue_id: bytes, now: float) -> None:
        """A client was told 250 and an id."""
        if one.key:
            known = self.keys.get(one.key, queue_id)
            if known != queue_id and counts(known, int(now * 1000)) and not self.unread:
                self.bad("a key is forgotten")
            self.keys[one.key] = queue_id
        if queue_id not in self.known:
            self.bad("a key stands for mail there never was")
        self.accepted.add(queue_id)

    def delivered(self, queue_id: bytes, ordinals: Iterable[int]) -> None:
        who = {(queue_id, ordinal) for ordinal in ordinals}
        self.stamped |= who
        self._in_flight -= who

    def owed(self, owed: Owed, report: Message | None) -> None:
        """A report is made; with its reasons, unless those could not be read."""
        reasoned = {ordinal for reason in owed.reasons for ordinal in reason.ordinals}
        if not self.unread and not reasoned >= {*owed.ordinals}:
            self.bad("a report without its reason", (owed.queue_id, owed.ordinals[0]))
        if report is None:
            self.closed |= {(owed.queue_id, ordinal) for ordinal in owed.ordinals}
        else:
            self.known[report.queue_id] = report
            self._covers[report.queue_id] = (owed.queue_id, owed.ordinals)

    def refused(self, report: Message) -> None:
        self._refused.add(report.queue_id)

    # ---- what a peer takes ----

    def take(self, who: Who) -> None:
        for told, what in (
            (self.stamped, "sent again though its stamp was durable"),
            (self.failed, "sent though it had failed"),
            (self.removed, "sent though it was removed"),
            (self.held - self.let_go, "sent though it was held"),
            (self.dotted - self.let_go, "sent again though at most once"),
        ):
            if who in told:
                self.bad(what, who)
        self.let_go.discard(who)
        self._copies[who] += 1
        self._in_this_life[who] += 1
        self._in_flight.add(who)
        if self._in_this_life[who] > 1:
            self.bad("sent twice in one life", who)
        if self._copies[who] > 1 + self._doubled[who]:
            self.bad("sent more often than there were crashes", who)
        if self.known[who[0]].flags & Flag.AT_MOST_ONCE:
            self.dotted.add(who)
        self._reported(who[0])

    def _reported(self, report: bytes) -> None:
        about, ordinals = self._covers.get(report, (b"", ()))
        for ordinal in ordinals:
            reports = self._reports[about, ordinal]
            reports.add(report)
            if len(reports - self._refused) > 1:
                self.bad("reported twice", (about, ordinal))

    # ---- the end of a life, and of all ----

    def ended(self, *, crashed: bool) -> None:
        if crashed:
            self._doubled.update(self._in_flight)
        self._in_flight.clear()
        self._in_this_life.clear()

    def check(self) -> None:
        """Everything was delivered that waited: nobody may be forgotten."""
        gone = self.removed | self.perhaps_removed
        for report, (about, ordinals) in self._covers.items():
            if (report, 0) in gone | self.failed | self.closed:
                for ordinal in ordinals:
                    self._reports[about, ordinal].add(report)
        told = {who for who, reports in self._reports.items() if reports} | self.closed
        for queue_id in self.accepted:
            for ordinal in range(len(self.known[queue_id].envelope.recipients)):
                who = (queue_id, ordinal)
                if not (self._copies[who] or who in told | gone | self.dotted):
                    self.bad("lost", who)
        for who in self.failed - told:
            self.bad("failed, and nobody was told", who)
