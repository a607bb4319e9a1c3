"""The SMTP conversation as a machine: a command line in, a reply and what to do next out. Pure.

It keeps the state of RFC 5321 §4.1.4 (greeted, protected, authenticated; the transaction is in
`transaction`) and knows nothing of sockets, queues or time. Commands are raw octets with their line
end: only CRLF ends one. Every 2yz, 4yz and 5yz reply carries an enhanced status but those of
greeting, HELO and EHLO (RFC 2034 §4).
"""

import re
from collections.abc import Callable
from typing import Final

from backstamp.listener import authentication, sasl
from backstamp.listener.answer import (
    NO_ARGUMENT,
    NOT_NOW,
    OK,
    SYNTAX,
    TOO_LONG,
    UNKNOWN,
    Action,
    Answer,
)
from backstamp.listener.authentication import Ask, Authentication, End, Judge, Refusal
from backstamp.listener.client import Client
from backstamp.listener.mechanisms import Claim
from backstamp.listener.settings import Auth, ListenerSettings
from backstamp.listener.transaction import NO_SIZE, Closed, Rates, Refuse, Transaction
from backstamp.policy.user import User
from backstamp.smtp import extensions

ERRORS: Final = 20
"""Refused commands after which a client is sent away; a message that is taken clears the count."""

_NAME: Final = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[[A-Za-z0-9:.]{2,60}\]")
_SHOWN: Final = 200
"""Octets of a client's name in the reply to EHLO: a line has 512 at most."""

_UNTOLD: Final = re.compile(rb"[\x00-\x1f\x7f]")
_ADDRESSED: Final = frozenset({b"MAIL", b"RCPT"})
_FOREIGN: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS"})
_AUTH_LINE: Final = len(b"AUTH OAUTHBEARER \r\n") + sasl.LONGEST_LINE

READY: Final = b"220 2.0.0 Ready to start TLS\r\n"
NO_FOREIGNERS: Final = b"421 4.7.0 This is a mail server\r\n"
NO_CHUNKS: Final = b"421 4.7.0 BDAT is for who said EHLO\r\n"
TOO_MANY: Final = b"421 4.7.0 Too many errors\r\n"


