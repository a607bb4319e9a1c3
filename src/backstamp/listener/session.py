"""A client's session: who is there, its commands, its contents, and what has to be waited for.

What can be answered at once is answered by `Conversation` in the callback that brought the octets
(`wire`); the coroutine runs for a write, a password, a handshake, memory. What a session holds of the
budget it gives back whatever happens.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from backstamp.listener import admission
from backstamp.listener.answer import Action
from backstamp.listener.arrival import Arrival
from backstamp.listener.authentication import TROUBLE, Refusal
from backstamp.listener.budget import SPARE, Hold, share
from backstamp.listener.contents import Chunk, Contents, Dotted, Piece
from backstamp.listener.conversation import Conversation
from backstamp.listener.house import House, Visitor
from backstamp.listener.intake import TOO_BIG
from backstamp.listener.wire import HANDSHAKE, Wire
from backstamp.net.server_tls import describe
from backstamp.smtp import proxy
from backstamp.telemetry.events import Alarm, Refused
from backstamp.text import printable

TURN: Final = 200
"""Commands of one client that are answered before others have their turn."""

REST: Final = 0.01
"""Seconds nothing is read from a client after a part of a line that is too long: nobody waits for it."""

ROOM: Final = 100.0
"""Seconds a content may wait for memory: its client waits two minutes for 354 (RFC 5321 §4.5.3.2.4)."""

SHOWN: Final = 320
"""Octets of what a client said that stand in an event: a path and parameters, at most."""

BROKEN: Final = b"421 4.3.0 Local error, closing\r\n"
NO_TLS: Final = b"454 4.7.0 TLS is not available now\r\n"
CLOSING: Final = b"421 4.3.2 The relay is closing\r\n"
NO_ROOM: Final = b"452 4.3.1 Too much mail at once, try again later\r\n"
AHEAD: Final = b"421 4.7.0 Only who said EHLO may send commands ahead\r\n"
NOT_PLAIN: Final = b"421 4.7.0 Nothing may follow STARTTLS\r\n"


class Session(Wire):
    """One client's. `admit` returns the refusal of one whose address is known, None if it may stay."""

    def __init__(
        self,
        house: House,
        *,
        opened: Callable[["Session"], None],
        admit: Callable[["Session"], bytes | None],
        left: Callable[["Session"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(house, opened=opened, left=left, loop=loop)
        self._door = house.door
        self._admit = admit
        self._scanned = 0
        """Octets at the front of what came in which no line ends."""
        self._overlong = b""
        """The begin of a line that is too long; what comes up to the next line end belongs to it."""
        self._proxied_tls = False
        self._skip = 0
        """Octets that belong to a chunk nobody wants; behind them stands its `_reply`."""
        self._contents: Contents | None = None
        """What takes the octets now; None: they are commands."""
        self._reply = b""
        """What is to be said when what is waited for is there."""
        self._piece: Piece | None = None
        self._arrival: Arrival | None = None
        self._hold: Hold | None = None
        self._sender = b""
        """Whose message is being taken."""
        self._ending = False
        self._conversation: Conversation

    def end(self) -> None:
        """Ask the client to leave: at once if nothing is under way, else after its message."""
        self._ending = True
        if self._shaking:
            assert self._handler_coroutine is not None
            self._handler_coroutine.cancel()
        elif self._turn is not None and self._contents is None and self._arrival is None:
            self._out.append(CLOSING)
            self._wake(Action.CLOSE)

    def dismiss(self) -> None:
        """Send the client away in the middle of its message, in words where that can be (RFC 5321 §3.8)."""
        if self._turn is not None and not self._turn.done() and not self._shaking:
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
            closed=self._door.closed,
            authentication=None if auth is None else auth.authentication(),
            rates=Visitor(self._house, self.peer, self.loop.time),
            proxied_tls=self._proxied_tls,
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

    def _now(self) -> int:
        return int(self._door.clock.wall() * 1e6)

    def _alarm(self, problem: str, action: str) -> None:
        self._door.emit(Alarm(time=self._now(), problem=problem, action=action))

    # ---- what came ----

    def _introduction(self) -> Action | None:
        """Read whom a proxy speaks for."""
        found = proxy.parse(self._in)
        if isinstance(found, proxy.Header):
            del self._in[: found.length]
            self.peer = found.source or self.peer
            self._proxied_tls = found.tls
            return Action.NEXT
        return Action.CLOSE if self._eof or found is proxy.MALFORMED else None

    def _commands(self) -> Action | None:
        """Answer command lines; return what has to be waited for, None where more has to come."""
        octets, out, conversation = self._in, self._out, self._conversation
        longest = conversation.longest
        for _ in range(TURN):
            if self._choked:
                return None
            if self._skip:
                skipped = min(self._skip, len(octets))
                del octets[:skipped]
                self._skip -= skipped
                if not self._skip:
                    out.append(self._reply)
            end = 0 if self._skip else octets.find(b"\n", self._scanned) + 1
            if not end:
                if len(octets) > longest:
                    self._overlong = self._overlong or bytes(octets[:SHOWN])
                    octets.clear()
                    self._rest(REST)
                self._scanned = len(octets)
                # What is held when the client ends is half a command: nothing will complete it.
                return Action.CLOSE if self._eof else None
            line = bytes(octets[:end])
            del octets[:end]
            self._scanned = 0
            if self._overlong or end > longest:
                line, self._overlong = self._overlong or line, b""
                reply, action = conversation.too_long(line)
            else:
                reply, action = conversation.command(line)
            self._reply = reply
            if action is Action.NEXT or action is Action.SKIP or action is Action.CLOSE:
                if action is Action.SKIP:
                    self._drop_chunk(conversation.transaction.skip, reply)
                else:
                    out.append(reply)
                if reply[0] >= 0x34:
                    self._tell(line, reply)
            if action is Action.NEXT:
                if self._arrival is not None and not conversation.transaction.chunked:
                    return Action.ABANDON
                if octets and self._ahead():
                    return Action.CLOSE
                if self._ending and self._arrival is None:
                    out.append(CLOSING)
                    return Action.CLOSE
            elif action is Action.CONTENT:
                return Action.CLOSE if octets and self._ahead() else self._begin()
            elif action is not Action.SKIP:
                return action
        self._later()
        return None

    def _drop_chunk(self, size: int, reply: bytes) -> None:
        """Refuse a chunk: its octets are under way, and are taken before that is said (RFC 3030 §2)."""
        self._skip, self._reply = size, reply
        if not size:
            self._out.append(reply)

    def _ahead(self) -> bool:
        """Tell whether who sent octets ahead of a reply was not offered to; it is sent away."""
        client = self._conversation.client
        if client.extended or not client.helo:
            return False
        self._out.append(AHEAD)
        return True

    def _begin(self) -> Action | None:
        """Begin to read a content, if there is room for it."""
        if self._hold is None:
            self._hold = self._house.budget.take(share(self._conversation.transaction.declared))
            if self._hold is None:
                return Action.CONTENT
        self._read_content()
        return self._content()

    def _read_content(self) -> None:
        """Have the octets that come now, and those that are here, taken as a content."""
        chunk = self._conversation.transaction.chunk
        if chunk is None:
            self._contents = Dotted()
            self._out.append(self._reply)
        else:
            self._contents = Chunk(chunk[0], last=chunk[1])
        self._look, self._reading = self._content, True
        now = self.loop.time()
        self._pace.begin(now)
        self._hasten(now)

    def _content(self) -> Action | None:
        """Take from a content what came; return what has to be waited for, None where more has to come."""
        contents, hold = self._contents, self._hold
        assert contents is not None
        assert hold is not None
        gathered = 0 if self._arrival is None else self._arrival.gathered
        if len(self._in) + gathered > hold.octets and hold.octets < SPARE:
            return Action.GROW
        if (piece := contents.feed(self._in)) is not None:
            self._piece = piece
            return Action.TAKE
        return Action.CLOSE if self._eof else None

    # ---- what is waited for: each tells whether the session goes on ----

    async def _find_room(self) -> bool:
        """Wait until a content has room in memory; its client is not read meanwhile."""
        transaction = self._conversation.transaction
        try:
            async with asyncio.timeout(ROOM):
                wait = self._house.budget.wait(share(transaction.declared))
                self._hold = await self._patiently(wait)
        except TimeoutError:
            chunk = transaction.chunk
            self._refused("DATA" if chunk is None else "BDAT", NO_ROOM, transaction.sender or b"")
            if chunk is None:
                self._out.append(NO_ROOM)
            else:
                transaction.reset()
                self._drop_chunk(chunk[0], NO_ROOM)
            return True
        self._read_content()
        return True

    async def _grow(self) -> bool:
        """Wait until a content that is larger than was said has room in memory."""
        assert self._hold is not None
        await self._patiently(self._hold.grow(SPARE))
        return True

    async def _abandon(self) -> bool:
        """Forget a content of chunks that no last one follows (RSET, EHLO)."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            await arrival.abandon()
        self._pace.ended()
        self._release()
        return True

    async def _take(self) -> bool:
        """Hand a piece of content on; answer where a reply is due."""
        piece, self._piece = self._piece, None
        assert piece is not None
        transaction, arrival, settings = self._conversation.transaction, self._arrival, self._settings
        self._sender = transaction.sender or b""
        if arrival is None:
            envelope, origin = transaction.envelope(), self._conversation.client.origin(utf8=transaction.utf8)
            if not piece.last:
                arrival = self._arrival = Arrival(self._door, envelope, origin, settings)
        if piece.last:
            transaction.reset()
            if arrival is None:
                reply = (await self._door.take(piece.octets, envelope, origin, settings)).reply
            else:
                reply = await arrival.end(piece.octets)
                self._arrival = None
            self._answer(reply)
            return not (self._in and self._ahead())
        assert arrival is not None
        await arrival.take(piece.octets)
        if arrival.size > 3 * settings.limits.message_size:
            self._answer(TOO_BIG)
            return False
        if piece.ends:
            self._contents, self._look, self._reading = None, self._commands, False
            self._out.append(self._reply)
        return True

    def _answer(self, reply: bytes) -> None:
        """Reply to a content; commands follow."""
        self._contents, self._look, self._reading = None, self._commands, False
        self._pace.ended()
        self._release()
        self._out.append(reply)
        if reply[0] == 0x32:
            self._conversation.errors = 0
        else:
            self._refused("DATA", reply, self._sender)

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
            verdict = Refusal(TROUBLE)
        reply, action = conversation.judged(verdict)
        self._out.append(reply)
        return action is not Action.CLOSE

    async def _protect(self) -> bool:
        """Begin TLS after STARTTLS; what came behind the command was said by nobody knows whom."""
        self.flush()
        try:
            await self._drained()
        except ConnectionError:
            return False
        if self._in:
            self._out.append(NOT_PLAIN)
            return False
        if self._house.certificates is None:  # a reload took them away
            self._out.append(NO_TLS)
            return True
        self._out.append(self._reply)
        self.flush()
        return await self._begin_tls(b"")

    async def _begin_tls(self, begun: bytes) -> bool:
        """Shake hands; all that was said before is forgotten (RFC 3207 §4.2)."""
        shown, auth = self._house.certificates, self._house.authority
        if (found := await self._shake_hands(begun)) is None or shown is None:
            return False
        before = self._conversation.client.authentication
        self._conversation.protected(
            describe(found),
            certified=shown.trusts(found),
            authentication=(
                None if auth is None or before is None else auth.authentication(failures=before.failures)
            ),
        )
        return True

    def _cut_off(self, reply: bytes) -> None:
        if self._turn is not None and not self._turn.done():
            if self._contents is not None or self._arrival is not None:
                self._refused("DATA", reply, self._conversation.transaction.sender or b"")
            else:
                self._house.told(self._house.crowd.idle(self.peer, self.loop.time()))
        super()._cut_off(reply)

    # ---- events ----

    def _tell(self, line: bytes, reply: bytes) -> None:
        verb = line[:4].upper()
        if verb in {b"MAIL", b"RCPT", b"DATA", b"BDAT"}:
            sender = self._conversation.transaction.sender or b""
            said = line[5:] if verb in {b"MAIL", b"RCPT"} else b""
            if verb == b"MAIL":
                sender, said = said, b""
            self._refused(verb.decode("ascii"), reply, sender, said)

    def _refused(self, command: str, reply: bytes, sender: bytes, recipient: bytes = b"") -> None:
        user = self._conversation.client.user
        self._door.emit(
            Refused(
                time=self._now(),
                client=self.peer,
                command=command,
                reply=reply.decode("ascii", "backslashreplace").rstrip(),
                sender=_shown(sender),
                recipient=_shown(recipient),
                user="" if user is None else printable(user.name),
            )
        )


def _shown(octets: bytes) -> str:
    """Return what a client said, for an event."""
    return octets[:SHOWN].decode("utf-8", "backslashreplace").strip()
