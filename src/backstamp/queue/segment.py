"""A segment: two files, `N.mail` and `N.stamps`, that begin with the same random salt.

The stamps file is written full of `T` and synced before any record refers to it, so that
a stamp never allocates and never grows a file. Numbers only go up and count both files.
A `Segment` is shared: the loop owns `image`, `rows` and the counts, the commit thread the rest;
`disk` is written by both, each to the stamps that are its own at that moment.
"""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from backstamp.queue.files import Files
from backstamp.queue.record import SALT_SIZE, seed_of
from backstamp.queue.stamps import Stamp

if TYPE_CHECKING:
    from backstamp.queue.entry import Entry

STAMPS_SIZE: Final = 65536
CAPACITY: Final = STAMPS_SIZE - SALT_SIZE
"""Recipients a segment holds; no message may have more."""

MAIL_SUFFIX: Final = ".mail"
STAMPS_SUFFIX: Final = ".stamps"
KEYS_SUFFIX: Final = ".keys"
NEW_SUFFIX: Final = ".new"
"""Of files that are not finished: they get their name when they are."""
_DIGITS: Final = 20
_TODO: Final = bytes([Stamp.TODO])


class Segment:
    """One open segment."""

    __slots__ = (
        "busy",
        "copied",
        "directory",
        "disk",
        "durable",
        "end",
        "entries",
        "failed",
        "image",
        "keys",
        "live",
        "live_octets",
        "lock",
        "mail",
        "number",
        "pins",
        "rows",
        "salt",
        "sealed",
        "seed",
        "stamps",
        "used",
    )

    def __init__(
        self, directory: str, number: int, salt: bytes, mail: int, stamps: int, image: bytearray
    ) -> None:
        self.directory = directory
        self.number = number
        self.salt = salt
        self.seed = seed_of(salt)
        self.mail = mail
        self.stamps = stamps
        self.image = image
        """The stamps as they stand in memory; what is on disk follows within one commit."""
        self.disk = bytearray(image)
        """The stamps as they were last written, or are being written."""
        self.lock = threading.Lock()
        """Held while the loop jots, and while another stamps file takes the place of this one."""
        self.keys = bytearray()
        """Keys of its messages that stand nowhere else (`queue.keys`, Q13), finished ones among them."""
        self.rows = bytearray()
        """What is known of each message, row by row (`queue.entry`)."""
        self.entries: list[Entry | None] = []
        """The messages of the rows; None once all their stamps are final, or they moved."""
        self.live = 0
        """Messages in this segment with a stamp that is not final."""
        self.live_octets = 0
        """Octets of their records."""
        self.pins = 0
        """What else keeps this segment: reasons whose failures are not reported, sources not removed."""
        self.busy = 0
        """Attempts, reports and stamps under way for messages of this segment."""
        self.copied: asyncio.Future[None] | None = None
        """While the segment is copied: ends when it was, or could not be."""
        self.end = SALT_SIZE
        self.durable = SALT_SIZE
        self.used = 0
        """Stamps given to records."""
        self.sealed = False
        self.failed = False
        """A stamp could not be written here: nothing in the stamps file is believed any more (Q8)."""

    @property
    def removable(self) -> bool:
        """Q6: sealed, every stamp final and durable, nothing pinned."""
        return self.sealed and not (self.live or self.pins or self.busy or self.failed)

    def trim(self) -> None:
        """Let go of the stamps behind the last: a sealed segment gives out no more."""
        del self.image[self.used :]
        del self.disk[self.used :]


def mail_path(directory: str, number: int) -> str:
    """Return the path of a segment's records."""
    return f"{directory}/{number:0{_DIGITS}}{MAIL_SUFFIX}"


def stamps_path(directory: str, number: int) -> str:
    """Return the path of a segment's stamps."""
    return f"{directory}/{number:0{_DIGITS}}{STAMPS_SUFFIX}"


def keys_path(directory: str, number: int) -> str:
    """Return the path of a file of keys."""
    return f"{directory}/{number:0{_DIGITS}}{KEYS_SUFFIX}"


def parse_name(name: str) -> tuple[int, str] | None:
    """Return number and suffix of a segment file's name, None for any other name."""
    for suffix in (MAIL_SUFFIX, STAMPS_SUFFIX, KEYS_SUFFIX):
        digits = name.removesuffix(suffix)
        if digits != name and len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
            return int(digits), suffix
    return None


def create(files: Files, directory: str, number: int, salt: bytes) -> Segment:
    """Create a segment and make it durable, names included; then records may refer to it (Q1).

    Raises:
        OSError: it could not be made; what was created is gone again, or cleared by recovery.
    """
    image = bytearray([Stamp.TODO]) * CAPACITY
    opened: list[int] = []
    try:
        stamps = files.create(stamps_path(directory, number))
        opened.append(stamps)
        files.write(stamps, [salt, bytes(image)], 0)
        files.sync(stamps)
        mail = files.create(mail_path(directory, number))
        opened.append(mail)
        # The salt shares its sector with the first record, whose write makes both durable.
        files.write(mail, [salt], 0)
        files.sync_directory(directory)
    except OSError:
        _discard(files, directory, number, opened)
        raise
    return Segment(directory, number, salt, mail, stamps, image)


def _discard(files: Files, directory: str, number: int, opened: list[int]) -> None:
    """Let go of a segment that could not be made. A full disk must not fill up with its remains."""
    for descriptor in opened:
        files.close(descriptor)
    for path in (mail_path(directory, number), stamps_path(directory, number))[2 - len(opened) :]:
        with contextlib.suppress(OSError):
            files.unlink(path)


def jot(files: Files, segment: Segment, runs: Sequence[tuple[int, bytes]]) -> None:
    """Write stamps in place at once, without a sync. Called on the loop.

    Raises:
        OSError: not even that worked.
    """
    with segment.lock:
        for start, run in runs:
            segment.disk[start : start + len(run)] = run
            files.poke(segment.stamps, run, SALT_SIZE + start)


def replace_stamps(files: Files, segment: Segment) -> None:
    """Put a new stamps file in the place of one that could not be written (Q8).

    Raises:
        OSError: it could not be made durable; the old one stands, and is not believed.
    """
    path = stamps_path(segment.directory, segment.number)
    new = f"{path}{NEW_SUFFIX}"
    with contextlib.suppress(FileNotFoundError):
        files.unlink(new)
    descriptor = files.create(new)
    try:
        stamps = bytes(segment.disk)
        files.write(descriptor, [segment.salt, stamps.ljust(CAPACITY, _TODO)], 0)
        files.sync(descriptor)
        files.rename(new, path)
        files.sync_directory(segment.directory)
    except OSError:
        files.close(descriptor)
        raise
    with segment.lock:
        old, segment.stamps = segment.stamps, descriptor
        if segment.disk != stamps:
            # What was jotted into the old file meanwhile.
            files.write(descriptor, [bytes(segment.disk)], SALT_SIZE)
    files.close(old)
    segment.failed = False


def remove(files: Files, segment: Segment) -> None:
    """Remove a finished segment in the order of Q6; any other resurrects delivered mail."""
    files.close(segment.mail)
    files.close(segment.stamps)
    files.unlink(mail_path(segment.directory, segment.number))
    files.sync_directory(segment.directory)
    files.unlink(stamps_path(segment.directory, segment.number))
