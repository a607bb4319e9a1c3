"""An entry: one message with a stamp that is not final, as the running relay knows it.

What is known of it stands in its segment's `rows`, 54 octets each, and is unpacked where it
is asked for: a message that waits must cost little, because a million may wait. An entry
outlives its place: compaction moves it to another segment, and whoever holds it notices
nothing. `facts` and `hot` are kept only while somebody works on it.
"""

import enum
import struct
from typing import Final, NamedTuple

import msgspec

from backstamp.mail.envelope import Envelope, Flow
from backstamp.queue.record import HEADER_SIZE, Header
from backstamp.queue.segment import Segment
from backstamp.queue.stamps import FINAL, WAITING, Stamp


class Stage(enum.Enum):
    """Where a delivery is."""

    SCHEDULED = "waits for its time or its turn"
    CLAIMED = "in a lane, or under way"
    ENDED = "over: nobody of it waits, or another took its place"


SCHEDULED: Final = Stage.SCHEDULED
CLAIMED: Final = Stage.CLAIMED
ENDED: Final = Stage.ENDED

IS_WAITING: Final = bytes(byte in {int(stamp) for stamp in WAITING} for byte in range(256))
"""By the byte of a stamp: whether its recipient is still to be delivered."""

_ROW: Final = struct.Struct("<16sQQQIIIH")
_FINAL: Final = bytes(FINAL)
BY_BYTE: Final = {int(stamp): stamp for stamp in Stamp}


class Facts(NamedTuple):
    """What a row holds. Octets, counts, and microseconds since the epoch."""

    queue_id: bytes
    arrival: int
    offset: int
    size: int
    """Octets of content."""
    envelope_length: int
    first: int
    """Index of its first stamp in its segment."""
    recipients: int
    flags: int

    @classmethod
    def of(cls, header: Header) -> "Facts":
        """Return what a record's header says."""
        return cls(
            header.queue_id,
            header.arrival,
            header.offset,
            header.content_length,
            header.envelope_length,
            header.first_stamp,
            header.recipients,
            header.flags,
        )

    @property
    def length(self) -> int:
        """Octets of the record."""
        return HEADER_SIZE + self.envelope_length + self.size


class Entry(msgspec.Struct, gc=False, eq=False):
    """A message's place: a row of a segment."""

    segment: Segment
    row: int
    untried: int = 0
    """Deliveries this process has not tried to the end."""
    kept: Facts | None = None
    hot: tuple[Envelope, bytes] | None = None
    claims: "Claim | tuple[Claim, ...] | None" = None
    """Its deliveries, ended ones among them: one as it is, several as a tuple; see `deliveries`."""

    @property
    def deliveries(self) -> "tuple[Claim, ...]":
        """Return its deliveries, those that ended among them."""
        claims = self.claims
        return claims if isinstance(claims, tuple) else () if claims is None else (claims,)

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        return self.kept or Facts._make(_ROW.unpack_from(self.segment.rows, self.row * _ROW.size))

    @property
    def queue_id(self) -> bytes:
        """The message's id."""
        return self.facts.queue_id

    @property
    def closed(self) -> bool:
        """All its stamps are final, and it was counted out."""
        return self.segment.entries[self.row] is not self

    @property
    def finished(self) -> bool:
        """All its stamps are final."""
        facts = self.facts
        return not self.segment.image[facts.first : facts.first + facts.recipients].translate(None, _FINAL)

    def stamp(self, ordinal: int) -> Stamp:
        """Return a recipient's stamp."""
        return BY_BYTE[self.segment.image[self.facts.first + ordinal]]

    def ordinals(self, *wanted: Stamp) -> tuple[int, ...]:
        """Return who stands at one of some stamps."""
        facts = self.facts
        image = self.segment.image[facts.first : facts.first + facts.recipients]
        return tuple(ordinal for ordinal, byte in enumerate(image) if byte in wanted)


class Claim(msgspec.Struct, gc=False, order=True):
    """A delivery, scheduled or claimed: one domain's run of a message's recipients.

    They order by `due` (monotonic seconds), equal times in the order they came.
    """

    due: float
    number: int
    entry: Entry
    domain: bytes
    flow: Flow
    first: int
    count: int
    attempts: int = 0
    stage: Stage = Stage.SCHEDULED
    loaded: bool = False
    """An attempt is under way."""

    @property
    def alone(self) -> bool:
        """Whether it is the only delivery of its message."""
        return self.entry.claims is self

    @property
    def queue_id(self) -> bytes:
        """The message's id."""
        return self.entry.facts.queue_id

    @property
    def message(self) -> Entry:
        """The message."""
        return self.entry

    @property
    def arrival(self) -> int:
        """Microseconds since the epoch."""
        return self.entry.facts.arrival

    @property
    def size(self) -> int:
        """Octets of content."""
        return self.entry.facts.size

    @property
    def waiting(self) -> int:
        """How many recipients are still to be delivered."""
        entry = self.entry
        at = entry.facts.first + self.first
        if self.count == 1:
            return IS_WAITING[entry.segment.image[at]]
        return entry.segment.image[at : at + self.count].translate(IS_WAITING).count(1)

    def ordinals(self) -> list[int]:
        """Return the ordinals still to be delivered."""
        entry = self.entry
        image = entry.segment.image
        base = entry.facts.first
        if self.count == 1:
            return [self.first] if IS_WAITING[image[base + self.first]] else []
        return [o for o in range(self.first, self.first + self.count) if IS_WAITING[image[base + o]]]


def enter(segment: Segment, facts: Facts) -> Entry:
    """Put a message into its segment's rows; called on the loop, in the order of the records."""
    segment.rows += _ROW.pack(*facts)
    entry = Entry(segment, len(segment.entries))
    segment.entries.append(entry)
    return entry


def move(entry: Entry, segment: Segment, offset: int, first: int) -> None:
    """Give an entry another place: its record was copied there."""
    facts = entry.facts._replace(offset=offset, first=first)
    segment.rows += _ROW.pack(*facts)
    entry.segment.entries[entry.row] = None
    entry.segment, entry.row = segment, len(segment.entries)
    if entry.kept is not None:
        entry.kept = facts
    segment.entries.append(entry)


def find(segment: Segment, queue_id: bytes) -> Entry | None:
    """Return a segment's entry of a queue id."""
    at = segment.rows.find(queue_id)
    while at >= 0:
        row, rest = divmod(at, _ROW.size)
        if rest == 0 and (entry := segment.entries[row]) is not None:
            return entry
        at = segment.rows.find(queue_id, at + 1)
    return None
