"""Two lives of a real relay: one under strace with a fault in it, one without; then the books are compared.

Every try of a client has addresses of its own, so that a copy at the sink tells which try
it belongs to. A try is acknowledged when its client read 250; one that was not may arrive,
but not twice. Who was in flight at a kill is read from the files: the peer had the
message, the stamp on disk was not `D`.
"""

import asyncio
import contextlib
import itertools
import re
import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import msgspec
from tests.crash.left_behind import LeftBehind, leave_behind
from tests.support import strace
from tests.support.process import Process
from tests.support.strace import Fault

from backstamp.queue.files import DiskFiles
from backstamp.queue.recovery import FormatError
from backstamp.queue.views import stopped
from backstamp.sink.server import OK, Received, Sink

MESSAGES = 10
CLIENTS = 5
REJECTED = 3
TRIES = 12
PATIENCE = 30.0
QUIET = 2.5
"""Seconds without a new event after which a relay that raised an alarm is taken to have done what it can."""

_numbers = itertools.count()


class Sending(msgspec.Struct):
    """One try to hand in one message."""

    name: str
    rejected: bool
    acknowledged: bool = False

    @property
    def content(self) -> bytes:
        body = f"X-Number: {self.name}\r\n\r\n.a dot in front\r\n" + "x" * 500 + "\r\n"
        return body.encode()

    @property
    def sender(self) -> bytes:
        return f"s-{self.name}@origin.example".encode()

    @property
    def recipients(self) -> list[bytes]:
        return [f"a-{self.name}@one.example".encode(), f"b-{self.name}@two.example".encode()]

    @property
    def due(self) -> list[bytes]:
        """Recipients the sink takes it for."""
        return self.recipients[:1] if self.rejected else self.recipients


class Life(msgspec.Struct):
    """What the life with the fault came to."""

    hit: bool
    """Whether the call was made at all."""
    started: bool
    code: int
    delivered: set[bytes]
    """Recipients whose `delivered` was printed."""
    in_flight: set[bytes]


