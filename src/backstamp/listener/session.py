"""A client's session: aiosmtpd's SMTP, with the reading, the timing and the grammar ours.

The only module that names aiosmtpd. What stays its: the protocol's life, flow control and
(later) STARTTLS and AUTH. What is ours and why (line by line reading is four fifths of its
time): commands and contents are cut out of the reader's buffer with `find`; replies are
gathered and written before the next wait (RFC 2920 §3.2), those of all sessions together;
one timer that is looked at when it fires instead of being set anew by every command.
Memory is bounded by the limits, and a client that stalls anywhere is cut off in time.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP

from backstamp.listener import admission
from backstamp.listener.arrival import Arrival
from backstamp.listener.conversation import Action, Answer, Conversation
from backstamp.listener.intake import TOO_BIG, Door
from backstamp.listener.settings import ListenerSettings
from backstamp.smtp.data import unstuff
from backstamp.smtp.end import KEPT, EndOfData
from backstamp.telemetry.events import Alarm, Refused

BUFFER: Final = 128 * 1024
"""Octets the reader holds before it stops reading from the socket (at most twice this)."""

SMALL: Final = 64 * 1024
"""Octets of a content that are left in the reader until its end is there."""

LARGE: Final = 1024 * 1024
"""Octets of a content from which on it goes to the queue as it comes."""

PIECE: Final = 256 * 1024
"""Octets of a large content that are handed on together: each hand-over costs."""

LINGER: Final = 5.0
"""Seconds a client that is sent away has to read the last replies."""

IDLE: Final = b"421 4.4.2 Idle for too long\r\n"
SLOW: Final = b"421 4.4.2 The message took too long\r\n"
BROKEN: Final = b"421 4.3.0 Local error, closing\r\n"
CLOSING: Final = b"421 4.3.2 The relay is closing\r\n"


class _Handler:
    """aiosmtpd wants a handler; it gets one without hooks."""

    def __dir__(self) -> Iterable[str]:
        return ()


_HANDLER = _Handler()


class Replies:
    """The replies of all sessions of a listener, written together at the end of the loop's turn.

    A client that has its reply at once asks again at once, alone: every write then wakes a
    sleeping peer, four times a message. Written together, the second finds it awake; that is a
    quarter of the time of a message.
    """

    def __init__(self) -> None:
        self._waiting: list[Session] = []

    def add(self, session: "Session") -> None:
        """Write this session's replies before the loop waits again."""
        if not self._waiting:
            session.loop.call_soon(self._write)
        self._waiting.append(session)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for session in waiting:
            session.flush()


