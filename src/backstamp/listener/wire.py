"""A client's connection: aiosmtpd's SMTP, with the reading and the timing ours.

The only module that names aiosmtpd. What stays its: the protocol's life and flow control. What is
ours and why (line by line reading is four fifths of its time): what came is looked at in the callback
that brought it, and the coroutine runs only for what has to be waited for. Replies are gathered and
written before the loop waits again (RFC 2920 §3.2); one timer is looked at when it fires instead of
being set anew by every command. Memory is bounded, and a client that stalls anywhere is cut off in time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar, cast

from aiosmtpd.smtp import SMTP

from backstamp.listener import admission
from backstamp.listener.answer import Action
from backstamp.listener.house import House
from backstamp.listener.pace import Pace
from backstamp.listener.upgrade import HandshakeError, upgrade

T = TypeVar("T")

BUFFER: Final = 256 * 1024
"""Octets kept while something is waited for, from which on no more are read from the socket."""

LINGER: Final = 5.0
"""Seconds a client that is sent away has to read the last replies."""

HANDSHAKE: Final = 30.0
"""Seconds for all that comes before the greeting, and for a handshake."""


class _Handler:
    """aiosmtpd wants a handler; it gets one without hooks."""

    def __dir__(self) -> Iterable[str]:
        return ()


_HANDLER = _Handler()


class Wire(SMTP):
    """One connection. A subclass says what looks at octets (`_look`) and what is done (`_handle_client`)."""

    def __init__(
        self,
        house: House,
        *,
        opened: Callable[[Any], None],
        left: Callable[[Any], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # aiosmtpd keeps these limits per class and changes them per session.
        self.command_size_limits = {}
        self._house = house
        self._settings = settings = house.settings
        self._opened = opened
        self._left = left
        self._in = bytearray()
        self._out: list[bytes] = []
        self._look: Callable[[], Action | None] = self._anything
        """What looks at octets that came."""
        self._reading = False
        """They are a content's: a piece has to be whole before anything is done with it."""
        self._turn: asyncio.Future[Action] | None = None
        """There while it is the client's turn: ends with what has to be waited for next."""
        self._stopped = False
        """Nothing is read from the socket."""
        self._resting = False
        """It is not read for a moment, so that others have theirs."""
        self._yielded = False
        """What came is looked at again in the loop's next turn."""
        self._shaking = False
        """A handshake for TLS is under way."""
        self.channel: asyncio.Transport | None = None
        """aiosmtpd's `transport`, as what it is; None before and after the connection."""
        self._choked = False
        """The client does not read what it is told."""
        self._busy = False
        """The time is the relay's own: what came is with the queue, and what follows is kept."""
        self._patient = False
        """What is waited for is for the client alone, and for nothing once it is gone."""
        self._eof = False
        self._over = False
        self._expires = 0.0
        self._fires = 0.0
        """When the timer does."""
        self._pace = Pace(settings.limits, loop.time())
        self.peer = ""
        """Its address."""
        self._stage = ""
        """What comes before its commands: PROXY, TLS or STARTTLS; empty once they are heard."""
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
        self.channel = cast(asyncio.Transport, transport)
        self.peer = admission.peer(transport.get_extra_info("peername"), local=self._settings.local)
        super().connection_made(transport)
        self._opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone; a message that is being written is written, and told as accepted."""
        # aiosmtpd cancels its handler now. The message may be on the disk already: the handler
        # ends by itself, and something else is cancelled in its place.
        if self._patient and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        self._handler_coroutine = cast(Any, self.loop.create_future())
        super().connection_lost(error)
        self.channel = None
        self._wake(Action.CLOSE)
        if self._over:
            self._left(self)

    def eof_received(self) -> bool | None:
        """The client sends no more; it may still read the replies to what it sent."""
        self._eof = True
        self._pump()
        return bool(asyncio.StreamReaderProtocol.eof_received(self))

    def _drop(self) -> None:
        """Close without a word."""
        if self.channel is not None:
            self.channel.abort()

    def _leave(self) -> None:
        """Write what is to be said and close; what cannot be written soon is dropped."""
        self.flush()
        if self.channel is None:
            return
        self.channel.close()
        self._expires = self.loop.time() + LINGER
        self._set_timer(self._expires)

    # ---- time ----

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._set_timer(self._pace.deadline(self.loop.time()))

    def _set_timer(self, when: float) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._fires = when
        self._timeout_handle = self.loop.call_at(when, self._timeout_cb)

    def _hasten(self, now: float) -> None:
        """Set the timer anew where what is waited for now has less time than what was before."""
        deadline = self._pace.deadline(now)
        if deadline < self._fires:
            self._set_timer(deadline)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        transport = self.channel
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
            late = None if self._shaking or self._busy else self._pace.late(now)
            if late is not None:
                self._cut_off(late)
            deadline = max(self._pace.deadline(now), now + 1.0)
        self._set_timer(deadline)

    def _cut_off(self, reply: bytes) -> None:
        """Send a client away whose time is over: once, whoever finds it late first."""
        if self._turn is not None and not self._turn.done():
            self._out.append(reply)
            self._wake(Action.CLOSE)

    # ---- octets in, replies out ----

    async def _clients_turn(self) -> Action:
        """Let the client speak; return what has to be done for it that takes a wait."""
        if self.channel is None:
            return Action.CLOSE
        turn = self._turn = self.loop.create_future()
        now = self.loop.time()
        if not self._reading:
            self._pace.replied(now)
        else:
            self._pace.resume(now)
        self._hasten(now)
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
        if self._reading and self._turn is not None:
            late = self._pace.took(len(data), self.loop.time())
            if late is not None:
                self._cut_off(late)
        self._pump()
        if len(self._in) > BUFFER:
            self._steer()

    def pause_writing(self) -> None:
        """The client does not read what it is told."""
        super().pause_writing()
        self._choked = True

    def resume_writing(self) -> None:
        """The client has taken enough of the replies."""
        super().resume_writing()
        self._choked = False
        self._pump()

    def _pump(self) -> None:
        """Answer what came, up to where more has to come or something has to be waited for."""
        turn = self._turn
        if turn is None or turn.done() or self._yielded or self._busy:
            return
        try:
            action = self._look()
        except Exception as error:
            self._fail(error)
            return
        if self._out:
            self._house.replies.add(self)
            if not (self._reading or self._busy):
                # The next command has a time of its own (RFC 5321 §4.5.3.2: by command, not by transaction).
                self._pace.replied(self.loop.time())
        if action is not None:
            turn.set_result(action)
        elif self._stopped:
            self._steer()

    def _steer(self) -> None:
        """Read no more from a client that is ahead of what is done for it; go on once it is not."""
        # Of a content more is taken: a piece has to be whole before anything is done with it. A turn that
        # has ended counts as ended: the loop may read dozens of times before the coroutine runs.
        taking = self._reading and self._turn is not None and not self._turn.done()
        ahead = self._resting or (len(self._in) > BUFFER and not taking)
        if ahead != self._stopped and (channel := self.channel) is not None:
            self._stopped = ahead
            channel.pause_reading() if ahead else channel.resume_reading()

    def _rest(self, seconds: float) -> None:
        """Read nothing for a moment: the loop reads a busy socket dozens of times in a turn."""
        if not self._resting:
            self._resting = True
            self._steer()
            self.loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._steer()

    def _anything(self) -> Action | None:
        """Wait for the first octets."""
        return Action.NEXT if self._in else Action.CLOSE if self._eof else None

    def _later(self) -> None:
        """Look again in the loop's next turn: others have theirs before."""
        self._pace.replied(self.loop.time())
        self._yielded = True
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._yielded = False
        self._pump()

    def _wake(self, action: Action) -> None:
        """End the client's turn."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(action)

    def _fail(self, error: Exception) -> None:
        """Have the coroutine tell of a bug."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(error)

    def flush(self) -> None:
        """Write the replies that were gathered."""
        out, channel = self._out, self.channel
        if out:
            if channel is not None and not channel.is_closing():
                channel.write(b"".join(out))
            out.clear()

    async def _shake_hands(self, begun: bytes) -> Any:
        """Begin TLS; return what it was begun with (an SSLObject), None where the connection went."""
        shown = self._house.certificates
        if self.channel is None or shown is None:
            return None
        me = cast(Any, self)
        self._shaking = me._over_ssl = True
        self._stopped = False
        try:
            made = await upgrade(self.channel, self, shown.context(), seconds=HANDSHAKE, begun=begun)
        except HandshakeError as error:
            self._unheard(str(error))
            self._gone()
            return None
        except asyncio.CancelledError:
            self._gone()
            raise
        finally:
            self._shaking = False
        self.channel = made
        self.transport = me._transport = me._reader._transport = made
        return made.get_extra_info("ssl_object")

    def _unheard(self, reason: str) -> None:
        """Tell that this client cannot be heard."""
        self._house.unheard(self.peer, self._stage, reason)

    async def _patiently(self, wait: Awaitable[T]) -> T:
        """Wait for what is for the client alone: not once it is gone."""
        self._patient = True
        try:
            return await wait
        finally:
            self._patient = False

    async def _drained(self) -> None:
        """Wait until the client has taken enough of the replies."""
        await cast(Any, self)._drain_helper()

    def _gone(self) -> None:
        """The connection went in the handshake; neither loop tells so surely."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self.transport = self.channel = None
