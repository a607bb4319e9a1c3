"""A client's session: who is there, its commands, and what has to be waited for.

What can be answered at once is answered by `Conversation` in the callback that brought the octets
(`wire`); the coroutine runs for a write and for memory (`reception`), for a password and a handshake.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from backstamp.listener import admission
from backstamp.listener.answer import Action
from backstamp.listener.authentication import TROUBLE, Refusal
from backstamp.listener.conversation import Conversation
from backstamp.listener.house import House, Visitor
from backstamp.listener.reception import SHOWN, Reception
from backstamp.listener.wire import HANDSHAKE
from backstamp.net.server_tls import describe
from backstamp.smtp import proxy

TURN: Final = 200
"""Commands of one client that are answered before others have their turn."""

REST: Final = 0.01
"""Seconds nothing is read from a client after a part of a line that is too long: nobody waits for it."""

BROKEN: Final = b"421 4.3.0 Local error, closing\r\n"
NO_TLS: Final = b"454 4.7.0 TLS is not available now\r\n"
LATE: Final = "it did not end in time"
NO_HEADER: Final = "no header of the PROXY protocol, or none that says who the client is"
CLOSING: Final = b"421 4.3.2 The relay is closing\r\n"
NOT_PLAIN: Final = b"421 4.7.0 Nothing may follow STARTTLS\r\n"


class Session(Reception):
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
        self._admit = admit
        self._scanned = 0
        """Octets at the front of what came in which no line ends."""
        self._overlong = b""
        """The begin of a line that is too long; what comes up to the next line end belongs to it."""
        self._proxied_tls = False
        self._ending = False

    def end(self) -> None:
        """Ask the client to leave: at once if nothing is under way, else after its message."""
        self._ending = True
        if self._shaking:
            assert self._handler_coroutine is not None
            self._handler_coroutine.cancel()
        elif self._turn is None or self._turn.done():
            pass  # something is waited for, and answered first; then `_commands` sends the client away
        elif self._contents is None and self._arrival is None:
            self._out.append(CLOSING)
            self._wake(Action.CLOSE)

    def dismiss(self) -> None:
        """Send the client away in the middle of its message, in words where that can be (RFC 5321 §3.8)."""
        if self._turn is not None and not (self._turn.done() or self._shaking or self._busy):
            self._out.append(CLOSING)
            self._wake(Action.CLOSE)

    async def _handle_client(self) -> None:
        try:
            if await self._arrived():
                await self._converse()
                await self._answered()
        except asyncio.CancelledError:
            pass  # the relay closes while hands are shaken
        except Exception as error:  # a bug ends one session, in words, and not silently
            self._out.append(BROKEN)
            self._door.alarm(f"a session broke: {error!r}", "the client was sent away")
        self._pace.pause(self.loop.time())
        if self._arrival is not None:
            await self._arrival.abandon()
        self._release()
        self._over = True
        if self.channel is None:
            self._left(self)
        else:
            self._leave()

    async def _arrived(self) -> bool:
        """Do what comes before the greeting, in its time; tell whether there is a client to greet."""
        try:
            async with asyncio.timeout(HANDSHAKE):
                return await self._arrive()
        except TimeoutError:
            self._unheard(LATE)
            return False

    async def _arrive(self) -> bool:
        """Find out who is there, have TLS where it comes first; tell whether there is a client to greet."""
        settings = self._settings
        # Who came by a socket file may relay, but from no network.
        if settings.proxies and not settings.local and admission.may_relay(self.peer, settings.proxies):
            self._look, self._stage = self._introduction, "PROXY"
            if await self._clients_turn() is Action.CLOSE:
                if self._in and not self._ending:
                    self._unheard(NO_HEADER)
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
            self._look, self._stage = self._anything, "TLS"
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
        if self._ending and self._arrival is None:
            out.append(CLOSING)
            return Action.CLOSE
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
            elif action is Action.CONTENT:
                return Action.CLOSE if octets and self._ahead() else self._begin()
            elif action is not Action.SKIP:
                return action
        self._later()
        return None

    # ---- what is waited for: each tells whether the session goes on ----

    async def _judge(self) -> bool:
        """Have a claim judged."""
        conversation, judge = self._conversation, self._house.authority
        assert judge is not None
        assert conversation.claim is not None
        try:
            verdict = await judge.check(conversation.claim, self.peer)
        except Exception as error:  # a bug must cost nobody an account: the client tries again
            self._door.alarm(f"judging a client broke: {error!r}", "it was told to try again")
            verdict = Refusal(TROUBLE)
        reply, action = conversation.judged(verdict)
        self._out.append(reply)
        return action is not Action.CLOSE

    async def _protect(self) -> bool:
        """Begin TLS after STARTTLS; what came behind the command was said by nobody knows whom."""
        self.flush()
        self._stage = "STARTTLS"
        try:
            async with asyncio.timeout(HANDSHAKE):
                await self._drained()
        except ConnectionError:
            return False
        except TimeoutError:
            self._unheard(LATE)
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
