"""The queue port: the few verbs listener and delivery share, and the values they pass.

Every engine (`local`, `memory`) keeps this contract (`tests/contract/`). Claims are handles
held in memory only: after a crash everything that waits is claimable again. What a claim
needs to be sent is loaded apart from it (`load`), so that a claimed delivery costs no more
memory than a waiting one, however long its lane.
"""

import enum
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Protocol

import msgspec

from backstamp.mail.content import Content
from backstamp.mail.envelope import Envelope, Flow, Recipient
from backstamp.mail.reply import Reply
from backstamp.queue.stamps import Stamp


class Flag(enum.IntFlag):
    """Flags of a record."""

    NONE = 0
    AT_MOST_ONCE = 1
    REPORT = 2


_REPORT = int(Flag.REPORT)


class Message(msgspec.Struct, frozen=True, gc=False):
    """What `append` takes.

    `queue_id` is 16 bytes (`queue.ids`); `arrival` is microseconds since the epoch; the
    envelope's recipients are ordered by domain; content is octets with CRLF line ends, as it
    will be sent, trace lines included, not dot-stuffed.
    """

    queue_id: bytes
    arrival: int
    envelope: Envelope
    content: bytes
    flags: Flag = Flag.NONE
    key: bytes = b""
    """What its client named it by, as `queue.keys` digests it; empty: it has no key."""

    @property
    def report(self) -> bool:
        """Whether it is a report of ours."""
        # The flag's own `&` makes a new flag, which costs as much as a dozen other lookups.
        return bool(int(self.flags) & _REPORT)


class Reason(msgspec.Struct, frozen=True, gc=False):
    """Why recipients of a message failed: kept on disk until their report is made."""

    ordinals: tuple[int, ...]
    reply: Reply
    host: str = ""
    time: int = 0


def named(reasons: Sequence[Reason]) -> list[int]:
    """Return the ordinals of the recipients that some reasons are about."""
    return [ordinal for reason in reasons for ordinal in reason.ordinals]


class Delivery(Protocol):
    """A claimed delivery: one message × one destination domain. Exclusive until given back."""

    @property
    def queue_id(self) -> bytes:
        """The message's id, 16 bytes."""
        ...

    @property
    def domain(self) -> bytes:
        """The destination domain in lower case, as in the recipients' addresses."""
        ...

    @property
    def message(self) -> Hashable:
        """Which message it is of, equal for deliveries of one message only.

        A queue id will not do: a queue directory that was restored by hand may hold two messages of one id.
        """
        ...

    @property
    def alone(self) -> bool:
        """Whether it is the only delivery of its message."""
        ...

    @property
    def flow(self) -> Flow:
        """Whose mail it is and how urgent; one object for all deliveries of a flow, mostly."""
        ...

    @property
    def count(self) -> int:
        """Recipients of this delivery, those finished included: no more than that are waiting."""
        ...

    @property
    def waiting(self) -> int:
        """How many of them are to be delivered still; known without reading.

        None may be left, though it is claimed: an operator held or removed them while it waited.
        """
        ...

    @property
    def arrival(self) -> int:
        """When the message was accepted: microseconds since the epoch."""
        ...

    @property
    def attempts(self) -> int:
        """How many attempts this process has given back."""
        ...

    @property
    def size(self) -> int:
        """Octets of content."""
        ...


class Load(msgspec.Struct, frozen=True, gc=False):
    """What transactions need. Recipients are only those still waiting, each with its ordinal.

    `content` is verified; where it is `Stored` it stays readable as long as the attempt lasts.
    `doubts` are those of the recipients that are in doubt from an earlier attempt.
    """

    sender: bytes
    parameters: bytes
    recipients: Mapping[int, Recipient]
    content: Content
    flags: Flag = Flag.NONE
    doubts: tuple[int, ...] = ()


class Owed(msgspec.Struct, frozen=True, gc=False):
    """A report that is due: every `F` of one message, with the reasons found for it.

    Of a large content only the header block is there, at most the first 256 KiB of it: it is not `whole`.
    """

    queue_id: bytes
    arrival: int
    envelope: Envelope
    ordinals: tuple[int, ...]
    reasons: tuple[Reason, ...]
    content: bytes
    whole: bool = True


