"""One SMTP transaction as a machine: replies in, octets out. No waiting, no sockets.

It is driven by whoever reads the socket: each complete reply goes to `reply`, and what must
be written next comes out of the `write` it was given, in the same turn. So the `D` of a
delivered recipient is enqueued by the very callback that parsed the final 2yz (Q4), and
between 354 and the content no task has to be woken. Where the peer offers PIPELINING, MAIL,
every RCPT and DATA go out at once (RFC 2920); otherwise one by one, and DATA only if a
recipient was taken.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from backstamp.mail.content import Content, size
from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.smtp.data import stuff

AT_ONCE = 256 * 1024
"""Octets of content up to which it is written in one piece; more is written with back-pressure."""

_CONTROLS: Final = bytes([*range(32), 127])

Settled = Callable[[Reply, Sequence[int]], None]
"""Called with the final 2yz and the indices of the recipients it is for, in the turn that parsed it."""


Dotting = Callable[[Sequence[int]], Awaitable[None] | None]
"""Called with the indices of the recipients taken so far when the final dot is about to go out.

None: it may go out now. An awaitable: it may when that has ended; an exception: it must not.
"""


def at_once(_: Sequence[int]) -> None:
    """Let the dot go out."""


class Transaction(msgspec.Struct, frozen=True):
    """What to send. `parameters` belong to MAIL; SIZE is added where the peer offers it.

    Parameters, of MAIL and of each RCPT, go out as given: they are meant for this very peer.
    """

    sender: bytes
    recipients: tuple[Recipient, ...]
    content: Content
    parameters: bytes = b""


class Result(msgspec.Struct):
    """What came back; None where no reply came.

    `in_doubt`: the final dot may be out, some recipient had been taken, and no reply came.
    """

    recipients: list[Reply | None]
    mail: Reply | None = None
    data: Reply | None = None
    final: Reply | None = None
    fault: Fault | None = None
    in_doubt: bool = False


_Handler = Callable[["Machine", Reply], None]


class Machine:
    """Runs one transaction."""

    def __init__(
        self,
        transaction: Transaction,
        *,
        write: Callable[[bytes], None],
        settled: Settled,
        finished: Callable[["Machine"], None],
        large: Callable[[], None],
        pipelining: bool,
        size: bool,
        reset: bool,
        dotting: Dotting = at_once,
    ) -> None:
        self.result = Result([None] * len(transaction.recipients))
        self.phase = Phase.MAIL
        self.done = False
        self.clean = False
        """The peer's transaction is over: the next MAIL needs no RSET."""
        self.stream: Content | None = None
        """Content that waits: after `large` was called, whoever drives writes it, stuffed, then the dot."""
        self.error: Exception | None = None
        """What `dotting` or `settled` raised: whoever drives must not swallow it."""
        self._transaction = transaction
        self._write = write
        self._dotting = dotting
        self._settled = settled
        self._finished = finished
        self._large = large
        self._pipelining = pipelining
        self._size = size
        self._accepted: list[int] = []
        self._permit: Awaitable[None] | None = None
        self._waiting: deque[_Handler] = deque()
        self._plan(reset)

    def start(self) -> None:
        """Write the first command, or the whole group."""
        if self._pipelining:
            self._waiting.extend(self._handlers)
            self._write(b"".join(self._lines))
        else:
            self._next()

    def reply(self, reply: Reply) -> None:
        """Take the next reply."""
        if not self._waiting:
            self.broken("protocol", f"a reply nobody asked for: {reply}")
            return
        self._waiting.popleft()(self, reply)
        if reply.code == 421 and not self.done:
            # RFC 5321 §3.8: the service is closing; what was not answered will not be.
            self._finish()

    def broken(self, problem: str, text: str) -> None:
        """The session ended, or nothing came in time."""
        if self.done:
            return
        self.result.fault = Fault(self.phase, problem, text)
        self.result.in_doubt = self.phase is Phase.FINAL and bool(self._accepted)
        self._finish()

    def permit(self) -> Awaitable[None] | None:
        """Ask when the final dot may go out behind a streamed content: now, or when what is returned ends."""
        return self._permit if self._permit is not None else self._dotting(self._accepted)

    def dot(self, end: bytes = b"") -> None:
        """Write the final dot behind a streamed content; `end` ends its last line where it did not."""
        self.stream = None
        self.phase = Phase.FINAL
        self._write(end + b".\r\n")

    # ---- commands ----

    def _plan(self, reset: bool) -> None:
        transaction = self._transaction
        parameters = transaction.parameters
        if self._size:
            parameters = b"SIZE=%d %b" % (size(transaction.content), parameters)
        line = b"MAIL FROM:<%b> %b" % (transaction.sender, parameters)
        lines = [line.rstrip(b" ") + b"\r\n"]
        for recipient in transaction.recipients:
            if recipient.parameters:
                lines.append(b"RCPT TO:<%b> %b\r\n" % (recipient.address, recipient.parameters))
            else:
                lines.append(b"RCPT TO:<%b>\r\n" % recipient.address)
        # One look at all of them: there must be none but the line ends.
        group = b"".join(lines)
        if len(group) - len(group.translate(None, _CONTROLS)) != 2 * len(lines):
            raise ValueError(f"control character in {_controlled(lines)!r}")
        self._lines = deque([*lines, b"DATA\r\n"])
        # Functions, not bound methods: those would keep this machine alive for the garbage collector.
        self._handlers: deque[_Handler] = deque([Machine._on_mail])
        self._handlers.extend([Machine._on_rcpt] * len(transaction.recipients))
        self._handlers.append(Machine._on_data)
        if reset:
            self._lines.appendleft(b"RSET\r\n")
            self._handlers.appendleft(Machine._on_reset)
        self._index = 0

    def _next(self) -> None:
        """Without PIPELINING: write the next command."""
        if self._pipelining:
            return
        if len(self._lines) == 1 and not self._accepted:
            self.phase = Phase.DATA
            self._finish()
            return
        self._waiting.append(self._handlers.popleft())
        self._write(self._lines.popleft())

    # ---- replies ----

    def _on_reset(self, reply: Reply) -> None:
        if reply.code == 421:
            # The session ends here: MAIL gets no other answer.
            self.result.mail = reply
            return
        self._next()

    def _on_mail(self, reply: Reply) -> None:
        self.result.mail = reply
        if reply.positive:
            self.phase = Phase.RCPT
            self._next()
        elif not self._pipelining:
            self._finish()

    def _on_rcpt(self, reply: Reply) -> None:
        index = self._index
        self._index += 1
        self.result.recipients[index] = reply
        if reply.positive and self.result.mail is not None and self.result.mail.positive:
            self._accepted.append(index)
        if self._index == len(self.result.recipients):
            self.phase = Phase.DATA
        self._next()

    def _on_data(self, reply: Reply) -> None:
        self.result.data = reply
        if reply.code != 354:
            self._finish()
            return
        self._waiting.append(Machine._on_final)
        if not self._accepted:
            # RFC 2920 §3.1: DATA was taken though nobody was; the dot ends it and counts for nobody.
            self.phase = Phase.FINAL
            self._write(b".\r\n")
            return
        content = self._transaction.content
        self.phase = Phase.CONTENT
        if isinstance(content, bytes) and len(content) <= AT_ONCE:
            try:
                self._permit = self._dotting(self._accepted)
            except Exception as error:
                self.error = error
                self._finish()
                return
            if self._permit is None:
                self.phase = Phase.FINAL
                self._write(stuff(content) + b".\r\n")
                return
        self.stream = content
        self._large()

    def _on_final(self, reply: Reply) -> None:
        if reply.positive and self.phase is not Phase.FINAL:
            # Nobody can have taken what is not all out: a broken peer's word for a delivery is none.
            self.broken("protocol", f"a reply before the end of the content: {reply}")
            return
        self.result.final = reply
        # A reply that came before the content was all out leaves the session in the middle of a line.
        self.clean = self.phase is Phase.FINAL
        if reply.positive and self._accepted:
            try:
                self._settled(reply, self._accepted)
            except Exception as error:
                self.error = error
        self._finish()

    def _finish(self) -> None:
        self.done = True
        self._finished(self)


def _controlled(lines: Sequence[bytes]) -> bytes:
    """Return the first line with a control character before its end."""
    return next(line for line in lines if line[:-2] != line[:-2].translate(None, _CONTROLS))
