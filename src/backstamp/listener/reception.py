"""The contents of a session's messages: room for them, their octets, the replies to them.

A small one comes in one piece and goes to the door whole; of a large one, and of one in chunks, each
piece goes on as it comes (`arrival`). What is held of the budget is given back whatever happens.
"""

import asyncio
from typing import Any, Final

from backstamp.listener.answer import Action
from backstamp.listener.arrival import Arrival
from backstamp.listener.budget import SPARE, Hold, share
from backstamp.listener.contents import Chunk, Contents, Dotted, Piece
from backstamp.listener.conversation import Conversation
from backstamp.listener.house import House
from backstamp.listener.intake import TOO_BIG
from backstamp.listener.origin import Verdict
from backstamp.listener.wire import Wire
from backstamp.telemetry.events import Refused
from backstamp.text import printable

ROOM: Final = 100.0
"""Seconds a content may wait for memory: its client waits two minutes for 354 (RFC 5321 §4.5.3.2.4)."""

SHOWN: Final = 320
"""Octets of what a client said that stand in an event: a path and parameters, at most."""

NO_ROOM: Final = b"452 4.3.1 Too much mail at once, try again later\r\n"
AHEAD: Final = b"421 4.7.0 Only who said EHLO may send commands ahead\r\n"


class Reception(Wire):
    """One client's contents. A subclass answers its commands."""

    def __init__(self, house: House, **what: Any) -> None:
        """Take what `Wire` takes."""
        super().__init__(house, **what)
        self._door = house.door
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
        self._handing = False
        """A content is being handed in: it may be answered at once."""
        self._gone_before: asyncio.Future[None] | None = None
        """There if the client went before its content was answered: ends when it is."""
        self._conversation: Conversation

    def _commands(self) -> Action | None:
        """Answer command lines; return what has to be waited for, None where more has to come."""
        raise NotImplementedError

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
        if not self._in and not self._eof and self._conversation.transaction.chunk is None:
            return None  # who does not send ahead sends its content when it has read the reply
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
            if piece.last and self._arrival is None:
                self._hand_in(piece.octets)
                return None
            self._piece = piece
            return Action.TAKE
        return Action.CLOSE if self._eof else None

    # ---- a content that came whole: no task waits for its outcome ----

    def _hand_in(self, octets: bytes) -> None:
        """Hand a content to the door; what follows it is looked at once it has its reply."""
        transaction = self._conversation.transaction
        self._sender = transaction.sender or b""
        envelope, origin = transaction.envelope(), self._conversation.client.origin(utf8=transaction.utf8)
        transaction.reset()
        self._pace.pause(self.loop.time())
        self._reading, self._busy, self._handing = False, True, True
        self._door.hand_in(octets, envelope, origin, self._settings, self._taken)
        self._handing = False

    def _taken(self, verdict: Verdict) -> None:
        """Reply to the content that was handed in."""
        try:
            self._busy = False
            self._answer(verdict.reply)
            if self._gone_before is not None:
                self._gone_before.set_result(None)
            elif self._in and self._ahead():
                self._wake(Action.CLOSE)
            elif self._handing:
                self._later()  # whoever sends what is refused, one behind the other, has no loop of its own
                self._hasten(self.loop.time())
            else:
                self._pump()
                self._hasten(self.loop.time())
                # Not at the end of the turn, as other replies: the books are next.
                self.flush()
        except Exception as error:  # a bug of one session; whoever calls has others to tell
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._gone_before is None:
            super()._fail(error)
        elif not self._gone_before.done():
            self._gone_before.set_exception(error)

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

    async def _answered(self) -> None:
        """Wait until the content that was handed in is answered; of who went it may be durable, too."""
        if self._busy:
            self._gone_before = self.loop.create_future()
            await self._gone_before

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
            arrival = self._arrival = Arrival(self._door, envelope, origin, settings)
        if piece.last:
            transaction.reset()
            reply = await arrival.end(piece.octets)
            self._arrival = None
            self._answer(reply)
            return not (self._in and self._ahead())
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

    # ---- events ----

    def _refused(self, command: str, reply: bytes, sender: bytes, recipient: bytes = b"") -> None:
        user = self._conversation.client.user
        self._door.emit(
            Refused(
                time=int(self._door.clock.wall() * 1e6),
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
