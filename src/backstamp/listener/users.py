"""The table of users in memory, and the file behind it: read again when it changed, written whole.

Whoever asks for the table makes the file be looked at, once a second at most, and where nobody
asks a relay looks by itself (`Authority.run`). A file that is broken or gone changes nothing but
for an alarm: who could send still can, and one more alarm tells when it is well again. A writer
locks the directory, writes another file that then takes the place of the old one, and follows no
symbolic link.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import stat
import time
from collections.abc import Callable
from typing import Final

import msgspec

from backstamp.listener import accounts
from backstamp.listener.accounts import ITERATIONS, Account, Accounts, Scram, UsersError
from backstamp.telemetry.events import Alarm, Event

PERIOD: Final = 1.0
"""Seconds between two looks at the file."""

SIZE: Final = 16 * 1024 * 1024
"""Octets of a users file, at most: some forty thousand users."""

PATIENCE: Final = 5.0
"""Seconds to wait for somebody else who is changing the file."""


class UserTable(msgspec.Struct, frozen=True):
    """The users as they stood in the file. `generation` is another one after every change."""

    accounts: Accounts = {}
    generation: int = 0
    iterations: int = ITERATIONS
    """Of the SCRAM verifiers here; of nobody's too."""


def verifier(table: UserTable, name: str, secret: bytes) -> Scram:
    """Return what a SCRAM exchange of this name is about; for who has none, what is like it and never fits.

    The salt of nobody is the same at every question (RFC 5802 §9 asks for nothing less): it is made
    of `secret`, which stays in this process.
    """
    account = table.accounts.get(name)
    if account is not None and account.scram is not None:
        return account.scram
    salt, stored, server = (
        hmac.digest(secret, word + name.encode("utf-8", "surrogatepass"), hashlib.sha256)
        for word in (b"salt ", b"stored ", b"server ")
    )
    return Scram(table.iterations, salt[:16], stored, server)


class Users:
    """The users file of a running relay. `monotonic` and `wall` give seconds."""

    def __init__(
        self,
        path: str,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        emit: Callable[[Event], None],
    ) -> None:
        self._path = path
        self._monotonic = monotonic
        self._wall = wall
        self._emit = emit
        self._table = UserTable()
        self._seen: object = None
        self._next = 0.0
        self._broken = False

    def open(self) -> None:
        """Read the file for the first time.

        Raises:
            UsersError: it cannot be used.
        """
        self._seen = _look(self._path)
        self._table = _table(self._path, 1)
        self._next = self._monotonic() + PERIOD

    @property
    def table(self) -> UserTable:
        """The users, as the file stood at most a second ago."""
        self.poll()
        return self._table

    def poll(self) -> None:
        """Read the file again if it is another one; it is looked at once a second at most."""
        now = self._monotonic()
        if now >= self._next:
            self._next = now + PERIOD
            seen = _look(self._path)
            if seen != self._seen:
                self._seen = seen
                self._read()

    def _read(self) -> None:
        try:
            self._table = _table(self._path, self._table.generation + 1)
        except UsersError as error:
            if not self._broken:
                self._alarm(str(error), "the users read before stay")
            self._broken = True
            return
        if self._broken:
            self._alarm(f"{self._path}: can be used again", f"{len(self._table.accounts)} users were read")
        self._broken = False

    def _alarm(self, problem: str, action: str) -> None:
        self._emit(Alarm(time=int(self._wall() * 1e6), problem=problem, action=action))


def load(path: str) -> Accounts:
    """Return the accounts of a file.

    Raises:
        UsersError: it cannot be read, or is not what it must be.
    """
    return _read(path, _content(path))


def change(path: str, name: str, make: Callable[[Account | None], Account | None]) -> None:
    """Replace an account in the file: `make` gets the one that is there, or None, and returns what is to be.

    The file is made if there is none, for its owner only; it is durable on return.

    Raises:
        UsersError: it cannot be read or written, somebody else is at it, or `make` raised it.
    """
    directory = None
    try:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _lock(directory, path)
        try:
            content = _content(path, link=False)
        except FileNotFoundError:
            content = b""
        old = _read(path, content).get(name)
        _replace(path, accounts.changed(content, name, make(old)), directory)
    except OSError as error:
        raise UsersError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    finally:
        if directory is not None:
            os.close(directory)


def _table(path: str, generation: int) -> UserTable:
    found = load(path)
    counts = [one.scram.iterations for one in found.values() if one.scram is not None]
    return UserTable(found, generation, counts[0] if counts else ITERATIONS)


def _read(path: str, content: bytes) -> Accounts:
    try:
        return accounts.read(content)
    except UsersError as error:
        raise UsersError(f"{path}: {error}") from None


def _look(path: str) -> object:
    """Return what is different after a change."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: str, *, link: bool = True) -> bytes:
    """Return a file's octets; what is not there raises FileNotFoundError where no link is followed."""
    try:
        # A pipe in its place would be waited for, without a word.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if link else os.O_NOFOLLOW)
        with open(os.open(path, flags), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UsersError(f"{path}: not a regular file")
            content = stream.read(SIZE + 1)
    except FileNotFoundError:
        if not link:
            raise
        raise UsersError(f"{path}: no such file; backstamp user add makes it") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UsersError):
            raise
        if not link and os.path.islink(path):
            raise UsersError(f"{path}: a symbolic link is not followed; name the file itself") from None
        raise UsersError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    if len(content) > SIZE:
        raise UsersError(f"{path}: more than {SIZE} octets are no users file")
    return content


def _lock(directory: int, path: str) -> None:
    """Lock the directory until it is closed: the file itself is another one after each change."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise UsersError(f"{path}: somebody else is changing it; try again") from None
            time.sleep(0.05)


def _replace(path: str, content: bytes, directory: int) -> None:
    draft = f"{path}.new"
    # Under the lock what is there is left over from a crash.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(draft, flags, 0o600), "wb") as stream:
            stream.write(content)
            _like_before(stream.fileno(), path)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    os.fsync(directory)


def _like_before(descriptor: int, path: str) -> None:
    """Give a file the owner of the one it replaces, and let its group read it if it could.

    Root changes what a relay without privileges reads.
    """
    with contextlib.suppress(FileNotFoundError):
        before = os.lstat(path)
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        if os.fstat(descriptor).st_gid == before.st_gid:
            os.fchmod(descriptor, 0o600 | before.st_mode & stat.S_IRGRP)