class Lives:
    """One relay's lives, its clients and its sink."""

    def __init__(self, directory: Path, *, fresh: bool) -> None:
        self.directory = directory
        self.fresh = fresh
        self.wrong: list[str] = []
        self.sendings: list[Sending] = []
        self.copies: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        """Recipient → life and content of every copy the sink took."""
        self.made: set[tuple[str, str]] = set()
        """Path and name of every call the first life made on its queue; only where strace looked at it."""
        self.life = 1
        self.left = LeftBehind({}, set(), set())
        self._sink = Sink(received=self._take)
        self._relay: Process
        self._killing = False

    async def run(self, faults: Sequence[Fault], *, serving: bool = False) -> Life:
        """Live both lives; what was wrong stands in `wrong`. `serving`: the fault comes after the start."""
        directory = self.directory / f"run{next(_numbers)}"
        directory.mkdir(parents=True)
        self._killing = any("signal" in fault.what for fault in faults)
        async with self._sink as sink, Process(directory, sink.address) as self._relay:
            # A peer that takes a moment over its reply: more of what happens at once.
            sink.script.do("DOT", octets=OK, delay=0.002)
            for number in range(TRIES):
                nobody = self._sending(REJECTED, number).recipients[1]
                sink.script.say("RCPT", 550, "5.1.1 nobody", address=nobody)
            if self._killing:
                # Mail younger than the first wait is tried at once after a restart.
                text = self._relay.config.read_text()
                self._relay.config.write_text(text.replace('["1s", "2s"]', '["30s"]'))
            if not self.fresh:
                self.left = await leave_behind(directory, self._relay.queue)
                if serving:
                    # What waits already is to be sent when strace is there.
                    sink.script.do("CONNECT", octets=b"220 sink\r\n", delay=0.4, times=8)
            faults = [msgspec.structs.replace(fault, path=self._path(fault.path)) for fault in faults]
            life = await self._first(faults, serving, directory / "trace")
            self.made = {
                (self._short(path), call)
                for path, call in strace.made(self._relay.queue, directory / "trace")
            }
            self.life = 2
            await self._second()
        self._compare(life)
        if not self.wrong:
            shutil.rmtree(directory)
        return life

    def _path(self, short: str) -> str:
        """Write a file's name out: segments by number, and the copy of the tail where recovery puts it."""
        number, dot, suffix = short.rpartition("/")[2].partition(".")
        if short.startswith("TAIL"):
            return self.left.tail + short.removeprefix("TAIL")
        return f"{short.rpartition('/')[0]}/{int(number):020}.{suffix}" if number.isdigit() and dot else short

    def _short(self, path: str) -> str:
        if self.left.tail and path.startswith(self.left.tail):
            return "TAIL" + path.removeprefix(self.left.tail)
        return re.sub(r"0*([1-9]\d*)(?=\.(mail|stamps)(\.new)?$)", r"\1", path)

    # ---- the first life ----

    async def _first(self, faults: Sequence[Fault], serving: bool, trace: Path) -> Life:
        relay = self._relay
        async with contextlib.AsyncExitStack() as stack:
            if serving:
                await relay.start()
                await stack.enter_async_context(strace.attached(relay.pid, relay.queue, faults, trace))
                started = True
            else:
                await relay.launch(*strace.launch(relay.queue, faults, trace))
                started = await relay.ready()
            if started:
                async with asyncio.TaskGroup() as group:
                    for first in range(CLIENTS):
                        group.create_task(self._client(range(first, MESSAGES, CLIENTS)))
                await self._until(self._done)
            code = await relay.stop()
        log = relay.log.read_text()
        if self._killing:
            # The reader of the configuration looks at the queue's place, too: then nothing was begun.
            hit = code == -9 or (code == 2 and "its reader ended with -9" in log)
            if not hit and code != 0:
                self.wrong.append(f"exit code {code}: {log[-500:]}")
        else:
            hit = "(INJECTED)" in trace.read_text()
            self._judge_end(started, code, log)
        delivered = {event["recipient"].encode() for event in relay.events() if event["event"] == "delivered"}
        return Life(hit, started, code, delivered, self._in_flight())

    def _judge_end(self, started: bool, code: int, log: str) -> None:
        if "Traceback" in log:
            frames = [line.strip() for line in log.splitlines() if "/backstamp/" in line or "Error" in line]
            self.wrong.append(f"a traceback: {' | '.join(frames[-4:])}")
        if started and code != 0:
            self.wrong.append(f"it died: exit code {code}")
        if started and len(self._acknowledged()) < MESSAGES:
            self.wrong.append(f"it took {len(self._acknowledged())} of {MESSAGES} messages")
        if not started:
            said = [line for line in log.splitlines() if not line.startswith("{")]
            if code == 0 or len(said) != 1 or not said[0].startswith("backstamp: "):
                self.wrong.append(f"it did not start: exit code {code}, said {said[-5:]}")

    def _in_flight(self) -> set[bytes]:
        try:
            found = stopped(DiskFiles(), str(self._relay.queue))
        except (OSError, FormatError):
            return set()  # killed before there was a queue
        waiting = {
            recipient.address.encode()
            for message in found
            for recipient in message.recipients
            if recipient.stamp != "D"
        }
        return waiting & set(self.copies)

    # ---- the second life ----

    async def _second(self) -> None:
        """Start without strace: what waits goes out, and new mail is taken."""
        relay = self._relay
        before = relay.log.stat().st_size if relay.log.exists() else 0

        async def recovered() -> bool:
            return b'"recovered"' in relay.log.read_bytes()[before:]

        await relay.launch()
        if not await relay.ready():
            self.wrong.append(f"it did not start again: {relay.log.read_text()[-1000:]}")
            return
        await self._client([MESSAGES])
        if not self.sendings[-1].acknowledged:
            self.wrong.append("after the restart it takes no mail")
        # Before all is read back a queue that looks empty is not.
        if not (await self._until(recovered) and await self._until(self._empty)):
            self.wrong.append(f"after the restart mail stayed: {relay.log.read_text()[-1000:]}")
        if (code := await relay.stop()) != 0:
            self.wrong.append(f"after the restart: exit code {code}: {relay.log.read_text()[-1500:]}")
        if waiting := stopped(DiskFiles(), str(relay.queue)):
            self.wrong.append(f"left in the files: {waiting}")

    # ---- clients ----

    def _sending(self, number: int, attempt: int) -> Sending:
        return Sending(f"{number}-{attempt}", number == REJECTED)

    async def _client(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for attempt in range(TRIES):
                sending = self._sending(number, attempt)
                self.sendings.append(sending)
                try:
                    async with asyncio.timeout(PATIENCE):
                        reply = await _submit(self._relay.address, sending)
                except TimeoutError:
                    self.wrong.append(f"{sending.name}: no answer")
                    return
                except (OSError, EOFError):
                    reply = b""
                if reply.startswith(b"250"):
                    sending.acknowledged = True
                    break
                if reply and not reply.startswith(b"4"):
                    self.wrong.append(f"{sending.name}: local trouble was answered {reply!r}")
                if not reply and self._relay.code is None and not self._killing:
                    self.wrong.append(f"{sending.name}: the relay hung up")
                await asyncio.sleep(0.02 * attempt)
                if self._relay.code is not None:
                    return

    def _acknowledged(self) -> list[Sending]:
        return [sending for sending in self.sendings if sending.acknowledged]

    def _take(self, message: Received) -> None:
        for recipient in message.recipients:
            self.copies[recipient].append((self.life, message.content))

    # ---- waiting for events ----

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not await condition():
                    await asyncio.sleep(0.02)
                return True
        return False

    async def _done(self) -> bool:
        if self._relay.code is not None or await self._empty():
            return True
        return not self._killing and await self._gave_up()

    async def _gave_up(self) -> bool:
        """Whether it raised an alarm and says nothing more: what it could not write waits for a restart."""
        log = self._relay.log
        before = log.stat().st_size
        if b'"alarm"' not in log.read_bytes():
            return False
        await asyncio.sleep(QUIET)
        return log.stat().st_size == before

    async def _empty(self) -> bool:
        """Whether everybody acknowledged is answered for, by the relay's own account."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._relay.admin)
            writer.write(b"GET /api/v1/queue HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
        except OSError:
            return False
        return answer.endswith(b'{"messages":[]}')

    # ---- the books ----

    def _compare(self, life: Life) -> None:
        expected = dict(self.left.waiting)
        reports = set(self.left.reports)
        possible: set[bytes] = set()
        """Reports that may be there or not."""
        for sending in self.sendings:
            if sending.acknowledged:
                expected |= dict.fromkeys(sending.due, sending.content)
            if sending.rejected:
                (reports if sending.acknowledged else possible).add(sending.sender)
        for address, content in expected.items():
            if not self.copies[address]:
                self.wrong.append(f"LOST: {address!r}")
            for _, copy in self.copies[address]:
                trace = copy.removesuffix(content)
                received = not trace or trace.startswith(b"Received:")
                if trace == copy or b"\r\n\r\n" in trace or not received:
                    self.wrong.append(f"CHANGED: {address!r}: {copy!r}")
        for address in reports:
            if not self.copies[address]:
                self.wrong.append(f"NOT REPORTED: {address!r}")
        tried = {address for sending in self.sendings for address in sending.due}
        for address, copies in self.copies.items():
            if not copies:
                continue
            if address not in expected and address not in tried | reports | possible:
                self.wrong.append(f"SENT to one who gets nothing: {address!r}")
            self._compare_copies(address, copies, life)

    def _compare_copies(self, address: bytes, copies: list[tuple[int, bytes]], life: Life) -> None:
        if len({content for _, content in copies}) > 1:
            self.wrong.append(f"REPORTED TWICE, or two contents: {address!r}")
        for number in (1, 2):
            if sum(one == number for one, _ in copies) > 1:
                self.wrong.append(f"TWICE in life {number}: {address!r}")
        if len(copies) > 1 and address in life.delivered:
            self.wrong.append(f"TWICE though said to be delivered: {address!r}")
        if len(copies) > 1 and address not in life.in_flight:
            self.wrong.append(f"TWICE though not in flight: {address!r}")


async def _submit(address: tuple[str, int], sending: Sending) -> bytes:
    """Hand in a message; return the reply to its content, or the first that is no success."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        lines = [
            b"",
            b"EHLO client.test\r\n",
            b"MAIL FROM:<%b>\r\n" % sending.sender,
            *(b"RCPT TO:<%b>\r\n" % recipient for recipient in sending.recipients),
            b"DATA\r\n",
            sending.content.replace(b"\r\n.", b"\r\n..") + b".\r\n",
        ]
        reply = b""
        for line in lines:
            writer.write(line)
            reply = await reader.readuntil(b"\n")
            while reply[3:4] == b"-":
                reply = await reader.readuntil(b"\n")
            if reply[:1] not in b"23":
                break
        return reply
    finally:
        writer.close()
