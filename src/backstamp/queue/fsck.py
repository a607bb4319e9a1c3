"""fsck: what a queue holds, every checksum verified, and what is not as it should be.

It reads a stopped queue or a running one and changes nothing; on a running one segments may
come and go meanwhile, and the end of the newest is unfinished by nature. What is damaged is
what a start could not take as it stands; what a crash left half done is none: the next
start finishes it. `queue.repair` does what is said here.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec

from backstamp.queue import ids, reader, recovery
from backstamp.queue import segment as segments
from backstamp.queue.aside import CORRUPT
from backstamp.queue.files import DiskFiles, Files, read_around
from backstamp.queue.fold import Fold, Found, Judged
from backstamp.queue.port import Flag
from backstamp.queue.reader import Damaged, Scan
from backstamp.queue.record import SALT_SIZE, Kind
from backstamp.queue.segment import KEYS_SUFFIX, MAIL_SUFFIX, NEW_SUFFIX, STAMPS_SIZE
from backstamp.queue.stamps import Stamp
from backstamp.text import reason


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be.

    `damage` is false where nothing is lost and the next start clears it away. `start` and
    `end` are octets of the segment's `.mail`, both 0 where that is not what it is about.
    """

    what: str
    repair: str
    """What `--repair` does about it; or, where there is no damage, what the next start does."""
    damage: bool = True
    queue_id: str = ""
    start: int = 0
    end: int = 0


class SegmentReport(msgspec.Struct, frozen=True):
    """What one segment holds. Octets are those of both files."""

    number: int
    octets: int
    alive: int
    """Messages with a recipient who is not finished."""
    done: int
    """Messages all of whose recipients are finished."""
    stamps: dict[str, int]
    """Recipients by the letter of their stamp, as a start would take it."""
    findings: tuple[Finding, ...] = ()
    repaired: bool = False
    """What is damaged of it was repaired, as its findings say."""

    @property
    def damaged(self) -> bool:
        """Whether a start could not take it as it stands."""
        return any(finding.damage for finding in self.findings)


class Report(msgspec.Struct, frozen=True):
    """A whole queue."""

    directory: str
    segments: tuple[SegmentReport, ...]
    findings: tuple[Finding, ...]
    """What is about no segment."""
    kept: int
    """Files in `corrupt/`, from earlier."""

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged (any more)."""
        return not any(finding.damage for finding in self.findings) and all(
            segment.repaired or not segment.damaged for segment in self.segments
        )


class Examined(msgspec.Struct):
    """A segment as it was found, for whoever repairs it."""

    report: SegmentReport
    scan: Scan
    judged: Judged
    contents: list[Damaged]
    """Records whose content does not verify."""


class DamagedKeys(msgspec.Struct):
    """A file of keys that is damaged, for whoever repairs it."""

    told: Finding
    scan: Scan


class AroundFiles(DiskFiles):
    """Reads around what the disk does not give: it reads as zeros, and so does not verify."""

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Return up to `length` octets from `offset`."""
        try:
            return super().read(descriptor, length, offset)
        except OSError:
            read = super().read
            return read_around(lambda wanted, at: read(descriptor, wanted, at), length, offset)


def examine(files: Files, root: str) -> Report:
    """Read a whole queue.

    Raises:
        FormatError: it is a queue of another version, or none.
        OSError: it is no queue, or cannot be read at all.
    """
    recovery.check_format(files, root)
    reports = [one if isinstance(one, SegmentReport) else one.report for one in walk(files, root)]
    findings = (*(damaged.told for damaged in damaged_keys(files, root)), *_leftovers(files, root))
    return Report(root, tuple(reports), findings, kept(files, root))


def damaged_keys(files: Files, root: str) -> Iterator[DamagedKeys]:
    """Yield the files of keys that do not verify; an unfinished end is none, its segments are there still."""
    directory = f"{root}/{recovery.PARTITION}"
    for number, suffixes in recovery.numbers(files, directory).items():
        if KEYS_SUFFIX not in suffixes:
            continue
        try:
            found = reader.keys(files, directory, number)
        except FileNotFoundError:
            continue  # its keys were over, and it was removed meanwhile
        except OSError as error:
            finding = Finding(
                f"keys in file {number} cannot be read: {reason(error)}", "mend what keeps them from it"
            )
            yield DamagedKeys(finding, Scan(number, b"", 0, [], [], 0, False, b"", False))
            continue
        if any(damaged.start < found.durable for damaged in found.damaged):
            names = ", ".join(f"{CORRUPT}/{recovery.keys_name(found, one)}" for one in found.damaged)
            what = f"keys in file {number} do not verify: who sends them again sends a second message"
            yield DamagedKeys(Finding(what, f"keep them as {names}, and write the others anew"), found)


def kept(files: Files, root: str) -> int:
    """Return how many files `corrupt/` holds."""
    return len(files.listing(f"{root}/{CORRUPT}")) if CORRUPT in files.listing(root) else 0


