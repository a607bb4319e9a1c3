"""Reading messages back in the reading threads: what is to be sent, shown or reported.

A record that does not verify is kept in `corrupt/` before anybody is told. Memory is bounded:
of a large content only what is known of it is held, and its pieces are read as they are sent.
"""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from backstamp.mail.content import Content
from backstamp.mail.envelope import Envelope
from backstamp.queue import readback
from backstamp.queue.aside import put_aside
from backstamp.queue.entry import Entry, Facts
from backstamp.queue.files import Files
from backstamp.queue.port import DamagedError
from backstamp.queue.segment import Segment
from backstamp.queue.stored import Known, Piece, StoredContent

T = TypeVar("T")


class Run(Protocol):
    """Runs something in a reading thread."""

    def __call__(self, function: Callable[[], T], /) -> "asyncio.Future[T]":
        """Begin it."""
        ...


class Reading:
    """Reads from the segments of a queue directory; a content of more octets than `large` piece by piece."""

    def __init__(self, files: Files, root: str, run: Run, *, large: int) -> None:
        self._files = files
        self._root = root
        self._run = run
        self._large = large
        self._keeping = threading.Lock()
        """Held while a damaged record is kept: two deliveries may find the same one."""

    async def read(self, entry: Entry, *, content: bool) -> tuple[Envelope, Content]:
        """Read a message; its place must not change before this ends, nor while its content is read.

        Raises:
            DamagedError: it does not verify.
            OSError: it cannot be read, or not be kept.
        """
        segment, facts = entry.segment, entry.facts
        if content and facts.size > self._large:
            envelope, known = await self._run(partial(self._through, segment, facts))
            return envelope, StoredContent(known, segment.seed, partial(self._piece, entry))
        return await self._run(partial(self._whole, segment, facts, content))

    def _whole(self, segment: Segment, facts: Facts, content: bool) -> tuple[Envelope, bytes]:
        octets = readback.octets(self._files, segment, facts, content=content)
        return self._sound(readback.message(octets, facts), segment, facts)

    def _through(self, segment: Segment, facts: Facts) -> tuple[Envelope, Known]:
        return self._sound(readback.through(self._files, segment, facts), segment, facts)

    def _piece(self, entry: Entry, at: int, length: int, checksum: int) -> "asyncio.Future[Piece]":
        segment, facts = entry.segment, entry.facts
        return self._run(partial(readback.piece, self._files, segment, facts, at, length, checksum))

    def _sound(self, found: T | DamagedError, segment: Segment, facts: Facts) -> T:
        """Return what was read; keep a record that does not verify, and raise."""
        if isinstance(found, DamagedError):
            name = f"{segment.number:020}-{facts.offset}.corrupt"
            with self._keeping:
                put_aside(self._files, self._root, name, readback.record(self._files, segment, facts))
            raise found
        return found
