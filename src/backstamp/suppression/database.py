"""The suppression list on the disk: one SQLite file in the queue's directory. Blocks; a thread's.

Two tables: entries, ordered by domain so that one domain is one range, and hard bounces that
did not suppress yet. The file is made by the first write: a relay without a list has none.
Every commit is synced (WAL, synchronous=FULL). One process at a time has the file (exclusive
locking), which also spares the shared-memory file: reading needs no room on a full disk.
"""

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from backstamp.policy.suppression import Entry, Source, SuppressionPolicy, canonical, learn

NAME: Final = "suppression.sqlite"
SIDES: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite may keep beside a file: whoever moves one moves all."""

_VERSION: Final = 1
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}
_SCHEMA: Final = (
    """CREATE TABLE entry (
        domain TEXT NOT NULL, local TEXT NOT NULL, tenant TEXT NOT NULL, bounce_class TEXT NOT NULL,
        reply TEXT NOT NULL, since INTEGER NOT NULL, expires INTEGER, source TEXT NOT NULL,
        PRIMARY KEY (domain, local, tenant)) WITHOUT ROWID""",
    "CREATE INDEX entry_expires ON entry (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE bounce (address TEXT NOT NULL, tenant TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE INDEX bounce_address ON bounce (address, tenant)",
    "CREATE INDEX bounce_time ON bounce (time)",
    f"PRAGMA user_version = {_VERSION}",
)
_SETTINGS: Final = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "journal_size_limit = 16777216",  # an import's log is as long as the list
)
_PUT: Final = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_LEARN: Final = "INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ENDED: Final = "DELETE FROM entry WHERE domain = ? AND local = ? AND tenant = ? AND expires <= ?"
_PAGE: Final = """SELECT * FROM entry
    WHERE domain >= :low AND domain <= :high AND (domain, local, tenant) > (:domain, :local, :owner)
    AND (:mailbox IS NULL OR local = :mailbox) AND (:tenant IS NULL OR tenant = :tenant)
    ORDER BY domain, local, tenant LIMIT :limit"""
_HIGHEST: Final = "\U0010ffff"

Row = tuple[str, str, str, str, str, int, int | None, str]
Key = tuple[str, str]
"""Canonical address and tenant."""


class DamagedFileError(Exception):
    """The file is there and cannot be read as what it should be."""


class Bounce(msgspec.Struct, frozen=True, gc=False):
    """A hard bounce of a class that suppresses; `time` is seconds since the epoch."""

    address: bytes
    tenant: bytes
    bounce_class: str
    reply: str
    time: float


class Asked(msgspec.Struct, frozen=True):
    """What of the list is wanted: canonical address or domain, tenant ("" those for all; None any)."""

    address: str | None = None
    domain: str | None = None
    tenant: str | None = None
    after: Key | None = None
    limit: int = 100


class Database:
    """The file. Every method may raise sqlite3.Error."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file and check it whole, if there is one.

        Raises:
            DamagedFileError: it is none of SQLite, or damaged, or the disk does not give it.
            BlockingIOError: somebody else has it open.
            OSError: it cannot be opened, or is that of another version.
        """
        if not os.path.lexists(self.path):
            return
        try:
            self._connect()
            for (line,) in self._made.execute("PRAGMA quick_check(1)"):
                if line != "ok":
                    raise DamagedFileError(str(line).splitlines()[0])
        except sqlite3.Error as error:
            self.close()
            if damaged(error):
                raise DamagedFileError(str(error)) from None
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise BlockingIOError(errno.EAGAIN, "somebody else has it open", self.path) from None
            raise OSError(f"{self.path}: {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, ordered by domain."""
        if self._connection is not None:
            yield from map(_entry, self._connection.execute("SELECT * FROM entry"))

    def page(self, asked: Asked) -> list[Entry]:
        """Return entries in the order of domain, local part, tenant, from behind `after` on."""
        if self._connection is None:
            return []
        mailbox, _, domain = (asked.address or f"@{asked.domain or ''}").rpartition("@")
        after = _split(asked.after) if asked.after is not None else ("", "", "")
        values = {
            "low": max(domain, after[0]),
            "high": domain or _HIGHEST,
            "domain": after[0],
            "local": after[1],
            "owner": after[2],
            "mailbox": mailbox if asked.address is not None else None,
            "tenant": asked.tenant,
            "limit": asked.limit,
        }
        return [*map(_entry, self._connection.execute(_PAGE, values))]

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries, all or none; those of the same address and tenant are replaced."""
        self._connect()
        # A million entries in no order take four times as long with the 2 MB of cache that SQLite has.
        self._made.execute("PRAGMA cache_size = -65536")
        try:
            with _Transaction(self._made):
                self._made.executemany(_PUT, map(_row, entries))
        finally:
            self._made.execute("PRAGMA cache_size = -2000")
            self._made.execute("PRAGMA shrink_memory")

    def remove(self, address: str, tenant: str | None) -> list[Entry]:
        """Remove the entries of an address (of one tenant, if one is given), and its bounces; return them."""
        if self._connection is None:
            return []
        found = self.page(Asked(address=address, tenant=tenant, limit=-1))
        with _Transaction(self._connection):
            self._delete(found)
            for owner in {one.tenant for one in found}:
                self._forget((address, owner))
        return found

    def learn(self, policy: SuppressionPolicy, bounces: Sequence[Bounce]) -> list[Entry]:
        """Note bounces and return the new entries they make; who is in the list already stays as he is."""
        self._connect()
        made: list[Entry] = []
        with _Transaction(self._made):
            for bounce in bounces:
                key = canonical(bounce.address), bounce.tenant.decode("utf-8", "backslashreplace")
                earlier = [
                    time
                    for (time,) in self._made.execute(
                        "SELECT time FROM bounce WHERE address = ? AND tenant = ?", key
                    )
                ]
                found = learn(
                    policy,
                    bounce.address,
                    bounce.tenant,
                    bounce.bounce_class,
                    bounce.reply,
                    now=bounce.time,
                    earlier=earlier,
                )
                if found is None:
                    self._made.execute("INSERT INTO bounce VALUES (?, ?, ?)", (*key, bounce.time))
                    continue
                self._forget(key)
                self._made.execute(_ENDED, (*_split(key), int(bounce.time)))
                if self._made.execute(_LEARN, _row(found)).rowcount:
                    made.append(found)
        return made

    def expire(self, now: float, within: float, limit: int = 1000) -> list[Key]:
        """Remove up to `limit` entries that have ended, and bounces older than `within`; return whose."""
        if self._connection is None:
            return []
        ended = [
            *map(
                _entry,
                self._connection.execute("SELECT * FROM entry WHERE expires <= ? LIMIT ?", (int(now), limit)),
            )
        ]
        with _Transaction(self._connection):
            self._delete(ended)
            self._connection.execute("DELETE FROM bounce WHERE time <= ?", (now - within,))
        return [(one.address, one.tenant) for one in ended]

    @property
    def _made(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _delete(self, entries: Iterable[Entry]) -> None:
        keys = (_split((one.address, one.tenant)) for one in entries)
        self._made.executemany("DELETE FROM entry WHERE domain = ? AND local = ? AND tenant = ?", keys)

    def _forget(self, key: Key) -> None:
        self._made.execute("DELETE FROM bounce WHERE address = ? AND tenant = ?", key)

    def _connect(self) -> None:
        """Open the file, and make it if there is none."""
        if self._connection is not None:
            return
        # Made here and not by SQLite, whose file everybody could read.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
        try:
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}").fetchall()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                with _Transaction(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
                self._sync_directory()
            elif version != _VERSION:
                raise OSError(f"{self.path} is a list of version {version}, this relay reads {_VERSION}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _sync_directory(self) -> None:
        descriptor = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Transaction:
    """All that is done in it, or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        # Some errors (a full disk) have rolled back already.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def damaged(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the file itself is not what it should be."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _split(key: Key) -> tuple[str, str, str]:
    local, _, domain = key[0].rpartition("@")
    return domain, local, key[1]


def _row(entry: Entry) -> Row:
    return (
        *_split((entry.address, entry.tenant)),
        entry.bounce_class,
        entry.reply,
        entry.since,
        entry.expires,
        entry.source.value,
    )


def _entry(row: Row) -> Entry:
    domain, local, tenant, bounce_class, reply, since, expires, source = row
    return Entry(f"{local}@{domain}", tenant, bounce_class, reply, since, expires, Source(source))
