"""A queue as a crash leaves it, with something in it for every step of recovery.

Messages that wait, half delivered, failed with the report owed, failed with the report
queued and not yet closed; a torn tail; a segment whose stamps are lost; and stamps of a
segment that never got records.
"""

import contextlib
import errno
import itertools
import os
import shutil
import time
from pathlib import Path

import msgspec
from tests.support.faults import FaultyFiles
from tests.support.queues import local_queue, message

from backstamp.delivery.reports import compose
from backstamp.mail.reply import Reply
from backstamp.queue import ids
from backstamp.queue.local import LocalQueue
from backstamp.queue.port import Delivery, Message, Owed, Reason, StampNotDurableError
from backstamp.queue.stamps import Stamp

AHEAD = 3600.0
"""Mail that is younger than the first wait is tried at once after a start."""


class LeftBehind(msgspec.Struct):
    """What the next life owes to whom."""

    waiting: dict[bytes, bytes]
    """Recipients still to be sent to → content."""
    done: set[bytes]
    """Recipients stamped `D`: never again."""
    reports: set[bytes]
    """Senders who are owed exactly one report."""
    tail: str = ""
    """Where recovery keeps the torn tail."""


class _Builder:
    def __init__(self, queue: LocalQueue, left: LeftBehind) -> None:
        self.queue = queue
        self.left = left
        self._names = itertools.count()

    async def accept(self) -> tuple[Message, list[Delivery]]:
        """Queue mail for two domains; return it and its deliveries."""
        name = f"old{next(self._names)}-{os.urandom(3).hex()}".encode()
        content = b"X-Number: %b\r\n\r\n.leading dots, and a long line: %b\r\n" % (name, b"x" * 900)
        mail = message(
            b"a-%b@one.example" % name, b"b-%b@two.example" % name,
            sender=b"s-%b@origin.example" % name, content=content, arrival=time.time() + AHEAD,
        )  # fmt: skip
        for recipient in mail.envelope.recipients:
            self.left.waiting[recipient.address] = content
        await self.queue.append(mail)
        return mail, sorted(await self.queue.claim(10), key=lambda delivery: delivery.domain)

    async def deliver(self, delivery: Delivery) -> None:
        [(ordinal, recipient)] = (await self.queue.load([delivery])).recipients.items()
        await self.queue.stamp(delivery, {ordinal: Stamp.DELIVERED})
        del self.left.waiting[recipient.address]
        self.left.done.add(recipient.address)
        self.queue.give_back(delivery, 0.0)

    async def fail(self, mail: Message, delivery: Delivery) -> None:
        [(ordinal, recipient)] = (await self.queue.load([delivery])).recipients.items()
        reason = Reason((ordinal,), Reply(550, "5.1.1 nobody here"), "mx.two.example", 0)
        await self.queue.stamp(delivery, {ordinal: Stamp.FAILED}, [reason])
        del self.left.waiting[recipient.address]
        self.left.reports.add(mail.envelope.sender)
        self.queue.give_back(delivery, 0.0)


async def leave_behind(directory: Path, target: Path) -> LeftBehind:
    """Make such a queue in `target`; `directory` is for the queues it is made from."""
    left = LeftBehind({}, set(), set())
    files = FaultyFiles()
    queue = await local_queue(directory / "first", files=files)
    build = _Builder(queue, left)
    for half in (True, False):
        _, [one, _] = await build.accept()
        if half:
            await build.deliver(one)
    owing, [one, two] = await build.accept()
    await build.deliver(one)
    await build.fail(owing, two)
    # This report is owed and nothing of it is on the disk; that of the next message is queued.
    assert (await queue.claim_report()).queue_id == owing.queue_id
    reported, [one, two] = await build.accept()
    await build.deliver(one)
    await build.fail(reported, two)
    owed = await queue.claim_report()
    files.failing[".stamps"] = errno.EIO
    with contextlib.suppress(StampNotDurableError):
        await queue.report(owed, _report(owed))
    files.failing.clear()
    shutil.copytree(directory / "first", target)
    await queue.close()

    queue = await local_queue(directory / "second")
    await _Builder(queue, left).accept()
    segments = target / "0"
    shutil.copy(directory / "second/0" / f"{1:020}.mail", segments / f"{2:020}.mail")
    await queue.close()
    (segments / f"{2:020}.stamps").write_bytes(b"short")
    (segments / f"{3:020}.stamps").write_bytes(b"")
    with (segments / f"{1:020}.mail").open("r+b") as mail:
        record = mail.read(300)[16:]
        left.tail = f"corrupt/{1:020}-{mail.seek(0, os.SEEK_END)}.tail"
        mail.write(record[:200])
    return left


def _report(owed: Owed) -> Message:
    now = time.time()
    queue_id = ids.make(int(now * 1000), os.urandom(10))
    return compose(owed, queue_id=queue_id, now=now, hostname="relay.example.org")