class Conversation:
    """One client's session state."""

    def __init__(
        self,
        settings: ListenerSettings,
        peer: str,
        refuse: Refuse = lambda *_: None,
        *,
        wall: Callable[[], float] | None = None,
        authentication: Authentication | None = None,
        rates: Rates | None = None,
        closed: Closed = lambda: None,
        proxied_tls: bool = False,
    ) -> None:
        self._settings = settings
        self._wall = wall or float
        self.client = Client(settings, peer, authentication, proxied_tls=proxied_tls)
        self.transaction = Transaction(settings, self.client, refuse, wall=wall, rates=rates, closed=closed)
        self.errors = 0
        self.claim: Claim | None = None
        """What is to be judged."""
        self._asking = False
        """The next line answers a challenge."""
        transaction = self.transaction
        self._verbs: dict[bytes, Callable[[bytes], Answer]] = {
            b"EHLO": self._ehlo,
            b"HELO": self._helo,
            b"MAIL": transaction.mail,
            b"RCPT": transaction.rcpt,
            b"DATA": transaction.data,
            b"BDAT": self._bdat,
            b"RSET": self._rset,
            b"NOOP": self._noop,
            b"QUIT": self._quit,
            b"VRFY": self._vrfy,
            b"HELP": self._help,
            b"EXPN": self._expn,
        }
        if settings.tls.mode == "starttls":
            self._verbs[b"STARTTLS"] = self._starttls
        if authentication is not None and settings.auth is not Auth.OFF:
            self._verbs[b"AUTH"] = self._auth
        length = settings.limits.command_length
        self.longest = max(length, _AUTH_LINE) if b"AUTH" in self._verbs else length
        """Octets of the longest line that is looked at."""

    @property
    def greeting(self) -> bytes:
        """The first thing a client reads."""
        return f"220 {self._settings.hostname} ESMTP Backstamp\r\n".encode()

    def command(self, line: bytes) -> Answer:
        """Answer one line."""
        body = line[:-2]
        if self._asking:
            assert self.client.authentication is not None
            if not line.endswith(b"\r\n"):
                return self.too_long(line)
            return self._step(self.client.authentication.line(body))
        if not line.endswith(b"\r\n") or _UNTOLD.search(body):
            return self._unread(line)
        verb, _, argument = body.partition(b" ")
        verb = verb.upper()
        if len(line) > self._settings.limits.command_length and verb != b"AUTH":
            return self._unread(line, TOO_LONG)
        handler = self._verbs.get(verb)
        if handler is not None:
            if not argument.isascii() and verb not in _ADDRESSED:
                return self._unread(line)
            answer = handler(argument.strip(b" "))
            if answer[0] < b"4" or (verb == b"RCPT" and self.transaction.forgiven()):
                return answer
            return self._refuse(*answer)
        if verb in _FOREIGN:
            # Not a mail client: what follows could be commands smuggled in a web form.
            return NO_FOREIGNERS, Action.CLOSE
        return self._refuse(UNKNOWN)

    def _unread(self, line: bytes, reply: bytes = SYNTAX) -> Answer:
        """Refuse what is no command line; behind a BDAT nobody knows then where the next one begins."""
        if line[:4].upper() == b"BDAT":
            return NO_SIZE, Action.CLOSE
        return self._refuse(reply)

    def too_long(self, line: bytes) -> Answer:
        """Answer a line longer than allowed, of which at least the begin is given."""
        if self._asking:
            assert self.client.authentication is not None
            return self._step(self.client.authentication.too_long())
        return self._unread(line, TOO_LONG)

    def judged(self, verdict: User | Refusal) -> Answer:
        """Take what became of the claim."""
        assert self.client.authentication is not None
        self.claim = None
        return self._step(self.client.authentication.judged(verdict))

    def protected(self, tls: str, *, certified: bool, authentication: Authentication | None) -> None:
        """Begin anew over TLS: what was said before was said by nobody knows whom (RFC 3207 §4.2)."""
        client = self.client
        client.tls, client.certified, client.authentication = tls, certified, authentication
        client.forget()
        self.transaction.reset()

    def _refuse(self, reply: bytes, action: Action = Action.NEXT) -> Answer:
        self.errors += 1
        if self.errors > ERRORS and action is not Action.CLOSE:
            return TOO_MANY, Action.CLOSE
        return reply, action

    # ---- who is there ----

    def _ehlo(self, argument: bytes) -> Answer:
        if (refusal := self._greet(argument)) is not None:
            return refusal
        client, settings = self.client, self._settings
        client.extended = True
        offers = extensions.keywords(
            settings.limits.message_size,
            hold=self.transaction.hold,
            now=self._wall(),
            starttls=settings.tls.mode == "starttls" and not client.tls,
            auth=client.authentication.keyword if client.authentication and client.offered_auth else "",
            requiretls=bool(client.tls),
        )
        lines = [f"{settings.hostname} greets {client.helo[:_SHOWN]}", *offers]
        text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
        return text.encode("ascii"), Action.NEXT

    def _helo(self, argument: bytes) -> Answer:
        if (refusal := self._greet(argument)) is not None:
            return refusal
        self.client.extended = False
        return f"250 {self._settings.hostname}\r\n".encode(), Action.NEXT

    def _greet(self, argument: bytes) -> Answer | None:
        """Take a client's name; it stands in the Received line, so only a name or literal will do."""
        if _NAME.fullmatch(argument) is None:
            return b"501 5.5.4 A host name or address literal is wanted\r\n", Action.NEXT
        self.client.helo = argument.decode("ascii")
        self.transaction.reset()
        return None

    def _starttls(self, argument: bytes) -> Answer:
        if argument:
            return NO_ARGUMENT, Action.NEXT
        return (NOT_NOW, Action.NEXT) if self.client.tls else (READY, Action.PROTECT)

    def _auth(self, argument: bytes) -> Answer:
        client = self.client
        if not client.extended or self.transaction.sender is not None:
            return NOT_NOW, Action.NEXT
        if not client.offered_auth:
            return authentication.NEEDS_TLS, Action.NEXT
        assert client.authentication is not None
        return self._step(client.authentication.command(argument))

    def _step(self, step: Ask | Judge | End) -> Answer:
        self._asking = isinstance(step, Ask)
        match step:
            case Ask(reply):
                return reply, Action.NEXT
            case Judge(claim):
                self.claim = claim
                return b"", Action.JUDGE
            case End(reply, close):
                return reply, Action.CLOSE if close else Action.NEXT

    # ---- the rest ----

    def _bdat(self, argument: bytes) -> Answer:
        if not self.client.extended and self.client.helo:
            return NO_CHUNKS, Action.CLOSE  # its octets would be commands
        return self.transaction.bdat(argument)

    def _rset(self, argument: bytes) -> Answer:
        if argument:
            return NO_ARGUMENT, Action.NEXT
        self.transaction.reset()
        return OK, Action.NEXT

    def _noop(self, _: bytes) -> Answer:
        return OK, Action.NEXT

    def _quit(self, argument: bytes) -> Answer:
        if argument:
            return NO_ARGUMENT, Action.NEXT
        return b"221 2.0.0 Bye\r\n", Action.CLOSE

    def _vrfy(self, argument: bytes) -> Answer:
        if not argument:
            return b"501 5.5.4 Whom?\r\n", Action.NEXT
        return b"252 2.5.0 Send some mail, the attempt will tell\r\n", Action.NEXT

    def _help(self, _: bytes) -> Answer:
        return b"214 2.0.0 RFC 5321; MAIL, RCPT, DATA, BDAT, RSET, NOOP, VRFY, QUIT\r\n", Action.NEXT

    def _expn(self, _: bytes) -> Answer:
        return b"502 5.5.1 Not implemented\r\n", Action.NEXT
