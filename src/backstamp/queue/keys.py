"""Keys: what a client named its submission by, so that a second one of that name queues nothing.

A key is a digest of a scope (whose key it is) and of what the client wrote: the queue holds no
text of theirs. It stands in the record of its message, in the parameter `KEY` (Q13), and counts
for a day from the arrival that the queue id tells. In memory there is an index, made again at
every start (Q7): young keys in young dictionaries, so that what is over goes a whole one at a
time. Pure: times are milliseconds since the epoch, given by the caller.
"""

import base64
import binascii
import hashlib
from collections import deque
from collections.abc import Iterator
from typing import Final

from backstamp.mail.envelope import Envelope, parameter, replaced

KEY_LIFETIME: Final = 24 * 3600 * 1000
"""Milliseconds for which a key stands for its message."""

KEY_SIZE: Final = 15
"""Octets of a digest: 120 bits, which is 20 characters in the record."""

KEYS_LIMIT: Final = 1 << 20
"""Keys the index holds; beyond, the oldest are let go of before their time."""

SPAN: Final = 3600 * 1000
"""Milliseconds of arrivals that go together: in one dictionary, and in one file of keys."""

_ID_SIZE: Final = 16
ROW_SIZE: Final = KEY_SIZE + _ID_SIZE
_PARTS: Final = 16
"""Dictionaries that `KEYS_LIMIT` keys fill: what is let go of at once when there are more."""

_PERSON: Final = b"backstamp key 1"


def digest(scope: bytes, text: bytes) -> bytes:
    """Return the key for what a client of a scope wrote."""
    return hashlib.blake2b(b"%b\0%b" % (scope, text), digest_size=KEY_SIZE, person=_PERSON).digest()


def named(envelope: Envelope, key: bytes) -> Envelope:
    """Return an envelope whose record tells the key."""
    parameters = replaced(envelope.parameters, b"KEY", named_text(key))
    return Envelope(envelope.sender, envelope.recipients, parameters)


def named_text(key: bytes) -> bytes:
    """Return a key as a record tells it: 20 characters."""
    return base64.urlsafe_b64encode(key)


def told(envelope: Envelope) -> bytes:
    """Return the key that a record tells, empty where it tells none."""
    if b"KEY=" not in envelope.parameters:
        return b""
    try:
        key = base64.b64decode(parameter(envelope.parameters, b"KEY") or b"", b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if len(key) == KEY_SIZE else b""


def arrival(queue_id: bytes) -> int:
    """Return when the message of a queue id arrived."""
    return int.from_bytes(queue_id[:6], "big")


def rows(octets: bytes | bytearray) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and queue ids, written one behind the other; half a row at the end is none."""
    for at in range(0, len(octets) - ROW_SIZE + 1, ROW_SIZE):
        yield bytes(octets[at : at + KEY_SIZE]), bytes(octets[at + KEY_SIZE : at + ROW_SIZE])


def living(octets: bytes | bytearray, now: int) -> bytes:
    """Return those of some rows whose keys still count."""
    return b"".join([key + queue_id for key, queue_id in rows(octets) if counts(queue_id, now)])


def newest(octets: bytes | bytearray) -> int:
    """Return the latest arrival in some rows, 0 where there are none."""
    return max((arrival(queue_id) for _, queue_id in rows(octets)), default=0)


def counts(queue_id: bytes, now: int) -> bool:
    """Tell whether the key of a message still stands for it."""
    return now < arrival(queue_id) + KEY_LIFETIME


class Index:
    """Which message a key stands for."""

    def __init__(self, limit: int = KEYS_LIMIT) -> None:
        self._limit = limit
        self._parts: deque[_Part] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, key: bytes, now: int) -> bytes | None:
        """Return the queue id a key stands for, None where it stands for none (any more)."""
        best = max((part.ids[key] for part in self._parts if key in part.ids), default=None)
        return best if best is not None and counts(best, now) else None

    def add(self, key: bytes, queue_id: bytes, now: int) -> int:
        """Note a key. Of several messages of one key the last counts: those before it were not acknowledged.

        Return how many keys had to be let go of before their time.
        """
        when = arrival(queue_id)
        parts = self._parts
        while parts and parts[0].newest + KEY_LIFETIME <= now:
            self._count -= len(parts.popleft().ids)
        if not parts or not parts[-1].takes(when, max(1, self._limit // _PARTS)):
            parts.append(_Part(when))
        part = parts[-1]
        before = len(part.ids)
        part.ids[key] = max(queue_id, part.ids.get(key, queue_id))
        part.newest = max(part.newest, when)
        self._count += len(part.ids) - before
        lost = 0
        while self._count > self._limit:
            lost += len(parts[0].ids)
            self._count -= len(parts.popleft().ids)
        return lost


class _Part:
    """Keys that came one after the other."""

    __slots__ = ("began", "ids", "newest")

    def __init__(self, began: int) -> None:
        self.began = began
        self.newest = began
        self.ids: dict[bytes, bytes] = {}

    def takes(self, when: int, most: int) -> bool:
        """Tell whether another key belongs here."""
        return len(self.ids) < most and abs(when - self.began) < SPAN
