"""A queued message as people and programs look at it. Pure data, for the HTTP side and the command line."""

from collections.abc import Iterable

import msgspec

from backstamp.mail.envelope import Envelope, Flow
from backstamp.mail.release import held_until
from backstamp.queue import ids
from backstamp.queue.fold import Found
from backstamp.queue.port import Delivery, Reason
from backstamp.queue.stamps import MEANINGS, Stamp
from backstamp.text import printable

_TRIED = frozenset({Stamp.TODO, Stamp.DOUBT})
"""Stamps of those who are tried again; a delivery's time is none of the others' in it."""


class RecipientView(msgspec.Struct, frozen=True):
    """One recipient: the stamp's letter, what it means, and when the next attempt is.

    `retry_at` is seconds since the epoch; None where none is scheduled: it is under way,
    over, held, or the relay is stopped.
    """

    address: str
    stamp: str
    meaning: str
    retry_at: float | None = None


class MessageView(msgspec.Struct, frozen=True):
    """One message; `arrival` is seconds since the epoch, `size` octets of content.

    `problem`: why sender and recipients are not known, empty if they are. `release`: before when its sender
    does not want it sent (RFC 4865), seconds since the epoch; 0 where nothing was said.
    """

    queue_id: str
    arrival: float
    sender: str
    size: int
    recipients: tuple[RecipientView, ...]
    problem: str = ""
    release: float = 0.0


class DoubtView(msgspec.Struct, frozen=True):
    """A recipient who may have got the message though nobody can tell; `stamp` is the one it has now."""

    queue_id: str
    recipient: str
    stamp: str
    meaning: str
    sender: str
    arrival: float


class DeliveryView(msgspec.Struct, frozen=True):
    """One delivery of a message that is not over, and the handle by which delivery knows it.

    `due` is seconds since the epoch, None where it is due; `claimed`: it is in a lane or under way.
    """

    delivery: Delivery
    ordinals: tuple[int, ...]
    due: float | None
    claimed: bool


class Opened(msgspec.Struct, frozen=True):
    """A message of the running queue with all that the queue knows of it.

    `report`: it is a report of this relay's. `reasons` are why recipients failed whose report is owed,
    `reporting` whether that is being made; `closed` whether deliveries may not start.
    """

    message: MessageView
    flow: Flow
    at_most_once: bool
    report: bool
    deliveries: tuple[DeliveryView, ...]
    reasons: tuple[Reason, ...] = ()
    reporting: bool = False
    closed: bool = False


class Acted(msgspec.Struct, frozen=True):
    """What an operator's verb did: for whom; and the message as it is now, None if it is finished."""

    changed: tuple[str, ...]
    message: MessageView | None


def named(message: MessageView, written: Iterable[str]) -> list[int]:
    """Return the ordinals of recipients by their addresses: in angle brackets or not, domain in any case.

    Raises:
        ValueError: one of them is none of the message's.
    """
    known: dict[str, list[int]] = {}
    for ordinal, one in enumerate(message.recipients):
        known.setdefault(_comparable(one.address), []).append(ordinal)
    found: set[int] = set()
    for address in written:
        bare = address.strip()
        if bare.startswith("<") and bare.endswith(">"):
            bare = bare[1:-1]
        if (these := known.get(_comparable(bare))) is None:
            raise ValueError(f"{printable(address)} is no recipient of {message.queue_id}")
        found.update(these)
    return sorted(found)


def _comparable(address: str) -> str:
    """Return an address as it is compared: only the local part's case is its host's (RFC 5321 §2.4)."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def doubts(message: MessageView, ordinals: Iterable[int]) -> list[DoubtView]:
    """Return the recipients of a message who are in doubt."""
    return [
        DoubtView(message.queue_id, one.address, one.stamp, one.meaning, message.sender, message.arrival)
        for one in (message.recipients[ordinal] for ordinal in ordinals)
    ]


def view(
    queue_id: bytes,
    arrival: int,
    size: int,
    envelope: Envelope,
    stamps: list[Stamp],
    retry_at: dict[int, float] | None = None,
    problem: str = "",
) -> MessageView:
    """Return the view of a message; `retry_at` is by ordinal."""
    times = retry_at or {}
    return MessageView(
        ids.text(queue_id),
        arrival / 1e6,
        _text(envelope.sender),
        size,
        tuple(
            RecipientView(
                _text(recipient.address),
                stamp.letter,
                MEANINGS[stamp],
                times.get(ordinal) if stamp in _TRIED else None,
            )
            for ordinal, (recipient, stamp) in enumerate(zip(envelope.recipients, stamps, strict=True))
        ),
        problem,
        held_until(envelope.parameters),
    )


def of_found(found: Found) -> MessageView:
    """Return the view of a message found on disk."""
    header = found.header
    return view(
        header.queue_id, header.arrival, header.content_length, found.envelope, [*map(Stamp, found.stamps)]
    )


def qmail_form(message: MessageView) -> str:
    """Return recipients as qmail keeps them: stamp and address, `Tuser@example.org`, one a line."""
    return "\n".join(f"{recipient.stamp}{recipient.address}" for recipient in message.recipients)


def _text(address: bytes) -> str:
    return address.decode("utf-8", "backslashreplace")