class QueueRefusedError(Exception):
    """The queue could not take a message. Nothing was accepted; the client is told 4xx (promise 4)."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


Told = Callable[[bytes | Exception], None]
"""Takes the id of the message that stands for a submission, or why nothing was accepted."""

DAMAGED = Reply(554, "5.3.0 The message was damaged in the relay's queue")
"""Why the recipients of such a message fail."""


class DamagedError(Exception):
    """The message cannot be read back: a copy was put aside, its recipients fail, the claim is over.

    `envelope` is there where only the content does not verify.
    """

    def __init__(self, text: str, envelope: Envelope | None = None) -> None:
        super().__init__(text)
        self.envelope = envelope


class StampNotDurableError(Exception):
    """A stamp could not be written. In memory it holds, so this process will not send again (Q8)."""


class Deposit(Protocol):
    """A message that is handed in piece by piece. Whoever began one ends it by `commit` or `abandon`."""

    async def write(self, octets: bytes) -> None:
        """Take the next piece of the content. Raises QueueRefusedError: local trouble; it is abandoned."""
        ...

    async def commit(self) -> bytes:
        """Return once the message is on stable storage (Q1): the queue id that `append` would.

        Raises:
            QueueRefusedError: local trouble; nothing was accepted.
        """
        ...

    async def abandon(self) -> None:
        """Forget the message; after `commit` or another `abandon` it does nothing."""
        ...


class Intake(Protocol):
    """The listener's side of the queue."""

    def refusal(self) -> Reply | None:
        """Return why no mail is taken now (promise 4), None if it is."""
        ...

    async def deposit(self, message: Message) -> Deposit:
        """Begin a message of which only the first part of the content is there.

        Raises:
            QueueRefusedError: local trouble; nothing was accepted.
        """
        ...

    def hand_in(self, message: Message, told: Told, settled: Callable[[], None]) -> None:
        """Begin to append a message, for who has no task to wait in. Never blocks, and raises nothing.

        `told` is called once: as soon as the message is on stable storage (Q1), before anything else is
        done about it, with the id that `append` would return, or with what it would raise; then, of what
        was not refused, `settled`, once the message is in the books. They must not raise.
        """
        ...

    async def append(self, message: Message) -> bytes:
        """Return once the message is on stable storage (Q1): the id of what stands for this submission.

        That is its own, or that of an earlier one of the same key; then nothing was queued (Q13). Where one
        of the same key is under way, its outcome is waited for.

        Raises:
            QueueRefusedError: local trouble; nothing was accepted.
        """
        ...


class Outlet(Protocol):
    """The delivery's side of the queue."""

    async def claim(self, limit: int) -> Sequence[Delivery]:
        """Wait until something is due; return at most `limit` deliveries, the earliest due first."""
        ...

    async def load(self, deliveries: Sequence[Delivery], *, content: bool = True) -> Load:
        """Begin an attempt at claims of one message: return its envelope and content, verified.

        The recipients are those waiting in any of the claims. With `content=False` the content is
        neither read nor verified, and empty here: for mail that is not sent now. A claim may be
        loaded again until it is given back, but not while a transaction of it is under way. From the
        first load on no operator may touch the message, until `rest` or `give_back`.

        Raises:
            DamagedError: the record does not verify; these claims are over.
            OSError: it cannot be read; the claims are to be given back.
        """
        ...

    def rest(self, delivery: Delivery) -> None:
        """End an attempt though not the claim: it waits on in its lane, and may be loaded again.

        At-most-once mail that is in doubt is held (`H`), as by `give_back`.
        """
        ...

    def doubt(self, delivery: Delivery, ordinals: Sequence[int]) -> Awaitable[None] | None:
        """Stamp `?`: the final dot goes out now.

        Here as in `answered` and `stamp` ordinals may be those of any claimed delivery of the same
        message, and transactions with different ordinals may run at once: one claim does for all.
        Of ordinary mail it is written at once, without a sync (None). Of at-most-once mail it
        must be durable first: the dot may follow when what is returned has ended.

        Raises:
            StampNotDurableError: it could not be written; the dot must not go out.
        """
        ...

    def answered(self, delivery: Delivery, ordinals: Sequence[int]) -> None:
        """Stamp `T` again where it is `?`: a reply came, and these are still to be delivered."""
        ...

    def stamp(
        self, delivery: Delivery, marks: Mapping[int, Stamp], reasons: Sequence[Reason] = ()
    ) -> Awaitable[None]:
        """Enqueue stamps at once, without an await (Q4); the future ends when they are durable.

        While the disk fails it does not end; it raises StampNotDurableError if the queue closes first,
        and at once where only `reasons` found no room: these stamps follow when there is some.
        `reasons` are durable no later than the stamps (Q5). The same marks again change nothing.
        """
        ...

    def give_back(self, delivery: Delivery, retry_at: float) -> None:
        """End a claim. What still waits is due at `retry_at` (seconds since the epoch).

        At-most-once mail that is in doubt is held (`H`): it waits for a decision.
        """
        ...

    async def claim_report(self) -> Owed:
        """Wait until a report is due and return it; exclusive until `report` or a crash."""
        ...

    async def report(self, owed: Owed, dsn: Message | None) -> None:
        """Append the report (None: no report is wanted), then stamp its recipients `B`, durably (Q5).

        Raises:
            QueueRefusedError: it could not be written; it is due again in a minute.
            StampNotDurableError: it was written, and is sent after the next start.
        """
        ...

    def postpone_report(self, owed: Owed) -> None:
        """End a report's claim without one: it could not be made. It is due again in a minute."""
        ...


class Queue(Intake, Outlet, Protocol):
    """Both sides: for reports, which are mail that delivery hands in."""