class Session(SMTP):
    """One connection."""

    line_length_limit = BUFFER

    def __init__(
        self,
        settings: ListenerSettings,
        door: Door,
        replies: Replies,
        *,
        opened: Callable[["Session"], bytes | None],
        left: Callable[["Session"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # aiosmtpd keeps these limits per class and changes them per session.
        self.command_size_limits = {}
        self._settings = settings
        self._door = door
        self._replies = replies
        self._opened = opened
        self._left = left
        self._out: list[bytes] = []
        self._expires = 0.0
        self._busy = False
        self._content = False
        self._ending = False
        self._peer = ""
        self._conversation: Conversation
        super().__init__(
            _HANDLER,
            data_size_limit=None,
            enable_SMTPUTF8=True,
            hostname=settings.hostname,
            timeout=settings.limits.idle,
            loop=loop,
        )

    def __dir__(self) -> Iterable[str]:
        # The base class looks itself over for commands and mechanisms at every connection (0.15 ms).
        return ()

    # ---- life ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        peer = transport.get_extra_info("peername")
        self._peer = admission.plain(str(peer[0])) if peer else ""
        self._conversation = Conversation(self._settings, self._peer, self._door.refuse)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone; a message that is being written is written, and told as accepted."""
        handler = self._handler_coroutine
        if self._busy:
            # aiosmtpd cancels its handler now. The message may be on the disk already: the handler
            # ends by itself, and something else is cancelled in its place.
            self._handler_coroutine = cast(Any, self.loop.create_future())
        super().connection_lost(error)
        self._handler_coroutine = handler
        if not self._busy:
            self._left(self)

    def eof_received(self) -> bool | None:
        """The client sends no more; it may still read the replies to what it sent."""
        return bool(asyncio.StreamReaderProtocol.eof_received(self))

    def end(self) -> None:
        """Ask the client to leave: at once if nothing is under way, else after its message."""
        self._ending = True
        if not self._content and not self._busy and self.transport is not None:
            self._out.append(CLOSING)
            self._leave()

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._expires = self.loop.time() + (duration or self._timeout_duration)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        if self._busy:
            # The wait is the relay's own: a slow disk is no fault of the client.
            self._expires = now + self._timeout_duration
        transport = cast("asyncio.WriteTransport | None", self.transport)
        if transport is None:
            return
        if now < self._expires:
            self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)
        elif transport.is_closing():
            # It does not even read what it was told last; waiting for that would be for ever.
            transport.abort()
        else:
            self._out.append(IDLE)
            self._leave()

    def _leave(self) -> None:
        """Write what is to be said and close; what cannot be written soon is dropped."""
        self.flush()
        if self.transport is None:
            return
        self.transport.close()
        self._expires = self.loop.time() + LINGER
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)

    @property
    def _buffer(self) -> bytearray:
        """What the reader holds; taking from its front is taking from the stream."""
        return cast(bytearray, cast(Any, self._reader)._buffer)

    async def _drained(self) -> None:
        """Wait until the client has taken enough of the replies."""
        mixin = cast(Any, self)  # asyncio's flow control, which the type stubs leave out
        if mixin._paused:
            await mixin._drain_helper()

    # ---- the loop ----

    async def _handle_client(self) -> None:
        try:
            refusal = self._opened(self)
            if refusal is None:
                self._out.append(self._conversation.greeting)
                await self._converse()
            else:
                self._out.append(refusal)
        except ConnectionError:
            pass  # nobody is left to be told
        except Exception as error:  # a bug ends one session, in words, and not silently
            self._out.append(BROKEN)
            problem = f"a session broke: {error!r}"
            self._door.emit(Alarm(time=self._now(), problem=problem, action="the client was sent away"))
        self._busy = False
        if self.transport is None:
            self._left(self)
        self._leave()

    async def _converse(self) -> None:
        conversation = self._conversation
        out = self._out
        while (line := await self._line()) is not None:
            reply, action = conversation.command(line) if line else conversation.too_long()
            out.append(reply)
            if reply[0] >= 0x34:
                self._tell(line, reply)
            if action is Action.CONTENT:
                action = await self._data()
            if action is Action.CLOSE or self.transport is None:
                return
            if self._ending:
                out.append(CLOSING)
                return

    def _now(self) -> int:
        return int(self._door.clock.wall() * 1e6)

    def _tell(self, line: bytes, reply: bytes) -> None:
        verb = line[:4].upper()
        if verb in {b"MAIL", b"RCPT", b"DATA"}:
            self._refused(verb.decode("ascii"), reply, line[5:] if verb == b"RCPT" else b"")

    def _refused(self, command: str, reply: bytes, recipient: bytes = b"") -> None:
        self._door.emit(
            Refused(
                time=self._now(),
                client=self._peer,
                command=command,
                reply=reply.decode("ascii", "backslashreplace").rstrip(),
                sender=(self._conversation.sender or b"").decode("utf-8", "backslashreplace"),
                recipient=recipient[:320].decode("utf-8", "backslashreplace").strip(),
            )
        )

    async def _line(self) -> bytes | None:
        """Return the next command with its line end, empty if it was too long, None at the end."""
        buffer = self._buffer
        limit = self._settings.limits.command_length
        scanned = 0
        dropped = False
        while True:
            end = buffer.find(b"\n", scanned) + 1
            if end:
                line = bytes(buffer[:end])
                del buffer[:end]
                return b"" if dropped or end > limit else line
            if len(buffer) > limit:
                buffer.clear()
                dropped = True
            scanned = len(buffer)
            if not await self._more():
                return None

    async def _more(self) -> bool:
        """Send what is to be sent, then wait for octets; tell whether more came."""
        reader: Any = self._reader
        held = len(reader._buffer)
        self._reset_timeout()
        if self._out:
            self._replies.add(self)
        await self._drained()
        reader._maybe_resume_transport()
        if not reader._eof:
            await reader._wait_for_data("session")
        # What was held when the client ended is half a command: nothing will complete it.
        return len(reader._buffer) > held and self.transport is not None

    def flush(self) -> None:
        """Write the replies that were gathered."""
        if self._out and self.transport is not None and not self.transport.is_closing():
            cast(asyncio.WriteTransport, self.transport).write(b"".join(self._out))
        self._out.clear()

    # ---- content ----

    async def _data(self) -> Action:
        """Read a content and answer it; tell how the session goes on."""
        self._content = True
        content = await self._read_content()
        self._content = False
        action = Action.NEXT
        if content is None:
            return Action.CLOSE
        if isinstance(content, bytes):
            self._busy = True
            conversation = self._conversation
            origin = conversation.origin(self._peer)
            verdict = await self._door.take(content, conversation.envelope(), origin, self._settings)
            reply = verdict.reply
            self._busy = False
        else:
            reply, action = content
        self._out.append(reply)
        if reply[0] == 0x32:
            self._conversation.errors = 0
        else:
            self._refused("DATA", reply)
        return action

    async def _read_content(self) -> bytes | Answer | None:
        """Return the content, its refusal, or None if the client went away."""
        buffer = self._buffer
        limits = self._settings.limits
        deadline = self.loop.time() + limits.message
        scan = EndOfData()
        while (found := scan.find(buffer)) is None and len(buffer) < SMALL:
            if self.loop.time() > deadline:
                return SLOW, Action.CLOSE
            if not await self._more():
                return None
        if found is not None:
            content = _content(buffer, found[0], scan)
            del buffer[: found[1]]
            return content
        return await self._gather(buffer, scan, deadline)

    async def _gather(self, buffer: bytearray, scan: EndOfData, deadline: float) -> bytes | Answer | None:
        """Take a content out of the reader; a large one goes on into the queue piece by piece."""
        gathered = bytearray()
        while True:
            gathered += buffer
            buffer.clear()
            if (found := scan.find(gathered)) is not None:
                buffer += gathered[found[1] :]
                return _content(gathered, found[0], scan)
            if len(gathered) > LARGE:
                return await self._pass_on(buffer, gathered, scan, deadline)
            if self.loop.time() > deadline:
                return SLOW, Action.CLOSE
            if not await self._more():
                return None

    async def _pass_on(
        self, buffer: bytearray, gathered: bytearray, scan: EndOfData, deadline: float
    ) -> Answer | None:
        """Hand a large content to the queue as it comes; what is refused is read to its end and dropped."""
        limit = self._settings.limits.message_size
        conversation = self._conversation
        origin = conversation.origin(self._peer)
        arrival = Arrival(self._door, conversation.envelope(), origin, self._settings)
        passed = 0
        found = None
        try:
            while True:
                # The end may be cut anywhere: its octets but the last stay until the next look.
                end = found[0] if found is not None else len(gathered) - KEPT
                piece = bytes(gathered[:end])
                self._busy = True
                if found is not None:
                    buffer += gathered[found[1] :]
                    return await arrival.end(piece), Action.NEXT
                await arrival.take(piece)
                self._busy = False
                del gathered[:end]
                scan.drop(end)
                passed += end
                if passed > 3 * limit:
                    return TOO_BIG, Action.CLOSE
                while (found := scan.find(gathered)) is None and len(gathered) < PIECE:
                    if self.loop.time() > deadline:
                        return SLOW, Action.CLOSE
                    if self.transport is None or not await self._more():
                        return None
                    gathered += buffer
                    buffer.clear()
        finally:
            self._busy = True
            await arrival.abandon()
            self._busy = False

    async def push(self, status: Any) -> None:
        """Queue a reply (aiosmtpd's own verbs use this)."""
        self._out.append((status if isinstance(status, bytes) else status.encode()) + b"\r\n")


def _content(buffer: bytearray, end: int, scan: EndOfData) -> bytes:
    """Return a content that ends there, its doubled dots taken away."""
    with memoryview(buffer) as view:
        raw = bytes(view[:end])
    return unstuff(raw) if scan.stuffed else raw
