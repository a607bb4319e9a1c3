"""Recovery: from whatever is on disk to a queue that goes on. The normal way to start.

First what a crash left half done is finished or undone; then segments are read one by one,
while mail is taken and delivered already. Each is made durable before it is acted on (Q7)
and sealed. What cannot be read is copied to `corrupt/` and named; what is finished is
removed by the engine (Q6). Running it twice does nothing more than running it once.
"""

import contextlib
import errno
from collections.abc import Collection, Iterator

import msgspec

from backstamp.queue import ids, reader
from backstamp.queue import segment as segments
from backstamp.queue.aside import CORRUPT, put_aside
from backstamp.queue.files import Files
from backstamp.queue.fold import Fold, Judged
from backstamp.queue.reader import Damaged, Scan
from backstamp.queue.record import SALT_SIZE
from backstamp.queue.segment import KEYS_SUFFIX, MAIL_SUFFIX, NEW_SUFFIX, STAMPS_SUFFIX, Segment
from backstamp.queue.store import write_seal

FORMAT_LINE = b"backstamp queue 1\n"
PARTITION = "0"
_COPY = 1024 * 1024
_TRIES = 3


class FormatError(Exception):
    """The directory holds something else, or a queue of a later version."""


class Problem(msgspec.Struct, frozen=True):
    """Something an operator should know, and what was done about it."""

    text: str
    action: str
    queue_id: str = ""


class Loaded(msgspec.Struct):
    """A segment that was read and made durable, and what its messages come to."""

    segment: Segment
    judged: Judged
    problems: list[Problem]


class KeptKeys(msgspec.Struct):
    """What a file of keys holds, in rows (`queue.keys`)."""

    rows: bytes
    problems: list[Problem]


def prepare(files: Files, root: str) -> int:
    """Make the queue's directories where they are missing, lock it and check its format; return the lock.

    Raises:
        QueueLockedError: another relay has it (Q10).
        FormatError: it is no queue of this version.
        OSError: it cannot be made or written.
    """
    _make_root(files, root)
    lock = files.lock(f"{root}/LOCK")
    try:
        names = files.listing(root)
        if "FORMAT" not in names:
            _write_format(files, root, names)
        else:
            check_format(files, root)
        for name in (PARTITION, CORRUPT):
            if name not in names:
                files.make_directory(f"{root}/{name}")
        files.sync_directory(root)
    except BaseException:
        files.close(lock)
        raise
    return lock


