"""A segment: two files, `N.mail` and `N.stamps`, that begin with the same random salt.

The stamps file is written full of `T` and synced before any record refers to it, so that
a stamp never allocates and never grows a file. Numbers only go up and count both files.
A `Segment` is shared: the loop owns `image`, `live` and `pins`, the commit thread the rest.
"""

from typing import Final

from backstamp.queue.files import Files
from backstamp.queue.record import SALT_SIZE, seed_of
from backstamp.queue.stamps import Stamp

STAMPS_SIZE: Final = 65536
CAPACITY: Final = STAMPS_SIZE - SALT_SIZE
"""Recipients a segment holds; no message may have more."""

MAIL_SUFFIX: Final = ".mail"
STAMPS_SUFFIX: Final = ".stamps"
_DIGITS: Final = 20


class Segment:
    """One open segment."""

    __slots__ = (
        "directory",
        "disk",
        "durable",
        "end",
        "failed",
        "image",
        "live",
        "mail",
        "number",
        "pins",
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
        self.seed = seed_of(salt)
        self.mail = mail
        self.stamps = stamps
        self.image = image
        """The stamps as they stand in memory; what is on disk follows within one commit."""
        self.disk = bytearray()
        """The stamps as the commit thread last wrote them; empty until it first does."""
        self.live = 0
        """Messages in this segment with a stamp that is not final."""
        self.pins = 0
        """Reasons in this segment whose failures are not reported yet."""
        self.end = SALT_SIZE
        self.durable = SALT_SIZE
        self.used = 0
        """Stamps given to records."""
        self.sealed = False
        self.failed = False
        """A write failed here: no stamp of it can be trusted to be durable any more (Q8)."""

    @property
    def removable(self) -> bool:
        """Q6: sealed, every stamp final, nothing pinned."""
        return self.sealed and not self.live and not self.pins and not self.failed


def mail_path(directory: str, number: int) -> str:
    """Return the path of a segment's records."""
    return f"{directory}/{number:0{_DIGITS}}{MAIL_SUFFIX}"


def stamps_path(directory: str, number: int) -> str:
    """Return the path of a segment's stamps."""
    return f"{directory}/{number:0{_DIGITS}}{STAMPS_SUFFIX}"


def parse_name(name: str) -> tuple[int, str] | None:
    """Return number and suffix of a segment file's name, None for any other name."""
    for suffix in (MAIL_SUFFIX, STAMPS_SUFFIX):
        digits = name.removesuffix(suffix)
        if digits != name and len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
            return int(digits), suffix
    return None


def create(files: Files, directory: str, number: int, salt: bytes) -> Segment:
    """Create a segment and make it durable, names included; then records may refer to it (Q1).

    Raises:
        OSError: it could not be made; what was created stays for recovery to clear.
    """
    image = bytearray([Stamp.TODO]) * CAPACITY
    stamps = files.create(stamps_path(directory, number))
    try:
        files.write(stamps, [salt, bytes(image)], 0)
        files.sync(stamps)
        mail = files.create(mail_path(directory, number))
    except OSError:
        files.close(stamps)
        raise
    try:
        # The salt shares its sector with the first record, whose write makes both durable.
        files.write(mail, [salt], 0)
        files.sync_directory(directory)
    except OSError:
        files.close(stamps)
        files.close(mail)
        raise
    return Segment(directory, number, salt, mail, stamps, image)


def remove(files: Files, segment: Segment) -> None:
    """Remove a finished segment in the order of Q6; any other resurrects delivered mail."""
    files.close(segment.mail)
    files.close(segment.stamps)
    files.unlink(mail_path(segment.directory, segment.number))
    files.sync_directory(segment.directory)
    files.unlink(stamps_path(segment.directory, segment.number))
