"""What destinations taught, kept in one small file beside the queue, so that a restart forgets nothing.

It is written whole, a few seconds after the last lesson and at the end, under another name
that then takes its place: a crash leaves the old one or the new. Lessons are worth having
and nothing more: a file that cannot be read is put aside with an alarm, one that cannot be
written is told, and the relay goes on without.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from backstamp.clock import Clock
from backstamp.delivery.throttle import Learned
from backstamp.queue.files import Files
from backstamp.telemetry.events import Alarm, Event
from backstamp.text import reason

NAME: Final = "learned.json"
GATHER: Final = 5.0
"""Seconds lessons gather before they are written."""

SIZE: Final = 64 * 1024 * 1024
"""Octets of the file that are read, at most."""


class LearnedFile:
    """The file in a queue's directory."""

    def __init__(self, files: Files, root: str, *, clock: Clock, emit: Callable[[Event], None]) -> None:
        self._files = files
        self._root = root
        self._path = f"{root}/{NAME}"
        self._clock = clock
        self._emit = emit
        self._taught = asyncio.Event()
        self._saving = threading.Lock()
        """Held while it is written: the last save, at the end, may find another one under way."""

    def load(self) -> list[Learned]:
        """Return what was kept; nothing where there is no file, or none that can be read."""
        try:
            descriptor = self._files.open(self._path, write=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._alarm(
                f"cannot be read: {reason(error, place=False)}", "what destinations taught is learned again"
            )
            return []
        try:
            octets = self._files.read(descriptor, min(SIZE, self._files.size(descriptor)), 0)
            return msgspec.json.decode(octets, type=list[Learned])
        except (OSError, msgspec.DecodeError) as error:
            with contextlib.suppress(OSError):
                self._files.rename(self._path, f"{self._path}.damaged")
            self._alarm(
                f"cannot be used: {reason(error, place=False)}",
                f"kept as {NAME}.damaged; what it said is learned again",
            )
            return []
        finally:
            self._files.close(descriptor)

    def taught(self) -> None:
        """There is something new to be written, soon."""
        self._taught.set()

    async def run(self, learned: Callable[[], Sequence[Learned]]) -> None:
        """Write what is learned whenever it changed."""
        while True:
            await self._taught.wait()
            await asyncio.sleep(GATHER)
            self._taught.clear()
            await asyncio.to_thread(self.save, learned())

    def save(self, learned: Sequence[Learned]) -> None:
        """Put what is learned in the place of what was kept."""
        octets = msgspec.json.encode(list(learned)) + b"\n"
        try:
            with self._saving:
                self._replace(octets)
        except OSError as error:
            self._alarm(
                f"cannot be written: {reason(error, place=False)}",
                "what destinations taught is kept in memory only",
            )

    def _replace(self, octets: bytes) -> None:
        files, draft = self._files, f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            files.unlink(draft)
        descriptor = files.create(draft)
        try:
            files.write(descriptor, [octets], 0)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
        files.rename(draft, self._path)
        files.sync_directory(self._root)

    def _alarm(self, problem: str, action: str) -> None:
        now = int(self._clock.wall() * 1e6)
        self._emit(Alarm(time=now, problem=f"{self._path} {problem}", action=action))
