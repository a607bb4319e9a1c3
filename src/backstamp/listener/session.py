"""A client's session: aiosmtpd's SMTP, with the reading, the timing and the grammar ours.

The only module that names aiosmtpd. What stays its: the protocol's life, flow control and
(later) STARTTLS and AUTH. What is ours and why (line by line reading is four fifths of its
time): commands and contents are cut out of the reader's buffer with `find`; replies are
gathered and written before the next wait (RFC 2920 §3.2); one timer that is looked at
when it fires instead of being set anew by every command. Memory is bounded by the limits.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP

from backstamp.listener.conversation import Action, Conversation
from backstamp.listener.intake import Door
from backstamp.listener.settings import ListenerSettings
from backstamp.smtp.data import find_end
from backstamp.telemetry.events import Refused

BUFFER: Final = 128 * 1024
"""Octets the reader holds before it stops reading from the socket (at most twice this)."""

_TAIL: Final = 4
"""Octets of a content that may be the beginning of its end."""

TOO_BIG: Final = b"552 5.3.4 Message size exceeds the limit\r\n"
IDLE: Final = b"421 4.4.2 Idle for too long\r\n"
CLOSING: Final = b"421 4.3.2 The relay is closing\r\n"


class _Handler:
    """aiosmtpd wants a handler; it gets one without hooks."""

    def __dir__(self) -> Iterable[str]:
        return ()


_HANDLER = _Handler()


class Session(SMTP):
    """One connection."""

    line_length_limit = BUFFER

    def __init__(
        self,
        settings: ListenerSettings,
        door: Door,
        *,
        opened: Callable[["Session"], bytes | None],
        closed: Callable[["Session"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # aiosmtpd keeps these limits per class and changes them per session.
        self.command_size_limits = {}
        self._settings = settings
        self._door = door
        self._opened = opened
        self._closed_callback = closed
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
        self._peer = str(peer[0]) if peer else ""
        self._conversation = Conversation(self._settings, self._peer)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone; a message that is being written is written."""
        super().connection_lost(error)
        self._closed_callback(self)

    def eof_received(self) -> bool | None:
        """The client sends no more; it may still read the replies to what it sent."""
        return bool(asyncio.StreamReaderProtocol.eof_received(self))

    def end(self) -> None:
        """Ask the client to leave: at once if nothing is under way, else after its message."""
        self._ending = True
        if not self._content and not self._busy and self.transport is not None:
            self._out.append(CLOSING)
            self._flush()
            self.transport.close()

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._expires = self.loop.time() + (duration or self._timeout_duration)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        if self._busy:
            # The wait is the relay's own: a slow disk is no fault of the client.
            self._expires = now + self._timeout_duration
        if now < self._expires:
            self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)
        elif self.transport is not None:
            self._out.append(IDLE)
            self._flush()
            self.transport.close()

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
        refusal = self._opened(self)
        if refusal is not None:
            self._out.append(refusal)
        else:
            self._out.append(self._conversation.greeting)
            await self._converse()
        self._flush()
        if self.transport is not None:
            self.transport.close()

    async def _converse(self) -> None:
        conversation = self._conversation
        out = self._out
        while (line := await self._line()) is not None:
            reply, action = conversation.command(line) if line else conversation.too_long()
            out.append(reply)
            if reply[0] >= 0x34:
                self._tell(line, reply)
            if action is Action.CONTENT and not await self._data():
                return
            if action is Action.CLOSE:
                return
            if self._ending:
                out.append(CLOSING)
                return

    def _tell(self, line: bytes, reply: bytes) -> None:
        verb = line[:4].upper()
        if verb in {b"MAIL", b"RCPT", b"DATA"}:
            self._refused(verb.decode("ascii"), reply, line[5:] if verb == b"RCPT" else b"")

    def _refused(self, command: str, reply: bytes, recipient: bytes = b"") -> None:
        self._door.emit(
            Refused(
                time=int(self._door.clock.wall() * 1e6),
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
        """Send what is to be sent, then wait for octets; tell whether there are any."""
        reader: Any = self._reader
        if self._out:
            self._flush()
            await self._drained()
        reader._maybe_resume_transport()
        self._reset_timeout()
        if not reader._eof:
            await reader._wait_for_data("session")
        return bool(reader._buffer) and self.transport is not None

    def _flush(self) -> None:
        if self._out and self.transport is not None and not self.transport.is_closing():
            cast(asyncio.WriteTransport, self.transport).write(b"".join(self._out))
        self._out.clear()

    # ---- content ----

    async def _data(self) -> bool:
        """Read a content and answer it; tell whether the session goes on."""
        self._content = True
        raw = await self._read_content()
        self._content = False
        if raw is None:
            return False
        if isinstance(raw, int):
            self._conversation.envelope()
            reply = TOO_BIG
        else:
            self._busy = True
            reply = await self._door.accept(raw, self._conversation, self._settings, self._peer)
            self._busy = False
        self._out.append(reply)
        if reply[0] != 0x32:
            self._refused("DATA", reply)
        return True

    async def _read_content(self) -> bytes | int | None:
        """Return the content as it came, its size if it was too big, None if the client went away."""
        buffer = self._buffer
        if buffer and (end := find_end(buffer)) is not None and end[0] <= self._settings.limits.message_size:
            raw = bytes(buffer[: end[0]])
            del buffer[: end[1]]
            return raw
        return await self._gather(buffer)

    async def _gather(self, buffer: bytearray) -> bytes | int | None:
        """Take a content out of the reader piece by piece; one that is too big is read and dropped."""
        limits = self._settings.limits
        deadline = self.loop.time() + limits.message
        gathered = bytearray()
        scanned = dropped = 0
        while True:
            gathered += buffer
            buffer.clear()
            # Dropped octets were not the end, so the first octets no longer are the content's first.
            found = find_end(gathered, scanned) if not dropped else _find_later(gathered)
            if found is not None:
                buffer += gathered[found[1] :]
                size = dropped + found[0]
                return bytes(gathered[: found[0]]) if size <= limits.message_size and not dropped else size
            scanned = len(gathered)
            if dropped + scanned > limits.message_size + _TAIL + 1:
                dropped += scanned - _TAIL
                del gathered[:-_TAIL]
            if dropped > 2 * limits.message_size or self.loop.time() > deadline:
                self._out.append(b"421 4.3.4 Too much, or for too long\r\n")
                return None
            if not await self._more():
                return None

    async def push(self, status: Any) -> None:
        """Queue a reply (aiosmtpd's own verbs use this)."""
        self._out.append((status if isinstance(status, bytes) else status.encode()) + b"\r\n")


def _find_later(gathered: bytearray) -> tuple[int, int] | None:
    at = gathered.find(b"\r\n.\r\n")
    return None if at < 0 else (at + 2, at + 5)
