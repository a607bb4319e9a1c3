"""A client's session: aiosmtpd's SMTP, with the reading, the timing and the grammar ours.

The only module that names aiosmtpd. What stays its: the protocol's life and flow control. What is
ours and why (line by line reading is four fifths of its time): what came is answered in the callback
that brought it, and the session's coroutine runs only for what has to be waited for: a write, a
password, a handshake, memory. Replies are gathered and written before the loop waits again (RFC 2920
§3.2); one timer is looked at when it fires instead of being set anew by every command. Memory is
bounded by the limits, and a client that stalls anywhere is cut off in time.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP

from backstamp.listener import admission, authority, certificates
from backstamp.listener.answer import Action
from backstamp.listener.arrival import Arrival
from backstamp.listener.authentication import Authentication, Refusal
from backstamp.listener.budget import SPARE, Hold, share
from backstamp.listener.contents import Chunk, Contents, Dotted, Piece
from backstamp.listener.conversation import Conversation
from backstamp.listener.house import House, Visitor
from backstamp.listener.intake import TOO_BIG
from backstamp.listener.pace import Pace
from backstamp.listener.upgrade import HandshakeError, upgrade
from backstamp.smtp import proxy
from backstamp.telemetry.events import Alarm, Refused

BUFFER: Final = 256 * 1024
"""Octets kept while something is waited for, from which on no more are read from the socket."""

TURN: Final = 200
"""Commands of one client that are answered before others have their turn."""

LINGER: Final = 5.0
"""Seconds a client that is sent away has to read the last replies."""

HANDSHAKE: Final = 30.0
"""Seconds for all that comes before the greeting, and for a handshake."""

ROOM: Final = 100.0
"""Seconds a content may wait for memory: its client waits two minutes for 354 (RFC 5321 §4.5.3.2.4)."""

BROKEN: Final = b"421 4.3.0 Local error, closing\r\n"
CLOSING: Final = b"421 4.3.2 The relay is closing\r\n"
NO_ROOM: Final = b"452 4.3.1 Too much mail at once, try again later\r\n"
AHEAD: Final = b"421 4.7.0 Only who said EHLO may send commands ahead\r\n"
NOT_PLAIN: Final = b"421 4.7.0 Nothing may follow STARTTLS\r\n"


class _Handler:
    """aiosmtpd wants a handler; it gets one without hooks."""

    def __dir__(self) -> Iterable[str]:
        return ()


_HANDLER = _Handler()


class Session(SMTP):
    """One connection. `admit` returns the refusal of a client whose address is known, None if it may stay."""

    def __init__(
        self,
        house: House,
        *,
        opened: Callable[["Session"], None],
        admit: Callable[["Session"], bytes | None],
        left: Callable[["Session"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # aiosmtpd keeps these limits per class and changes them per session.
        self.command_size_limits = {}
        self._house = house
        self._settings = settings = house.settings
        self._door = house.door
        self._opened = opened
        self._admit = admit
        self._left = left
        self._in = bytearray()
        self._out: list[bytes] = []
        self._scanned = 0
        """Octets at the front of what came in which no line ends."""
        self._overlong = False
        """What comes up to the next line end belongs to a line that is too long."""
        self._skip = 0
        """Octets that belong to a chunk nobody wants."""
        self._look: Callable[[], Action | None] = self._commands
        """What looks at octets that came."""
        self._contents: Contents | None = None
        """What takes the octets now; None: they are commands."""
        self._reply = b""
        """What is to be said when what is waited for is there."""
        self._piece: Piece | None = None
        self._arrival: Arrival | None = None
        self._hold: Hold | None = None
        self._turn: asyncio.Future[Action] | None = None
        """There while it is the client's turn: ends with what has to be waited for next."""
        self._stopped = False
        """Nothing is read from the socket."""
        self._yielded = False
        """What came is looked at again in the loop's next turn."""
        self._shaking = False
        """A handshake for TLS is under way."""
        self._eof = False
        self._ending = False
        self._over = False
        self._expires = 0.0
        self._pace = Pace(settings.limits, loop.time())
        self.peer = ""
        """Its address."""
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
        self.peer = admission.peer(transport.get_extra_info("peername"), local=self._settings.local)
        super().connection_made(transport)
        self._opened(self)

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
        if self._shaking:
            assert self._handler_coroutine is not None
            self._handler_coroutine.cancel()
        elif self._turn is not None and self._contents is None and self._arrival is None:
            self._out.append(CLOSING)
            self._wake(Action.CLOSE)

    async def _handle_client(self) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE):
                arrived = await self._arrive()
            if arrived:
                await self._converse()
        except (TimeoutError, asyncio.CancelledError):
            pass  # it said nothing, or the relay closes while hands are shaken
        except Exception as error:  # a bug ends one session, in words, and not silently
            self._out.append(BROKEN)
            self._alarm(f"a session broke: {error!r}", "the client was sent away")
        self._pace.pause(self.loop.time())
        if self._arrival is not None:
            await self._arrival.abandon()
        self._release()
        self._over = True
        if self.transport is None:
            self._left(self)
        else:
            self._leave()

    async def _arrive(self) -> bool:
        """Find out who is there, have TLS where it comes first; tell whether there is a client to greet."""
        settings = self._settings
        if settings.proxies and admission.may_relay(self.peer, settings.proxies):
            self._look = self._introduction
            if await self._clients_turn() is Action.CLOSE:
                self._drop()
                return False
        if (refusal := self._admit(self)) is not None:
            self._out.append(refusal)
            return False
        auth = self._house.authority
        self._conversation = Conversation(
            settings,
            self.peer,
            self._door.refuse,
            wall=self._door.clock.wall,
            authentication=None if auth is None else auth.authentication(),
            rates=Visitor(self._house, self.peer, self.loop.time),
        )
        if settings.tls.mode == "implicit":
            self._look = self._anything
            if await self._clients_turn() is Action.CLOSE:
                self._drop()
                return False
            begun = bytes(self._in)
            self._in.clear()
            if not await self._begin_tls(begun):
                return False
        self._look = self._commands
        self._out.append(self._conversation.greeting)
        return True

    async def _converse(self) -> None:
        work = {
            Action.CONTENT: self._find_room,
            Action.TAKE: self._take,
            Action.GROW: self._grow,
            Action.ABANDON: self._abandon,
            Action.JUDGE: self._judge,
            Action.PROTECT: self._protect,
        }
        while (action := await self._clients_turn()) is not Action.CLOSE:
            if not await work[action]():
                return
            if self._ending and self._contents is None and self._arrival is None:
                self._out.append(CLOSING)
                return

    def _drop(self) -> None:
        """Close without a word."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

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
        deadline = self._pace.deadline(self.loop.time())
        self._timeout_handle = self.loop.call_at(deadline, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        transport = cast("asyncio.WriteTransport | None", self.transport)
        if transport is None:
            return
        if self._over or transport.is_closing():
            # It does not even read what it was told last; waiting for that would be for ever.
            if now >= self._expires:
                transport.abort()
                return
            deadline = self._expires
        else:
            # A handshake has a time of its own, and a word in clear text would break it.
            late = None if self._shaking else self._pace.late(now)
            if late is not None:
                self._out.append(late)
                self._wake(Action.CLOSE)
            deadline = max(self._pace.deadline(now), now + 1.0)
        self._timeout_handle = self.loop.call_at(deadline, self._timeout_cb)

    def _now(self) -> int:
        return int(self._door.clock.wall() * 1e6)

    def _alarm(self, problem: str, action: str) -> None:
        self._door.emit(Alarm(time=self._now(), problem=problem, action=action))

    # ---- octets in, replies out ----

    async def _clients_turn(self) -> Action:
        """Let the client speak; return what has to be done for it that takes a wait."""
        if self.transport is None:
            return Action.CLOSE
        turn = self._turn = self.loop.create_future()
        now = self.loop.time()
        if self._contents is None:
            self._pace.replied(now)
        else:
            self._pace.resume(now)
        self._pump()
        try:
            action: Action = await turn
            return action
        finally:
            self._turn = None
            self._pace.pause(self.loop.time())

    def data_received(self, data: bytes) -> None:
        """Octets came: answered at once if it is the client's turn, kept if not."""
        self._in += data
        if self._contents is not None and self._turn is not None:
            late = self._pace.took(len(data), self.loop.time())
            if late is not None and not self._turn.done():
                self._out.append(late)
                self._wake(Action.CLOSE)
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
            action = self._look()
        except Exception as error:  # the coroutine tells of it
            turn.set_exception(error)
            return
        if self._out:
            self._house.replies.add(self)
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

    def _introduction(self) -> Action | None:
        """Read whom a proxy speaks for."""
        found = proxy.parse(self._in)
        if isinstance(found, proxy.Header):
            del self._in[: found.length]
            self.peer = found.source or self.peer
            return Action.NEXT
        return Action.CLOSE if self._eof or found is proxy.MALFORMED else None

    def _anything(self) -> Action | None:
        """Wait for the first octets of a handshake."""
        return Action.NEXT if self._in else Action.CLOSE if self._eof else None

    def _commands(self) -> Action | None:
        """Answer command lines; return what has to be waited for, None where more has to come."""
        octets, out, conversation = self._in, self._out, self._conversation
        longest = conversation.longest
        for _ in range(TURN):
            if cast(Any, self)._paused:  # it does not read what it is told: asyncio's flow control
                return None
            if self._skip:
                skipped = min(self._skip, len(octets))
                del octets[:skipped]
                self._skip -= skipped
            end = 0 if self._skip else octets.find(b"\n", self._scanned) + 1
            if not end:
                if len(octets) > longest:
                    octets.clear()
                    self._overlong = True
                self._scanned = len(octets)
                # What is held when the client ends is half a command: nothing will complete it.
                return Action.CLOSE if self._eof else None
            line = bytes(octets[:end])
            del octets[:end]
            self._scanned = 0
            if self._overlong or end > longest:
                self._overlong = False
                reply, action = conversation.too_long()
            else:
                reply, action = conversation.command(line)
            if action is Action.NEXT:
                out.append(reply)
                if reply[0] >= 0x34:
                    self._tell(line, reply)
                if self._arrival is not None and not conversation.transaction.chunked:
                    return Action.ABANDON
                if octets and not conversation.client.extended and conversation.client.helo:
                    out.append(AHEAD)
                    return Action.CLOSE
                if self._ending and self._arrival is None:
                    out.append(CLOSING)
                    return Action.CLOSE
                continue
            if action is Action.CONTENT:
                return self._begin(reply)
            if action is Action.SKIP:
                self._skip = conversation.transaction.skip
            self._reply = reply
            if action in (Action.SKIP, Action.CLOSE):
                out.append(reply)
                if reply[0] >= 0x34:
                    self._tell(line, reply)
            if action is not Action.SKIP:
                return action
        self._pace.replied(self.loop.time())
        self._yielded = True
        self.loop.call_soon(self._go_on)
        return None

    def _go_on(self) -> None:
        self._yielded = False
        self._pump()

    def _begin(self, reply: bytes) -> Action | None:
        """Begin to read a content, if there is room for it."""
        self._reply = reply
        if self._hold is None:
            self._hold = self._house.budget.take(share(self._conversation.transaction.declared))
            if self._hold is None:
                return Action.CONTENT
        chunk = self._conversation.transaction.chunk
        if chunk is None:
            self._contents = Dotted()
            self._out.append(reply)
        else:
            self._contents = Chunk(chunk[0], last=chunk[1])
        self._look = self._content
        self._pace.begin(self.loop.time())
        return self._content()

    def _content(self) -> Action | None:
        """Take from a content what came; return what has to be waited for, None where more has to come."""
        contents, hold = self._contents, self._hold
        assert contents is not None
        assert hold is not None
        if len(self._in) > hold.octets and hold.octets < SPARE:
            return Action.GROW
        if (piece := contents.feed(self._in)) is not None:
            self._piece = piece
            return Action.TAKE
        return Action.CLOSE if self._eof else None

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

    # ---- what is waited for: each tells whether the session goes on ----

    async def _find_room(self) -> bool:
        """Wait until a content has room in memory; its client is not read meanwhile."""
        transaction = self._conversation.transaction
        try:
            async with asyncio.timeout(ROOM):
                self._hold = await self._house.budget.wait(share(transaction.declared))
        except TimeoutError:
            self._refused("DATA", NO_ROOM)
            self._out.append(NO_ROOM)
            # The octets of a chunk are under way already.
            return transaction.chunk is None
        self._begin(self._reply)
        return True

    async def _grow(self) -> bool:
        """Wait until a content that is larger than was said has room in memory."""
        assert self._hold is not None
        await self._hold.grow(SPARE)
        return True

    async def _abandon(self) -> bool:
        """Forget a content of chunks that no last one follows (RSET, EHLO)."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            await arrival.abandon()
        self._release()
        return True

    async def _take(self) -> bool:
        """Hand a piece of content on; answer where a reply is due."""
        piece, self._piece = self._piece, None
        assert piece is not None
        transaction, arrival, settings = self._conversation.transaction, self._arrival, self._settings
        if arrival is None:
            envelope, origin = transaction.envelope(), self._conversation.client.origin(utf8=transaction.utf8)
            if piece.last:
                transaction.reset()
                verdict = await self._door.take(piece.octets, envelope, origin, settings)
                self._answer(verdict.reply)
                return True
            arrival = self._arrival = Arrival(self._door, envelope, origin, settings)
        if piece.last:
            transaction.reset()
            reply = await arrival.end(piece.octets)
            self._arrival = None
            self._answer(reply)
            return True
        await arrival.take(piece.octets)
        if arrival.size > 3 * settings.limits.message_size:
            self._answer(TOO_BIG)
            return False
        if piece.ends:
            self._contents, self._look = None, self._commands
            self._out.append(self._reply)
        return True

    def _answer(self, reply: bytes) -> None:
        """Reply to a content; commands follow."""
        self._contents, self._look = None, self._commands
        self._release()
        self._out.append(reply)
        if reply[0] == 0x32:
            self._conversation.errors = 0
        else:
            self._refused("DATA", reply)

    def _release(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    async def _judge(self) -> bool:
        """Have a claim judged."""
        conversation, judge = self._conversation, self._house.authority
        assert judge is not None
        assert conversation.claim is not None
        try:
            verdict = await judge.check(conversation.claim, self.peer)
        except Exception as error:  # a bug must cost nobody an account: the client tries again
            self._alarm(f"judging a client broke: {error!r}", "it was told to try again")
            verdict = Refusal(authority.TROUBLE)
        reply, action = conversation.judged(verdict)
        self._out.append(reply)
        return action is not Action.CLOSE

    async def _protect(self) -> bool:
        """Begin TLS after STARTTLS; what came behind the command was said by nobody knows whom."""
        self.flush()
        await cast(Any, self)._drain_helper()
        if self._in:
            self._out.append(NOT_PLAIN)
            return False
        self._out.append(self._reply)
        self.flush()
        return await self._begin_tls(b"")

    async def _begin_tls(self, begun: bytes) -> bool:
        """Shake hands; all that was said before is forgotten (RFC 3207 §4.2)."""
        shown = self._house.certificates
        if self.transport is None or shown is None:
            return False
        me = cast(Any, self)
        self._shaking = me._over_ssl = True
        self._stopped = False
        try:
            made = await upgrade(self.transport, self, shown.context(), seconds=HANDSHAKE, begun=begun)
        except HandshakeError:
            self._gone()
            return False
        except asyncio.CancelledError:
            self._gone()
            raise
        finally:
            self._shaking = False
        self.transport = me._transport = me._reader._transport = made
        found = made.get_extra_info("ssl_object")
        auth = self._house.authority
        before = self._conversation.client.authentication
        again: Authentication | None = None
        if auth is not None and before is not None:
            again = auth.authentication(failures=before.failures)
        self._conversation.protected(
            certificates.describe(found),
            certified=shown.trusted(certificates.identity(found)),
            authentication=again,
        )
        return True

    def _gone(self) -> None:
        """The connection went in the handshake; neither loop tells so surely."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self.transport = None

    # ---- events ----

    def _tell(self, line: bytes, reply: bytes) -> None:
        verb = line[:4].upper()
        if verb in {b"MAIL", b"RCPT", b"DATA", b"BDAT"}:
            self._refused(verb.decode("ascii"), reply, line[5:] if verb == b"RCPT" else b"")

    def _refused(self, command: str, reply: bytes, recipient: bytes = b"") -> None:
        self._door.emit(
            Refused(
                time=self._now(),
                client=self.peer,
                command=command,
                reply=reply.decode("ascii", "backslashreplace").rstrip(),
                sender=(self._conversation.transaction.sender or b"").decode("utf-8", "backslashreplace"),
                recipient=recipient[:320].decode("utf-8", "backslashreplace").strip(),
            )
        )
