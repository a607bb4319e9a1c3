"""The manners of real mail hosts, as small parts: a peer has any number of them and asks each in turn.

A habit speaks up at a step of a session with a reply, a `Cut`, or a number of seconds to wait;
None and 0 are the ordinary course. It keeps its own books: given to several peers, it is
one limit they share, as at a large provider. Times are virtual seconds; chance comes from the
visit's world, so that a seed decides everything.
"""

import enum
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Protocol

from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply


class Cut(enum.Enum):
    """What a peer may do instead of a reply."""

    CLOSED = "closes the connection; refuses it, where none is open yet"
    SILENT = "says nothing"
    TAKEN = "takes the message and closes the connection without a word: at the final dot only"


Answer = Reply | Cut | None


class Visit(Protocol):
    """What a habit sees of a connection."""

    source: str
    mails: int
    """MAIL commands so far, this one included."""

    @property
    def now(self) -> float: ...
    @property
    def chance(self) -> random.Random: ...


class Habit:
    """Does nothing out of the ordinary."""

    def connect(self, visit: Visit) -> Answer:
        """Somebody dials."""

    def greet(self, visit: Visit) -> Answer:
        """The greeting is due."""

    def mail(self, visit: Visit, sender: bytes) -> Answer:
        """MAIL."""

    def rcpt(self, visit: Visit, sender: bytes, recipient: bytes, taken: int) -> Answer:
        """RCPT; so many were taken before it."""

    def data(self, visit: Visit) -> Answer:
        """DATA, with recipients taken; what is said here comes before the final dot."""

    def final(self, visit: Visit) -> Answer:
        """The final dot."""

    def wait(self, visit: Visit, phase: Phase) -> float:
        """Seconds a step takes longer than usual."""
        return 0.0

    def ended(self, visit: Visit) -> None:
        """The connection is over."""


class Dead(Habit):
    """Gives no connection from `since` to `until`: refuses it, or with `silent` does not even do that."""

    def __init__(self, *, silent: bool = False, since: float = 0.0, until: float = float("inf")) -> None:
        self._cut = Cut.SILENT if silent else Cut.CLOSED
        self._since = since
        self._until = until

    def connect(self, visit: Visit) -> Answer:
        return self._cut if self._since <= visit.now < self._until else None


class MaxConnections(Habit):
    """At most `count` connections at a time; one more is told 421, or with `refuse` not let in at all."""

    REPLY = Reply(421, "4.7.0 too many concurrent SMTP connections from your address")

    def __init__(self, count: int, *, refuse: bool = False, by_source: bool = False) -> None:
        self._count = count
        self._refuse = refuse
        self._by_source = by_source
        self._inside: dict[Visit, str] = {}
        self._present: Counter[str] = Counter()

    def connect(self, visit: Visit) -> Answer:
        who = visit.source if self._by_source else ""
        if self._present[who] < self._count:
            self._present[who] += 1
            self._inside[visit] = who
            return None
        return Cut.CLOSED if self._refuse else None

    def greet(self, visit: Visit) -> Answer:
        return None if visit in self._inside else self.REPLY

    def ended(self, visit: Visit) -> None:
        if (who := self._inside.pop(visit, None)) is not None:
            self._present[who] -= 1


