"""The suppression list of a running relay: in memory for whoever asks, on the disk by one thread.

The loop never waits for the disk: lookups are in memory, bounces gather and are written
together, operators' verbs await their sync. Memory follows the disk: an entry holds once it
is durable, and changes are made one after the other in the same order in both. A file that
cannot be read is kept in `corrupt/`, with an alarm, and the relay begins with an empty list.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final, TypeVar

from backstamp.clock import Clock
from backstamp.policy.suppression import At, Entry, Match, Source, SuppressionPolicy, counts, refusal
from backstamp.policy.suppression_file import LINE, Mistake, read
from backstamp.policy.suppressions import SIZE, Suppressions
from backstamp.queue.aside import CORRUPT
from backstamp.queue.files import Files
from backstamp.suppression.database import NAME, SIDES, Asked, Bounce, DamagedFileError, Database, Key
from backstamp.telemetry.events import Alarm, Event, Suppressed, Unsuppressed
from backstamp.text import printable, reason

GATHER: Final = 1.0
"""Seconds bounces gather before they are written: one sync for all of them."""

BOUND: Final = 100_000
"""Bounces that wait for a slow disk; beyond it they are not learned from. The next ones will be."""

SWEEP: Final = 3600.0
"""Seconds between looks for entries that have ended. They match nobody before that."""

MISTAKES: Final = 100
"""Mistakes in a file that are told before reading it ends."""

PORTION: Final = 1000
"""Entries that are handed over at a time."""

T = TypeVar("T")


class MistakenFileError(Exception):
    """A file has mistakes, and nothing of it was taken."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = mistakes