def walk(files: Files, root: str) -> Iterator[Examined | SegmentReport]:
    """Yield every segment that counts, as it was found, or why it cannot be read."""
    directory = f"{root}/{recovery.PARTITION}"
    fold = Fold()
    for number in recovery.readable(files, root):
        try:
            yield _segment(files, directory, number, fold)
        except FileNotFoundError:
            continue  # it was finished and removed meanwhile
        except OSError as error:
            finding = Finding(
                f"it cannot be read: {reason(error)}", "nothing: mend what keeps it from being read"
            )
            yield SegmentReport(number, 0, 0, 0, {}, (finding,))


def _segment(files: Files, directory: str, number: int, fold: Fold) -> Examined:
    found = reader.scan(files, directory, number)
    contents = reader.contents(files, directory, found)
    judged = fold.take(found)
    mail = [record.header for record in found.records if record.header.kind == Kind.MAIL]
    stamps: Counter[int] = Counter()
    for header in mail:
        stamps.update(judged.image[header.first_stamp : header.first_stamp + header.recipients])
    alive = {message.header.offset: message for message in judged.open}
    findings = [
        *_salt(files, directory, found),
        *(_range(found, damaged) for damaged in found.damaged),
        *(_content(found, damaged, alive.get(damaged.start)) for damaged in contents),
        *_stamps(found, judged),
    ]
    report = SegmentReport(
        number,
        found.size + STAMPS_SIZE,
        len(alive),
        len(mail) - len(alive),
        {Stamp(byte).letter: count for byte, count in stamps.items()},
        tuple(findings),
    )
    return Examined(report, found, judged, contents)


def _salt(files: Files, directory: str, found: Scan) -> Iterator[Finding]:
    """The salt stands in both files: a flipped bit in one of them is read over."""
    if not found.stamps_agree:
        return
    for path in (segments.mail_path(directory, found.number), segments.stamps_path(directory, found.number)):
        descriptor = files.open(path, write=False)
        try:
            if files.read(descriptor, SALT_SIZE, 0) != found.salt:
                name = path.rpartition("/")[2]
                yield Finding(f"the salt of {name} has flipped bits", "write the segment anew")
        finally:
            files.close(descriptor)


def _range(found: Scan, damaged: Damaged) -> Finding:
    name = f"{CORRUPT}/{recovery.damaged_name(found, damaged)}"
    whose = ids.text(damaged.queue_id) if damaged.queue_id else ""
    if damaged.start >= found.durable:
        what = f"unfinished, nobody was promised it: {damaged.damage.value}"
        return Finding(what, f"keep it as {name}", False, whose, damaged.start, damaged.end)
    repair = f"keep it as {name}, and write the segment anew without it"
    return Finding(damaged.damage.value, repair, True, whose, damaged.start, damaged.end)


def _content(found: Scan, damaged: Damaged, message: Found | None) -> Finding:
    name = f"{CORRUPT}/{recovery.damaged_name(found, damaged)}"
    waiting = len(hopeless(message)) if message is not None else 0
    then = f"fail the {waiting} who wait for it, with a report" if waiting else "nobody waits for it"
    return Finding(
        damaged.damage.value,
        f"keep it as {name}; {then}",
        True,
        ids.text(damaged.queue_id),
        damaged.start,
        damaged.end,
    )


_HOPING = frozenset({Stamp.TODO, Stamp.DOUBT, Stamp.HELD})


def hopeless(message: Found) -> tuple[int, ...]:
    """Return whom a message without its content can reach no more: everybody who is not finished."""
    return tuple(ordinal for ordinal, byte in enumerate(message.stamps) if byte in _HOPING)


def _stamps(found: Scan, judged: Judged) -> Iterator[Finding]:
    if not found.stamps_agree and found.used:
        yield Finding(
            "the stamps cannot be read: they are missing, cut short or another segment's",
            "a new stamps file; everybody in it is tried again: there may be second copies",
        )
        return
    for message in judged.open:
        if message.unreadable:
            once = message.header.flags & Flag.AT_MOST_ONCE
            yield Finding(
                f"{message.unreadable} of its stamps cannot be read",
                f"taken as {'held' if once else 'to do: there may be a second copy'}",
                True,
                ids.text(message.header.queue_id),
            )


def _leftovers(files: Files, root: str) -> Iterator[Finding]:
    """What a crash left half done, or a running relay is about."""
    directory = f"{root}/{recovery.PARTITION}"
    present = recovery.numbers(files, directory)
    counting = set(recovery.readable(files, root))
    for number, suffixes in present.items():
        if suffixes == {KEYS_SUFFIX}:
            continue
        if MAIL_SUFFIX not in suffixes:
            yield _leftover(f"segment {number} was begun or removed, and not finished")
        elif number not in counting:
            yield _leftover(f"segment {number} was copied to a later one")
    for name in files.listing(directory):
        if name.endswith(NEW_SUFFIX):
            yield _leftover(f"{name} was begun and not finished")
        elif segments.parse_name(name) is None:
            yield Finding(f"{name} is nothing of the queue's", "nothing", damage=False)


def _leftover(what: str) -> Finding:
    return Finding(what, "removes it", damage=False)
