"""Compaction: segments that are mostly done are copied into one, and go.

A copy gets its name when it is whole and durable, and its first record names what it was
made from: from then on it counts and its sources do not, whatever crash comes (Q6). It is
read and written apart from the loop and from the commit thread. Deliveries of its messages
wait meanwhile; a segment is taken only if no attempt, report or stamp is under way in it.
The bound: sealed segments take no more than twice the octets of what is open in them, and
one segment.
"""

from collections.abc import Sequence
from typing import NamedTuple

from backstamp.queue import draft, ids, readback
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.files import Files
from backstamp.queue.record import HEADER_SIZE, Kind, encode_sources
from backstamp.queue.segment import CAPACITY, STAMPS_SIZE, Segment


class UnreadableError(Exception):
    """A record does not verify: its segment stays as it is, and the record is found when it is claimed."""


class Move(NamedTuple):
    """A message that is to be copied: what is known of it, and its stamps."""

    source: Segment
    facts: Facts
    stamps: bytes


class Place(NamedTuple):
    """Where its copy stands."""

    offset: int
    first: int


class Copied(NamedTuple):
    """A copy: the segment, the messages in it, and where each stands."""

    segment: Segment
    entries: list[Entry]
    places: list[Place]


def size(segment: Segment) -> int:
    """Return the octets a segment takes on disk."""
    return segment.end + HEADER_SIZE + STAMPS_SIZE


def choose(sealed: Sequence[Segment], segment_size: int) -> list[Segment]:
    """Return the segments to copy together now, none while the bound holds. Pure.

    Those with the least that is open come first; what is open in all of them fits in one segment.
    """
    excess = sum(map(size, sealed)) - 2 * sum(segment.live_octets for segment in sealed) - segment_size
    chosen: list[Segment] = []
    octets = recipients = 0
    for segment in sorted(sealed, key=lambda segment: segment.live_octets / size(segment)):
        octets += segment.live_octets
        recipients += segment.used
        gain = size(segment) - segment.live_octets
        if excess <= 0 or octets > segment_size or gain < segment.live_octets:
            break
        if _available(segment) and (not chosen or recipients <= CAPACITY):
            chosen.append(segment)
            excess -= gain
    return chosen


def _available(segment: Segment) -> bool:
    return bool(segment.live) and not (segment.busy or segment.pins or segment.failed or segment.copied)


def copy(files: Files, directory: str, number: int, salt: bytes, chosen: Sequence[Segment]) -> Copied:
    """Copy what is open in segments into a new one, durable with its name when this returns.

    Nobody works on those messages meanwhile.

    Raises:
        OSError: it could not be written; nothing of it counts.
        UnreadableError: a message does not verify; nothing of the copy counts.
        draft.UndecidedError: neither the copy nor its sources can be told to count before the next start.
    """
    entries = [entry for segment in chosen for entry in segment.entries if entry is not None]
    wanted = [_move(entry) for entry in entries]
    segment = draft.begin(files, directory, number, salt)
    try:
        places = _write(files, segment, wanted)
    except (OSError, UnreadableError):
        draft.discard(files, segment)
        raise
    draft.publish(files, segment)
    return Copied(segment, entries, places)


def _move(entry: Entry) -> Move:
    facts, segment = entry.facts, entry.segment
    return Move(segment, facts, bytes(segment.image[facts.first : facts.first + facts.recipients]))


def _write(files: Files, segment: Segment, wanted: Sequence[Move]) -> list[Place]:
    """Write the copy record and the messages; return where they stand."""
    writer = draft.Writer(files, segment)
    writer.add(Kind.COPY, b"", encode_sources(tuple(sorted({move.source.number for move in wanted}))))
    places = []
    for move in wanted:
        found = readback.octets(files, move.source, move.facts)
        if found.damage is not None:
            name = ids.text(move.facts.queue_id)
            problem = f"{name}: {found.damage.value}; not compacted"
            raise UnreadableError(f"segment {move.source.number}: {problem}")
        places.append(Place(segment.end, segment.used))
        writer.add(Kind.MAIL, found.envelope, found.content, move.facts, move.stamps)
    writer.flush()
    return places
