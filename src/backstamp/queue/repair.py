"""Repair: what fsck finds damaged goes to `corrupt/`, and every readable record goes on.

A damaged segment is written anew: as a draft whose first record names the segment it was
made from, exactly as compaction does it, so that whatever crash comes either the one or the
other counts. Mail whose content is lost is kept without it, its recipients failed: their
sender is told. Repairing twice does nothing more than repairing once.
"""

import contextlib
import itertools
from collections.abc import Callable

import msgspec

from backstamp.mail.envelope import Envelope
from backstamp.queue import draft, fsck, keys, recovery
from backstamp.queue import segment as segments
from backstamp.queue.aside import CORRUPT, put_aside
from backstamp.queue.entry import Facts
from backstamp.queue.files import Files
from backstamp.queue.fold import Found
from backstamp.queue.fsck import DamagedKeys, Examined, Finding, Report, SegmentReport, hopeless
from backstamp.queue.keeper import Keeper
from backstamp.queue.port import DAMAGED, Reason
from backstamp.queue.reader import Record
from backstamp.queue.record import (
    HEADER_SIZE,
    Kind,
    encode_envelope,
    encode_reasons,
    encode_sources,
)
from backstamp.queue.stamps import Stamp
from backstamp.text import reason

_NOBODY = encode_envelope(Envelope(b"", ()))


def repair(files: Files, root: str, *, salt: Callable[[], bytes], now: int) -> Report:
    """Repair a stopped queue; return what was found, and of which segments it was repaired.

    `now` is microseconds since the epoch, `salt` gives 16 random octets.

    Raises:
        QueueLockedError: a relay has it.
        FormatError: it is a queue of another version, or none.
        OSError: it is no queue, or cannot be read or written at all.
    """
    recovery.check_format(files, root)
    lock = files.lock(f"{root}/LOCK")
    try:
        files.make_directory(f"{root}/{CORRUPT}")
        present = recovery.tidy(files, root)
        numbers = itertools.count(present.following)
        keeper = Keeper(files, f"{root}/{recovery.PARTITION}", numbers=numbers.__next__, salt=salt)
        reports = []
        for one in fsck.walk(files, root):
            if isinstance(one, SegmentReport) or not one.report.damaged:
                reports.append(one if isinstance(one, SegmentReport) else one.report)
            else:
                reports.append(_segment(files, root, one, keeper, next(numbers), salt(), now))
        findings = [_keys(files, root, finding, keeper) for finding in fsck.damaged_keys(files, root)]
        keeper.close()
        return Report(root, tuple(reports), tuple(findings), fsck.kept(files, root))
    finally:
        files.close(lock)


def _segment(
    files: Files, root: str, one: Examined, keeper: Keeper, number: int, salt: bytes, now: int
) -> SegmentReport:
    """Write a damaged segment anew, and remove it."""
    report = one.report
    try:
        _keep(files, root, one)
        _keep_keys(one, keeper)
        directory = f"{root}/{recovery.PARTITION}"
        if one.scan.records:
            _write(files, directory, one, draft.begin(files, directory, number, salt), now)
        recovery.drop(files, directory, report.number)
    except (OSError, draft.UndecidedError) as error:
        failed = Finding(f"it could not be repaired: {reason(error)}", "run it again when the disk works")
        return msgspec.structs.replace(report, findings=(*report.findings, failed))
    return msgspec.structs.replace(report, repaired=True)


def _keys(files: Files, root: str, finding: DamagedKeys, keeper: Keeper) -> Finding:
    """Write a damaged file of keys anew, and remove it."""
    found = finding.scan
    if not found.damaged:
        return finding.told  # it cannot be read at all
    path = recovery.keys_path(root, found.number)
    try:
        for damaged in found.damaged:
            octets = recovery.damaged_range(files, path, damaged)
            put_aside(files, root, recovery.keys_name(found, damaged), octets)
        if found.records:
            keeper.write([record.keys for record in found.records])
        files.unlink(path)
    except OSError as error:
        return Finding(f"{finding.told.what}; it could not be repaired: {reason(error)}", "run it again")
    return msgspec.structs.replace(finding.told, damage=False)


def _keep_keys(one: Examined, keeper: Keeper) -> None:
    """Keep the keys of records whose content is lost: they may not be written again (Q13)."""
    lost = {damaged.start for damaged in one.contents}
    named = [
        keys.told(record.envelope) + record.header.queue_id
        for record in one.scan.records
        if record.header.offset in lost and keys.told(record.envelope)
    ]
    if named:
        keeper.write([b"".join(named)])


def _keep(files: Files, root: str, one: Examined) -> None:
    """Keep what cannot be read."""
    found = one.scan
    mail = segments.mail_path(f"{root}/{recovery.PARTITION}", found.number)
    for damaged in [*found.damaged, *one.contents]:
        octets = recovery.damaged_range(files, mail, damaged)
        put_aside(files, root, recovery.damaged_name(found, damaged), octets)
    if not found.stamps_agree:
        path = segments.stamps_path(f"{root}/{recovery.PARTITION}", found.number)
        with contextlib.suppress(FileNotFoundError):
            descriptor = files.open(path, write=False)
            try:
                stamps = files.read(descriptor, files.size(descriptor), 0)
                put_aside(files, root, path.rpartition("/")[2], [stamps])
            finally:
                files.close(descriptor)


def _write(files: Files, directory: str, one: Examined, segment: segments.Segment, now: int) -> None:
    """Write what can be read of a segment into a draft, and publish it."""
    number = one.report.number
    open_ = {message.header.offset: message for message in one.judged.open}
    lost = {damaged.start: open_.get(damaged.start) for damaged in one.contents}
    mail = -1
    try:
        mail = files.open(segments.mail_path(directory, number), write=False)
        writer = draft.Writer(files, segment)
        writer.add(Kind.COPY, b"", encode_sources((number,)))
        for record in one.scan.records:
            header = record.header
            if header.kind == Kind.REASON:
                writer.add(Kind.REASON, _NOBODY, encode_reasons(record.reasons), Facts.of(header))
            elif header.kind == Kind.MAIL and header.offset in lost:
                _fail(writer, record, lost[header.offset], now)
            elif header.kind == Kind.MAIL:
                start = header.offset + HEADER_SIZE + header.envelope_length
                content = files.read(mail, header.content_length, start)
                stamps = bytes(one.judged.image[header.first_stamp : header.first_stamp + header.recipients])
                writer.add(Kind.MAIL, encode_envelope(record.envelope), content, Facts.of(header), stamps)
        writer.flush()
    except OSError:
        draft.discard(files, segment)
        raise
    finally:
        if mail >= 0:
            files.close(mail)
    draft.publish(files, segment)
    files.close(segment.mail)
    files.close(segment.stamps)


def _fail(writer: draft.Writer, record: Record, message: Found | None, now: int) -> None:
    """Write mail whose content is lost, if somebody waits for it: failed, and why."""
    if message is None:
        return
    facts = Facts.of(record.header)
    marks = bytearray(message.stamps)
    failed = hopeless(message)
    for ordinal in failed:
        marks[ordinal] = Stamp.FAILED
    if failed:
        reasons = encode_reasons((Reason(failed, DAMAGED, "", now),))
        writer.add(Kind.REASON, _NOBODY, reasons, facts)
    writer.add(Kind.MAIL, encode_envelope(record.envelope), b"", facts, bytes(marks))
