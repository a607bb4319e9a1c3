"""A client's session: aiosmtpd's SMTP, with the reading, the timing and the grammar ours.

The only module that names aiosmtpd. What stays its: the protocol's life and flow control. What is
ours and why (line by line reading is four fifths of its time): what came is answered in the callback
that brought it, and the session's coroutine runs only for what has to be waited for: a write, a
password, a handshake. Replies are gathered and written before the loop waits again (RFC 2920 §3.2),
those of all sessions together; one timer is looked at when it fires instead of being set anew by every
command. Memory is bounded by the limits, and a client that stalls anywhere is cut off in time.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP

from backstamp.listener import admission
from backstamp.listener.arrival import Arrival
from backstamp.listener.contents import Chunk, Contents, Dotted, Piece
from backstamp.listener.conversation import Action, Conversation
from backstamp.listener.intake import TOO_BIG, Door
from backstamp.listener.settings import ListenerSettings
from backstamp.telemetry.events import Alarm, Refused

BUFFER: Final = 256 * 1024
"""Octets kept while something is waited for, from which on no more are read from the socket."""

TURN: Final = 200
"""Commands of one client that are answered before others have their turn."""

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
        self._in = bytearray()
        self._out: list[bytes] = []
        self._scanned = 0
        """Octets at the front of what came in which no line ends."""
        self._overlong = False
        """What comes up to the next line end belongs to a line that is too long."""
        self._contents: Contents | None = None
        """What takes the octets now; None: they are commands."""
        self._piece: Piece | None = None
        self._arrival: Arrival | None = None
        self._too_far = False
        """It goes on sending long after the limit."""
        self._turn: asyncio.Future[Action] | None = None
        """There while it is the client's turn: ends with what has to be waited for next."""
        self._stopped = False
        """Nothing is read from the socket."""
        self._yielded = False
        """What came is looked at again in the loop's next turn."""
        self._eof = False
        self._ending = False
        self._over = False
        self._expires = 0.0
        self._deadline = 0.0
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
        self._peer = admission.peer(transport.get_extra_info("peername"), local=self._settings.local)
        self._conversation = Conversation(self._settings, self._peer, self._door.refuse)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone; a message that is being written is written, and told as accepted."""
        # aiosmtpd cancels its handler now. The message may be on the disk already: the handler
        # ends by itself, and something else is cancelled in its place.
        self._handler_coroutine = cast(Any, self.loop.create_future())
        super().connection_lost(error)
        self._wake(Action.CLOSE)
        if self._over:
            self._left(self)

    def eof_received(self) -> bool | None:
        """The client sends no more; it may still read the replies to what it sent."""
        self._eof = True
        self._pump()
        return bool(asyncio.StreamReaderProtocol.eof_received(self))

    def end(self) -> None:
        """Ask the client to leave: at once if nothing is under way, else after its message."""
        self._ending = True
        if self._turn is not None and self._contents is None and self._arrival is None:
            self._out.append(CLOSING)
            self._wake(Action.CLOSE)

    async def _handle_client(self) -> None:
        try:
            refusal = self._opened(self)
            if refusal is None:
                self._out.append(self._conversation.greeting)
                while (action := await self._clients_turn()) is not Action.CLOSE:
                    assert action is Action.CONTENT
                    await self._take()
                    if self._too_far:
                        self._answer(TOO_BIG)
                        break
                    if self._ending and self._contents is None:
                        self._out.append(CLOSING)
                        break
            else:
                self._out.append(refusal)
        except Exception as error:  # a bug ends one session, in words, and not silently
            self._out.append(BROKEN)
            problem = f"a session broke: {error!r}"
            self._door.emit(Alarm(time=self._now(), problem=problem, action="the client was sent away"))
        if self._arrival is not None:
            await self._arrival.abandon()
        self._over = True
        if self.transport is None:
            self._left(self)
        else:
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

    # ---- time ----

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._expires = self.loop.time() + (duration or self._timeout_duration)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        transport = cast("asyncio.WriteTransport | None", self.transport)
        if transport is None:
            return
        if self._turn is None and not self._over:
            # The wait is the relay's own: a slow disk is no fault of the client.
            self._expires = now + self._timeout_duration
        if now < self._expires:
            self._timeout_handle = self.loop.call_at(self._expires, self._timeout_cb)
        elif self._over or transport.is_closing():
            # It does not even read what it was told last; waiting for that would be for ever.
            transport.abort()
        else:
            self._timeout_handle = None
            self._out.append(IDLE)
            self._wake(Action.CLOSE)

    def _now(self) -> int:
        return int(self._door.clock.wall() * 1e6)

    # ---- octets in, replies out ----

    async def _clients_turn(self) -> Action:
        """Let the client speak; return what has to be done for it that takes a wait."""
        if self.transport is None:
            return Action.CLOSE
        turn = self._turn = self.loop.create_future()
        self._reset_timeout()
        self._pump()
        try:
            action: Action = await turn
            return action
        finally:
            self._turn = None

    def data_received(self, data: bytes) -> None:
        """Octets came: answered at once if it is the client's turn, kept if not."""
        self._in += data
        self._pump()
        if len(self._in) > BUFFER:
            self._steer()

    def resume_writing(self) -> None:
        """The client has taken enough of the replies."""
        super().resume_writing()
        self._pump()

    def _pump(self) -> None:
        """Answer what came, up to where more has to come or something has to be waited for."""
        turn = self._turn
        if turn is None or turn.done() or self._yielded:
            return
        try:
            action = self._commands() if self._contents is None else self._content(self._contents)
        except Exception as error:  # the coroutine tells of it
            turn.set_exception(error)
            return
        if self._out:
            self._replies.add(self)
        if action is not None:
            turn.set_result(action)
        elif self._stopped:
            self._steer()

    def _steer(self) -> None:
        """Read no more from a client that is ahead of what is done for it; go on once it is not."""
        # Of a content more is taken: a piece has to be whole before anything is done with it.
        ahead = len(self._in) > BUFFER and (self._contents is None or self._turn is None)
        if ahead != self._stopped and self.transport is not None:
            self._stopped = ahead
            transport = cast(asyncio.ReadTransport, self.transport)
            transport.pause_reading() if ahead else transport.resume_reading()

    def _commands(self) -> Action | None:
        """Answer command lines; return what has to be waited for, None where more has to come."""
        octets, out, conversation = self._in, self._out, self._conversation
        limit = self._settings.limits.command_length
        for _ in range(TURN):
            if cast(Any, self)._paused:  # it does not read what it is told: asyncio's flow control
                return None
            end = octets.find(b"\n", self._scanned) + 1
            if not end:
                if len(octets) > limit:
                    octets.clear()
                    self._overlong = True
                self._scanned = len(octets)
                # What is held when the client ends is half a command: nothing will complete it.
                return Action.CLOSE if self._eof else None
            line = bytes(octets[:end])
            del octets[:end]
            self._scanned = 0
            if self._overlong or end > limit:
                self._overlong = False
                reply, action = conversation.too_long()
            else:
                reply, action = conversation.command(line)
            out.append(reply)
            if reply[0] >= 0x34:
                self._tell(line, reply)
            if action is not Action.NEXT:
                if action is Action.CLOSE:
                    return action
                return self._begin(action)
            if self._ending:
                out.append(CLOSING)
                return Action.CLOSE
            self._expires = self.loop.time() + self._timeout_duration
        self._yielded = True
        self.loop.call_soon(self._go_on)
        return None

    def _go_on(self) -> None:
        self._yielded = False
        self._pump()

    def _begin(self, action: Action) -> Action | None:
        """Begin to read a content."""
        assert action is Action.CONTENT
        chunk = self._conversation.chunk
        contents = self._contents = Dotted() if chunk is None else Chunk(chunk[0], last=chunk[1])
        self._deadline = self.loop.time() + self._settings.limits.message
        return self._content(contents)

    def _content(self, contents: Contents) -> Action | None:
        """Take from a content what came; return what has to be waited for, None where more has to come."""
        if (piece := contents.feed(self._in)) is not None:
            self._piece = piece
            return Action.CONTENT
        if self._eof:
            return Action.CLOSE
        now = self.loop.time()
        if now > self._deadline:
            self._out.append(SLOW)
            return Action.CLOSE
        self._expires = now + self._timeout_duration
        return None

    def _wake(self, action: Action) -> None:
        """End the client's turn."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(action)

    def flush(self) -> None:
        """Write the replies that were gathered."""
        if self._out and self.transport is not None and not self.transport.is_closing():
            cast(asyncio.WriteTransport, self.transport).write(b"".join(self._out))
        self._out.clear()

    async def push(self, status: Any) -> None:
        """Queue a reply (aiosmtpd's own verbs use this)."""
        self._out.append((status if isinstance(status, bytes) else status.encode()) + b"\r\n")

    # ---- content ----

    async def _take(self) -> None:
        """Hand a piece of content on; answer where a reply is due."""
        piece, self._piece = self._piece, None
        assert piece is not None
        conversation, arrival = self._conversation, self._arrival
        if arrival is None:
            envelope, origin = conversation.envelope(), conversation.origin(self._peer)
            if piece.last:
                conversation.ended()
                verdict = await self._door.take(piece.octets, envelope, origin, self._settings)
                self._answer(verdict.reply)
                return
            arrival = self._arrival = Arrival(self._door, envelope, origin, self._settings)
        if piece.last:
            conversation.ended()
            reply = await arrival.end(piece.octets)
            self._arrival = None
            self._answer(reply)
            return
        await arrival.take(piece.octets)
        self._too_far = arrival.size > 3 * self._settings.limits.message_size

    def _answer(self, reply: bytes) -> None:
        """Reply to a content; commands follow."""
        self._contents = None
        self._out.append(reply)
        if reply[0] == 0x32:
            self._conversation.errors = 0
        else:
            self._refused("DATA", reply)

    # ---- events ----

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