def _make_root(files: Files, root: str) -> None:
    """Make the queue's directory and those above it that are missing, durably from the top down."""
    missing = []
    path = root.rstrip("/")
    while path and not files.is_directory(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    for path in reversed(missing):
        files.make_directory(path)
        files.sync_directory(path.rpartition("/")[0] or ("/" if path.startswith("/") else "."))


def _write_format(files: Files, root: str, names: list[str]) -> None:
    """Write FORMAT under another name first: where it stands, it is whole."""
    if "FORMAT.new" in names:
        files.unlink(f"{root}/FORMAT.new")
    descriptor = files.create(f"{root}/FORMAT.new")
    try:
        files.write(descriptor, [FORMAT_LINE], 0)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(f"{root}/FORMAT.new", f"{root}/FORMAT")
    files.sync_directory(root)


def check_format(files: Files, root: str) -> None:
    """Check that a directory is a queue of this version.

    Raises:
        FormatError: it is a queue of another version, or none.
        OSError: it cannot be read.
    """
    try:
        descriptor = files.open(f"{root}/FORMAT", write=False)
    except FileNotFoundError:
        raise FormatError(f"{root} is no queue: there is no {root}/FORMAT") from None
    try:
        line = files.read(descriptor, 100, 0)
    finally:
        files.close(descriptor)
    if line != FORMAT_LINE:
        said, wanted = (octets.decode("utf-8", "backslashreplace").strip() for octets in (line, FORMAT_LINE))
        raise FormatError(f"{root}/FORMAT says {said[:40]!r}, this version reads {wanted!r}")


def numbers(files: Files, directory: str) -> dict[int, set[str]]:
    """Return the numbers in a partition, those of files of keys too, and which files there are of each."""
    found: dict[int, set[str]] = {}
    for name in files.listing(directory):
        parsed = segments.parse_name(name)
        if parsed is not None:
            found.setdefault(parsed[0], set()).add(parsed[1])
    return dict(sorted(found.items()))


def readable(files: Files, root: str) -> list[int]:
    """Return the numbers of the segments whose records count: not of those that were copied already."""
    directory = f"{root}/{PARTITION}"
    present = [number for number, suffixes in numbers(files, directory).items() if MAIL_SUFFIX in suffixes]
    copied = {source for number in present for source in older_sources(files, directory, number) or ()}
    return [number for number in present if number not in copied]


def older_sources(files: Files, directory: str, number: int) -> list[int] | None:
    """Return the segments that one is a copy of: it is whole, or it would not have its name (Q6).

    None where it cannot be read, or is gone: then its own mail must not count either.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(OSError):
            return [source for source in reader.sources(files, directory, number) if source < number]
    return None


def drop(files: Files, directory: str, number: int) -> None:
    """Remove a segment that counts no more, in the order of Q6; its stamps may be missing already."""
    files.unlink(segments.mail_path(directory, number))
    files.sync_directory(directory)
    with contextlib.suppress(FileNotFoundError):
        files.unlink(segments.stamps_path(directory, number))


class Present(msgspec.Struct, frozen=True):
    """What there is to read, by number."""

    segments: list[int]
    keys: list[int]
    """Files of keys."""
    following: int
    """The next number that was never used."""
    unasked: frozenset[int] = frozenset()
    """Segments that could not be read: nobody knows whether they are copies of others."""


def tidy(files: Files, root: str) -> Present:
    """Finish or undo what a crash left half done. The lock is held.

    Raises:
        OSError: the queue could not be read, or not be tidied.
    """
    directory = f"{root}/{PARTITION}"
    files.sync_directory(directory)
    for name in files.listing(directory):
        if name.endswith(NEW_SUFFIX) and segments.parse_name(name.removesuffix(NEW_SUFFIX)) is not None:
            files.unlink(f"{directory}/{name}")
    present = numbers(files, directory)
    unasked = set()
    for number in _of(present, MAIL_SUFFIX):
        if (sources := older_sources(files, directory, number)) is None:
            unasked.add(number)
        for source in sources or ():
            if MAIL_SUFFIX in present.get(source, ()):
                files.unlink(segments.mail_path(directory, source))
                present[source].discard(MAIL_SUFFIX)
    files.sync_directory(directory)
    for number, suffixes in present.items():
        if STAMPS_SUFFIX in suffixes and MAIL_SUFFIX not in suffixes:
            # Begun and not finished, or removed and not finished: in both no record refers to it (Q6).
            files.unlink(segments.stamps_path(directory, number))
    following = max(present, default=0) + 1
    return Present(_of(present, MAIL_SUFFIX), _of(present, KEYS_SUFFIX), following, frozenset(unasked))


def _of(present: dict[int, set[str]], suffix: str) -> list[int]:
    return [number for number, suffixes in present.items() if suffix in suffixes]


def load_keys(files: Files, root: str, number: int) -> KeptKeys:
    """Read a file of keys; what does not verify of it is kept in `corrupt/` (Q9).

    What was written and not synced counts too: its segments are there still.

    Raises:
        OSError: it could not be read, or what is damaged not be kept.
    """
    found = reader.keys(files, f"{root}/{PARTITION}", number)
    problems = []
    for damaged in found.damaged:
        name = keys_name(found, damaged)
        put_aside(files, root, name, damaged_range(files, keys_path(root, number), damaged))
        corrupt = damaged.start < found.durable
        kind = "damaged" if corrupt else "unfinished, never acknowledged"
        text = f"keys in file {number}, offsets {damaged.start} to {damaged.end}: {kind}"
        problems.append(Problem(f"{text}: {damaged.damage.value}", f"kept as corrupt/{name}"))
    return KeptKeys(b"".join([record.keys for record in found.records]), problems)


def keys_path(root: str, number: int) -> str:
    """Return the path of a file of keys."""
    return segments.keys_path(f"{root}/{PARTITION}", number)


def keys_name(found: Scan, damaged: Damaged) -> str:
    """Return the name a damaged range of a file of keys has in `corrupt/`."""
    return f"{found.number:020}.keys-{damaged_name(found, damaged).partition('-')[2]}"


def load(
    files: Files,
    root: str,
    number: int,
    fold: Fold,
    *,
    patient: bool = False,
    counted: Collection[int] = (),
) -> Loaded:
    """Read a segment, make what was read durable, and judge it. It may be tried again after an error.

    `patient`: stamps that cannot be read now are an error too. Otherwise they count as lost. `counted` are
    segments whose mail counts already: a copy of one of them is an error.

    Raises:
        OSError: it could not be read, or what was read could not be made durable.
    """
    if counted and not {*(older_sources(files, f"{root}/{PARTITION}", number) or ())}.isdisjoint(counted):
        raise OSError(errno.EIO, "it was known too late that it is a copy, and of what")
    found = reader.scan(files, f"{root}/{PARTITION}", number, patient=patient)
    problems = [_keep(files, root, found, damaged) for damaged in found.damaged]
    judged = fold.take(found)
    segment = _open(files, root, found, judged, problems)
    problems += [
        Problem(
            f"{message.unreadable} of a message's stamps cannot be read",
            "taken as to do (held, if at most once)",
            ids.text(message.header.queue_id),
        )
        for message in judged.open
        if message.unreadable
    ]
    return Loaded(segment, judged, problems)


def _keep(files: Files, root: str, found: Scan, damaged: Damaged) -> Problem:
    """Keep a damaged range and return what to tell (Q9)."""
    corrupt = damaged.start < found.durable
    name = damaged_name(found, damaged)
    path = segments.mail_path(f"{root}/{PARTITION}", found.number)
    put_aside(files, root, name, damaged_range(files, path, damaged))
    kind = "damaged" if corrupt else "unfinished, never acknowledged"
    text = f"segment {found.number}, offsets {damaged.start} to {damaged.end}: {kind}: {damaged.damage.value}"
    return Problem(text, f"kept as corrupt/{name}", ids.text(damaged.queue_id) if damaged.queue_id else "")


def damaged_name(found: Scan, damaged: Damaged) -> str:
    """Return the name a damaged range has in `corrupt/`: a `.tail` was never acknowledged."""
    return f"{found.number:020}-{damaged.start}.{'corrupt' if damaged.start < found.durable else 'tail'}"


def damaged_range(files: Files, path: str, damaged: Damaged) -> Iterator[bytes]:
    """Yield a damaged range of a file in parts."""
    source = files.open(path, write=False)
    try:
        for at in range(damaged.start, damaged.end, _COPY):
            yield files.read(source, min(_COPY, damaged.end - at), at)
    finally:
        files.close(source)


def _open(files: Files, root: str, found: Scan, judged: Judged, problems: list[Problem]) -> Segment:
    """Open a segment for stamps, its stamps file made whole, everything read made durable, sealed."""
    directory = f"{root}/{PARTITION}"
    number = found.number
    if not found.stamps_agree:
        _replace_stamps(files, root, found, judged, problems)
    mail = files.open(segments.mail_path(directory, number), write=True)
    try:
        stamps = files.open(segments.stamps_path(directory, number), write=True)
    except OSError:
        files.close(mail)
        raise
    segment = Segment(directory, number, found.salt, mail, stamps, judged.image)
    segment.end, segment.durable, segment.used = found.end, found.end, found.used
    segment.sealed = True
    try:
        if not found.sealed:
            # Where it finds no room the next start writes it: a full disk must not keep mail from leaving.
            with contextlib.suppress(OSError):
                write_seal(files, segment, at=max(found.size, SALT_SIZE))
        files.sync(mail)
        if judged.rewrite:
            files.write(stamps, [bytes(judged.image)], SALT_SIZE)
        elif found.stamps_agree:
            # What is on disk, octet for octet: a stamp that is none stays one until it is stamped.
            segment.disk[:] = found.image
        files.sync(stamps)
    except OSError:
        files.close(mail)
        files.close(stamps)
        raise
    segment.trim()
    return segment


def _replace_stamps(files: Files, root: str, found: Scan, judged: Judged, problems: list[Problem]) -> None:
    """Give a segment a fresh stamps file: every recipient of it counts as not delivered yet."""
    directory = f"{root}/{PARTITION}"
    path = segments.stamps_path(directory, found.number)
    name = path.rpartition("/")[2]
    if name in files.listing(directory):
        files.rename(path, f"{root}/{CORRUPT}/{name}")
        files.sync_directory(f"{root}/{CORRUPT}")
    new = f"{path}{NEW_SUFFIX}"
    descriptor = files.create(new)
    try:
        files.write(descriptor, [found.salt.ljust(SALT_SIZE, b"\0"), bytes(judged.image)], 0)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(new, path)
    files.sync_directory(directory)
    if found.records:
        problems.append(
            Problem(
                f"segment {found.number}: {STAMPS_SUFFIX} cannot be read",
                "every recipient in it is tried again: there may be second copies",
            )
        )