class SuppressionList:
    """The list. `policy` may be replaced while it runs; `root` is the directory of a queue that is locked."""

    def __init__(
        self,
        files: Files,
        root: str,
        policy: SuppressionPolicy,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
    ) -> None:
        self.policy = policy
        self._files = files
        self._root = root
        self._clock = clock
        self._emit = emit
        self._table = Suppressions()
        self._database = Database(f"{root}/{NAME}")
        self._thread = ThreadPoolExecutor(1, "suppression")
        self._changing = asyncio.Lock()
        self._bounces: list[Bounce] = []
        self._troubled = False

    def __len__(self) -> int:
        return len(self._table)

    # ---- for listener and delivery ----

    def match(self, address: bytes, tenant: bytes) -> Match | None:
        """Return what keeps an address from being sent to, None if nothing does."""
        return self._table.match(address, tenant, now=self._clock.wall(), learned=self.policy.enabled)

    def refuse(self, address: bytes, tenant: bytes) -> bytes | None:
        """Return the reply line to RCPT for an address that is refused there, None if it is taken."""
        if self.policy.at is At.SEND or (found := self.match(address, tenant)) is None:
            return None
        return f"{refusal(found)}\r\n".encode("ascii")

    def bounced(self, recipient: bytes, tenant: bytes, bounce_class: str, reply: str) -> None:
        """Learn from a recipient's failure that is durable. Whatever suppresses nobody is passed over."""
        if counts(self.policy, bounce_class) and len(self._bounces) < BOUND:
            words = printable(reply, 1000)
            self._bounces.append(Bounce(recipient, tenant, bounce_class, words, self._clock.wall()))

    # ---- life ----

    async def open(self) -> None:
        """Read the list. For 1,000,000 entries that takes some seconds and 30 MB.

        Raises:
            OSError: the file is there and cannot be opened, or is of another version.
        """
        try:
            await self._do(self._load)
        except DamagedFileError as error:
            kept = await self._do(self._put_aside)
            problem = f"the suppression list {self._root}/{NAME} cannot be read: {error}"
            action = f"kept as {kept}; the list is empty: import the last export"
            self._emit(Alarm(time=self._now(), problem=problem, action=action))

    async def run(self) -> None:
        """Write what is learned and drop what has ended, until cancelled."""
        swept = self._clock.monotonic()
        while True:
            await asyncio.sleep(GATHER)
            await self.flush()
            if self._clock.monotonic() - swept >= SWEEP:
                swept = self._clock.monotonic()
                await self.sweep()

    async def close(self) -> None:
        """Write what is left, and let go of the file."""
        await self.flush()
        await self._do(self._database.close)
        self._thread.shutdown()

    async def flush(self) -> None:
        """Write the bounces that have gathered. Trouble of the disk is told once; they are lost then."""
        bounces, self._bounces = self._bounces, []
        if not bounces:
            return
        try:
            async with self._changing:
                for entry in await self._do(self._database.learn, self.policy, bounces):
                    self._table.add(entry)
                    self._emit(self._told(entry))
        except OSError as error:
            self._trouble(f"bounces were not written into the suppression list: {reason(error)}")
        else:
            self._troubled = False

    async def sweep(self) -> None:
        """Drop entries that have ended."""
        try:
            async with self._changing:
                while ended := await self._do(self._database.expire, self._clock.wall(), self.policy.within):
                    self._table.remove(ended)
        except OSError as error:
            self._trouble(f"the suppression list was not swept: {reason(error)}")

    # ---- for operators ----

    async def add(self, entry: Entry) -> None:
        """Add an entry, durable on return; one of the same address and tenant is replaced. Raises OSError."""
        async with self._changing:
            await self._do(self._database.put, [entry])
            self._table.add(entry)
        self._emit(self._told(entry))

    async def remove(self, address: str, tenant: str | None) -> list[Entry]:
        """Remove the entries of a canonical address, of one tenant or (None) of all; durable on return.

        What bounced before counts no more. Raises OSError.
        """
        async with self._changing:
            removed = await self._do(self._database.remove, address, tenant)
            self._table.remove((one.address, one.tenant) for one in removed)
        for one in removed:
            self._emit(Unsuppressed(time=self._now(), recipient=one.address, tenant=one.tenant))
        return removed

    async def page(self, asked: Asked) -> list[Entry]:
        """Return entries, ordered by domain, local part, tenant. Raises OSError."""
        return await self._do(self._database.page, asked)

    async def pages(self) -> AsyncIterator[list[Entry]]:
        """Yield the whole list in portions; changes meanwhile are seen or not. Raises OSError."""
        after: Key | None = None
        while found := await self.page(Asked(after=after, limit=PORTION)):
            yield found
            after = (found[-1].address, found[-1].tenant)

    async def take(self, kind: str, file: BinaryIO) -> int:
        """Add every entry of a file (`policy.suppression_file`), durably; return how many lines had one.

        Raises:
            MistakenFileError: it has mistakes, and nothing was taken.
            OSError: it could not be written, and nothing was taken.
        """
        async with self._changing:
            packed = await self._do(self._import, kind, file)
            for at in range(0, len(packed), SIZE * PORTION):
                self._table.put(packed[at : at + SIZE * PORTION])
                await asyncio.sleep(0)
        count = len(packed) // SIZE
        self._emit(Suppressed(time=self._now(), source=Source.IMPORT.value, entries=count))
        return count

    # ---- in the thread ----

    def _load(self) -> None:
        self._database.open()
        try:
            for entry in self._database.entries():
                self._table.add(entry)
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._table = Suppressions()
            raise DamagedFileError(str(error)) from None

    def _put_aside(self) -> str:
        """Keep the file and what SQLite keeps beside it; return its new name."""
        self._database.close()
        directory = f"{self._root}/{CORRUPT}"
        self._files.make_directory(directory)
        name = f"{CORRUPT}/{self._now()}-{NAME}"
        # The file goes last: without its log it is put aside again, a log without its file would be believed.
        for side in reversed(SIDES):
            with contextlib.suppress(FileNotFoundError):
                self._files.rename(f"{self._root}/{NAME}{side}", f"{self._root}/{name}{side}")
        self._files.sync_directory(directory)
        self._files.sync_directory(self._root)
        return name

    def _import(self, kind: str, file: BinaryIO) -> bytes:
        packed = bytearray()
        mistakes: list[Mistake] = []

        def good() -> Iterator[Entry]:
            for one in read(kind, iter(lambda: file.readline(LINE), b""), self._clock.wall()):
                if isinstance(one, Entry):
                    packed.extend(self._table.pack(one))
                    yield one
                else:
                    mistakes.append(one)
                    if len(mistakes) == MISTAKES:
                        break
            if mistakes:
                raise MistakenFileError(mistakes)

        self._database.put(good())
        return bytes(packed)

    async def _do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function in the thread. Raises OSError for whatever SQLite complains of."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except sqlite3.Error as error:
            raise OSError(f"{self._root}/{NAME}: {error}") from error

    # ---- told ----

    def _trouble(self, problem: str) -> None:
        if not self._troubled:
            self._troubled = True
            action = "what is in memory holds; what bounces again is learned again"
            self._emit(Alarm(time=self._now(), problem=problem, action=action))

    def _told(self, entry: Entry) -> Suppressed:
        return Suppressed(
            time=self._now(),
            source=entry.source.value,
            recipient=entry.address,
            tenant=entry.tenant,
            bounce_class=entry.bounce_class,
            reply=entry.reply,
            until=None if entry.expires is None else float(entry.expires),
        )

    def _now(self) -> int:
        return int(self._clock.wall() * 1e6)
