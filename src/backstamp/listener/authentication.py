"""AUTH of one session as a machine: the command's argument, then lines, in; what to send out. Pure.

It begins exchanges, frames them, counts failures, and knows who the client is in the end. The
session reads lines and has claims judged; everything that is said stands here (RFC 4954 §4,
§6). Whether AUTH is allowed at all now (TLS, no transaction under way) the conversation knows.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from backstamp.listener import mechanisms, offers, sasl
from backstamp.listener.mechanisms import Challenge, Check, Claim, Exchange, Failed, Verifier
from backstamp.policy.user import User

SUCCESS: Final = b"235 2.7.0 Authentication succeeded\r\n"
ALREADY: Final = b"503 5.5.1 Already authenticated\r\n"
SYNTAX: Final = b"501 5.5.4 Syntax: AUTH mechanism [initial-response]\r\n"
UNKNOWN: Final = b"504 5.5.4 Authentication mechanism not supported\r\n"
NEEDS_TLS: Final = b"538 5.7.11 Encryption is required for authentication\r\n"
REQUIRED: Final = b"530 5.7.0 Authentication required\r\n"
NOT_YOURS: Final = b"550 5.7.1 This sender address is not yours\r\n"
TROUBLE: Final = b"454 4.7.0 Temporary authentication failure\r\n"
TOO_MANY: Final = b"421 4.7.0 Too many failed authentications\r\n"

FAILURES: Final = 3
"""Refused claims and broken exchanges after which a client is sent away."""


class Ask(msgspec.Struct, frozen=True):
    """Send the reply, read one more line, hand it to `line`."""

    reply: bytes


class Judge(msgspec.Struct, frozen=True):
    """Have the claim judged, hand what comes of it to `judged`."""

    claim: Claim


class End(msgspec.Struct, frozen=True):
    """Send the reply; the next line is a command, or (`close`) there is none."""

    reply: bytes
    close: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """A claim that was not found true, or could not be judged; the reply is a whole line."""

    reply: bytes


Next = Ask | Judge | End


class Authentication:
    """What one session has of AUTH. Made anew after STARTTLS (RFC 3207 §4.2), but for `failures`."""

    def __init__(
        self, offered: Sequence[str], *, verifier: Verifier, nonce: Callable[[], str], failures: int = 0
    ) -> None:
        self._offered = tuple(offered)
        self._verifier = verifier
        self._nonce = nonce
        self._exchange: Exchange | None = None
        self._waiting: User | None = None
        self.failures = failures
        """How often it went wrong on this connection."""
        self.user: User | None = None
        """Who the client is, once it is known."""

    @property
    def keyword(self) -> str:
        """The line for EHLO, empty where nothing is offered."""
        return offers.keyword(self._offered)

    def command(self, argument: bytes) -> Next:
        """Take the argument of an AUTH command."""
        if self.user is not None:
            return End(ALREADY)
        name, space, rest = argument.partition(b" ")
        if not name or (space and (not rest or b" " in rest)):
            return End(SYNTAX)
        mechanism = name.decode("ascii", "replace").upper()
        if mechanism not in self._offered:
            return End(UNKNOWN)
        try:
            initial = sasl.initial(rest) if rest else None
        except sasl.FramingError as error:
            return self._failed(error.reply)
        self._exchange, step = mechanisms.start(
            mechanism, initial, verifier=self._verifier, nonce=self._nonce
        )
        return self._next(step)

    def line(self, line: bytes) -> Next:
        """Take a line of the exchange, without its CRLF."""
        assert self._exchange is not None
        try:
            response = sasl.response(line)
        except sasl.FramingError as error:
            return self._failed(error.reply)
        if self._waiting is not None:
            return self._failed(mechanisms.MALFORMED) if response else self._done(self._waiting)
        return self._next(self._exchange.step(response))

    def too_long(self) -> End:
        """Answer a line longer than `sasl.LONGEST_LINE`, which was read and dropped."""
        return self._failed(sasl.TOO_LONG)

    def judged(self, verdict: User | Refusal) -> Ask | End:
        """Take what became of the claim."""
        assert self._exchange is not None
        if isinstance(verdict, User):
            text = self._exchange.accepted()
            if text is None:
                return self._done(verdict)
            # RFC 4954 §4: it goes out as one more challenge, and is acknowledged by an empty line.
            self._waiting = verdict
            return Ask(sasl.challenge(text))
        step = self._exchange.refused(verdict.reply)
        return Ask(sasl.challenge(step.text)) if isinstance(step, Challenge) else self._failed(step.reply)

    def _next(self, step: Challenge | Check | Failed) -> Next:
        match step:
            case Challenge(text):
                return Ask(sasl.challenge(text))
            case Check(claim):
                return Judge(claim)
            case Failed(reply):
                return self._failed(reply)

    def _done(self, user: User) -> End:
        self._exchange = self._waiting = None
        self.user = user
        return End(SUCCESS)

    def _failed(self, reply: bytes) -> End:
        self._exchange = self._waiting = None
        # A temporary refusal is the relay's trouble; the client did nothing wrong.
        self.failures += not reply.startswith(b"4")
        return End(TOO_MANY, close=True) if self.failures >= FAILURES else End(reply)