class RateLimit(Habit):
    """At most `count` messages in any `seconds`; more are told `code`, and (`names`) when to come again."""

    def __init__(
        self, count: int, seconds: float, *, code: int = 450, by_source: bool = False, names: bool = True
    ) -> None:
        self._count = count
        self._seconds = seconds
        self._code = code
        self._by_source = by_source
        self._names = names
        self._times: dict[str, deque[float]] = {}

    def mail(self, visit: Visit, sender: bytes) -> Answer:
        who = visit.source if self._by_source else ""
        times = self._times.setdefault(who, deque(maxlen=self._count))
        if len(times) < self._count or visit.now - times[0] >= self._seconds:
            times.append(visit.now)
            return None
        minutes = max(1, -int((visit.now - times[0] - self._seconds) // 60))
        later = f"in {minutes} minutes" if self._names else "later"
        return Reply(self._code, f"4.7.28 rate limit exceeded, try again {later}")


class MessagesPerConnection(Habit):
    """Takes `count` messages of a connection and ends it with 421 at the next."""

    def __init__(self, count: int) -> None:
        self._count = count

    def mail(self, visit: Visit, sender: bytes) -> Answer:
        if visit.mails <= self._count:
            return None
        return Reply(421, "4.7.0 too many messages on this connection")


class RecipientsPerTransaction(Habit):
    """Takes `count` recipients of a message and tells the others 452 (RFC 5321 §4.5.3.1.10)."""

    def __init__(self, count: int) -> None:
        self._count = count

    def rcpt(self, visit: Visit, sender: bytes, recipient: bytes, taken: int) -> Answer:
        return None if taken < self._count else Reply(452, "4.5.3 too many recipients")


class Greylist(Habit):
    """Puts strangers off for `seconds`; whoever comes back later is known from then on.

    `by` names what makes a stranger: any of `source`, `sender` and `recipient`.
    """

    def __init__(
        self, seconds: float, by: Collection[str] = ("source", "sender", "recipient"), *, code: int = 451
    ) -> None:
        self._seconds = seconds
        self._by = frozenset(by)
        self._reply = Reply(code, "4.7.1 greylisted, come back later")
        self._first: dict[tuple[object, ...], float] = {}

    def rcpt(self, visit: Visit, sender: bytes, recipient: bytes, taken: int) -> Answer:
        by = self._by
        who = (
            visit.source if "source" in by else "",
            sender if "sender" in by else b"",
            recipient if "recipient" in by else b"",
        )
        first = self._first.setdefault(who, visit.now)
        return None if visit.now - first >= self._seconds else self._reply


class Refuses(Habit):
    """Refuses some recipients: those `who` says, or a `share` of all that is always the same."""

    def __init__(
        self, reply: Reply, who: Callable[[bytes], bool] | None = None, *, share: float = 0.0
    ) -> None:
        self._reply = reply
        self._who = who or (lambda address: zlib.crc32(address) < share * 2**32)

    def rcpt(self, visit: Visit, sender: bytes, recipient: bytes, taken: int) -> Answer:
        return self._reply if self._who(recipient) else None


class BadDays(Habit):
    """Tells a share of the recipients 451, another each time."""

    REPLY = Reply(451, "4.3.0 try again later")

    def __init__(self, share: float) -> None:
        self._share = share

    def rcpt(self, visit: Visit, sender: bytes, recipient: bytes, taken: int) -> Answer:
        return self.REPLY if visit.chance.random() < self._share else None


class Blocks(Habit):
    """Answers every MAIL with one reply from `since` to `until`: a block of the whole sender."""

    def __init__(self, reply: Reply, *, since: float = 0.0, until: float = float("inf")) -> None:
        self._reply = reply
        self._since = since
        self._until = until

    def mail(self, visit: Visit, sender: bytes) -> Answer:
        return self._reply if self._since <= visit.now < self._until else None


class Slow(Habit):
    """Takes `seconds` longer at some steps, in a share of the cases."""

    def __init__(self, seconds: float, *phases: Phase, share: float = 1.0) -> None:
        self._seconds = seconds
        self._phases = frozenset(phases)
        self._share = share

    def wait(self, visit: Visit, phase: Phase) -> float:
        if phase in self._phases and (self._share >= 1.0 or visit.chance.random() < self._share):
            return self._seconds
        return 0.0


class Flaky(Habit):
    """Closes a share of its connections before the final dot, and a share after it.

    Of those after it, `taken` tells how many had the message taken all the same.
    """

    def __init__(self, *, before: float = 0.0, after: float = 0.0, taken: float = 0.5) -> None:
        self._before = before
        self._after = after
        self._taken = taken

    def data(self, visit: Visit) -> Answer:
        return Cut.CLOSED if visit.chance.random() < self._before else None

    def final(self, visit: Visit) -> Answer:
        if visit.chance.random() >= self._after:
            return None
        return Cut.TAKEN if visit.chance.random() < self._taken else Cut.CLOSED
