"""The SMTP conversation as a machine: a command line in, a reply and what to do next out. Pure.

It keeps the state of RFC 5321 §4.1.4 (greeted, sender, recipients) and knows nothing of
sockets, queues or time. Commands are raw octets with their line end: only CRLF ends one.
Every 2yz, 4yz and 5yz reply carries an enhanced status but those of greeting, HELO and
EHLO (RFC 2034 §4).
"""

import enum
import re
from collections.abc import Callable
from typing import Final

from backstamp.listener import admission
from backstamp.listener.origin import Origin
from backstamp.listener.settings import ListenerSettings
from backstamp.mail.address import AddressError, parse_path
from backstamp.mail.envelope import Envelope, Recipient, flow, ordered, parameter
from backstamp.smtp import extensions, parameters
from backstamp.smtp.parameters import ParameterError

ERRORS: Final = 20
"""Refused commands after which a client is sent away; a message that is taken clears the count."""

OVERSHOOT: Final = 1000
"""Refused recipients of one message that are no errors (Postfix: smtpd_recipient_overshoot_limit)."""

_NAME: Final = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[[A-Za-z0-9:.]{2,60}\]")
_UNTOLD: Final = re.compile(rb"[\x00-\x1f\x7f]")
_ADDRESSED: Final = frozenset({b"MAIL", b"RCPT"})
_POSTMASTER: Final = b"<postmaster>"
_FOREIGN: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS"})

OK: Final = b"250 2.0.0 Ok\r\n"
SYNTAX: Final = b"500 5.5.2 Syntax error: a command is one line of ASCII ended by CRLF\r\n"
TOO_LONG: Final = b"500 5.5.2 Command line too long\r\n"
UNKNOWN: Final = b"500 5.5.2 Command not known\r\n"
NOT_NOW: Final = b"503 5.5.1 Bad sequence of commands\r\n"
NO_ARGUMENT: Final = b"501 5.5.4 No argument is allowed\r\n"
NEEDS_UTF8: Final = b"553 5.6.7 The address needs SMTPUTF8\r\n"
NEEDS_EHLO: Final = b"555 5.5.4 Parameters need EHLO\r\n"
GO_AHEAD: Final = b"354 End data with <CR><LF>.<CR><LF>\r\n"


class Action(enum.Enum):
    """What the session does after sending the reply."""

    NEXT = "read the next command"
    CONTENT = "read a content"
    CLOSE = "close the connection"


Answer = tuple[bytes, Action]

Refuse = Callable[[bytes, bytes], bytes | None]
"""From a recipient and the tenant the mail is of to the reply that refuses it, None if it is taken."""


class Conversation:
    """One client's session state."""

    def __init__(
        self,
        settings: ListenerSettings,
        peer: str,
        refuse: Refuse = lambda *_: None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        # RFC 4865 is for submission; without a clock nothing can be held until a time.
        self._wall = wall or float
        self._hold = settings.future_release if settings.submission and wall is not None else 0.0
        self._settings = settings
        self._suppressed = refuse
        self._allowed = admission.may_relay(peer, settings.allow)
        self.errors = 0
        self.helo = ""
        self.extended = False
        self.sender: bytes | None = None
        self.recipients: list[Recipient] = []
        self.parameters = b""
        self.utf8 = False
        """Whether the transaction is internationalized (RFC 6531)."""
        self.chunk: tuple[int, bool] | None = None
        """Octets of the BDAT whose content is to be read and whether it is the last; None: DATA."""
        self._refused = 0
        self._whose: bytes | None = None
        """The tenant of the transaction, once somebody asked."""
        self._tenant = b" TENANT=" + settings.tenant.encode("ascii") if settings.tenant else b""
        self._priority = b"" if settings.priority is None else b" MT-PRIORITY=%d" % settings.priority
        self._verbs: dict[bytes, Callable[[bytes], Answer]] = {
            b"EHLO": self._ehlo,
            b"HELO": self._helo,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
            b"NOOP": self._noop,
            b"QUIT": self._quit,
            b"VRFY": self._vrfy,
            b"HELP": self._help,
            b"EXPN": self._expn,
        }

    @property
    def greeting(self) -> bytes:
        """The first thing a client reads."""
        return f"220 {self._settings.hostname} ESMTP Backstamp\r\n".encode()

    def command(self, line: bytes) -> Answer:
        """Answer one command line."""
        body = line[:-2]
        if not line.endswith(b"\r\n") or _UNTOLD.search(body):
            return self._refuse(SYNTAX)
        verb, _, argument = body.partition(b" ")
        verb = verb.upper()
        handler = self._verbs.get(verb)
        if handler is not None:
            if not argument.isascii() and verb not in _ADDRESSED:
                return self._refuse(SYNTAX)
            answer = handler(argument.strip(b" "))
            if answer[0] < b"4" or (verb == b"RCPT" and self._forgiven()):
                return answer
            return self._refuse(answer[0])
        if verb in _FOREIGN:
            # Not a mail client: what follows could be commands smuggled in a web form.
            return b"421 4.7.0 This is a mail server\r\n", Action.CLOSE
        return self._refuse(UNKNOWN)

    def too_long(self) -> Answer:
        """Answer a command line longer than allowed."""
        return self._refuse(TOO_LONG)

    def origin(self, peer: str) -> Origin:
        """Return what a trace says of the client of the transaction under way (RFC 3848, RFC 6531 §4.3)."""
        protocol = "UTF8SMTP" if self.utf8 else "ESMTP" if self.extended else "SMTP"
        return Origin(peer, self.helo, protocol)

    def envelope(self) -> Envelope:
        """Return the transaction's envelope."""
        return Envelope(self.sender or b"", ordered(self.recipients), self.parameters)

    def ended(self) -> None:
        """Begin anew: the transaction has its reply."""
        self._reset()

    def _refuse(self, reply: bytes) -> Answer:
        self.errors += 1
        if self.errors > ERRORS:
            return b"421 4.7.0 Too many errors\r\n", Action.CLOSE
        return reply, Action.NEXT

    def _forgiven(self) -> bool:
        """Tell whether a refused recipient is no error of the session's.

        Who may relay sends lists, pipelined: to close on some bad addresses in one, or on
        those beyond the limit, would lose the good ones again at every try (RFC 5321
        §4.5.3.1.10).
        """
        self._refused += 1
        return self._allowed and self.sender is not None and self._refused <= OVERSHOOT

    def _reset(self) -> None:
        self.sender = None
        self.recipients = []
        self.parameters = b""
        self.utf8 = False
        self._refused = 0
        self._whose = None

    # ---- verbs ----

    def _ehlo(self, argument: bytes) -> Answer:
        if (refusal := self._greet(argument)) is not None:
            return refusal
        self.extended = True
        offers = extensions.keywords(self._settings.limits.message_size, hold=self._hold, now=self._wall())
        lines = [f"{self._settings.hostname} greets {self.helo}", *offers]
        text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
        return text.encode("ascii"), Action.NEXT

    def _helo(self, argument: bytes) -> Answer:
        if (refusal := self._greet(argument)) is not None:
            return refusal
        self.extended = False
        return f"250 {self._settings.hostname}\r\n".encode(), Action.NEXT

    def _greet(self, argument: bytes) -> Answer | None:
        """Take a client's name; it stands in the Received line, so only a name or literal will do."""
        if _NAME.fullmatch(argument) is None:
            return b"501 5.5.4 A host name or address literal is wanted\r\n", Action.NEXT
        self.helo = argument.decode("ascii")
        self._reset()
        return None

    def _mail(self, argument: bytes) -> Answer:
        if not self.helo or self.sender is not None:
            return NOT_NOW, Action.NEXT
        if argument[:5].upper() != b"FROM:":
            return b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n", Action.NEXT
        path = argument[5:].lstrip(b" ")
        try:
            address, rest = parse_path(path, utf8=not path.isascii())
            kept, lowered = parameters.mail(
                rest,
                message_size=self._settings.limits.message_size,
                priority_limit=self._settings.priority_limit,
                hold=self._hold,
                now=self._wall(),
            )
        except AddressError as error:
            return b"553 5.1.7 Sender: %b\r\n" % str(error).encode(), Action.NEXT
        except ParameterError as error:
            return b"%d %b\r\n" % (error.code, str(error).encode()), Action.NEXT
        utf8 = b"SMTPUTF8" in kept.split(b" ")
        if not address.isascii() and not utf8:
            return NEEDS_UTF8, Action.NEXT
        if rest and not self.extended:
            return NEEDS_EHLO, Action.NEXT
        self.sender = address
        self.utf8 = utf8
        self.parameters = self._completed(kept)
        if lowered is not None:
            return b"250 2.3.6 %d is the new priority of the message\r\n" % lowered, Action.NEXT
        return b"250 2.1.0 Sender ok\r\n", Action.NEXT

    def _completed(self, kept: bytes) -> bytes:
        """Return MAIL's parameters with what the listener says of its mail."""
        said = self._tenant
        if self._priority and parameter(kept, b"MT-PRIORITY") is None:
            said += self._priority
        return (kept + said).lstrip(b" ")

    def _rcpt(self, argument: bytes) -> Answer:
        if self.sender is None:
            return NOT_NOW, Action.NEXT
        if argument[:3].upper() != b"TO:":
            return b"501 5.5.4 Syntax: RCPT TO:<address>\r\n", Action.NEXT
        path = argument[3:].lstrip(b" ")
        if path[: len(_POSTMASTER)].lower() == _POSTMASTER:
            # RFC 5321 §4.5.1: every server knows postmaster without a domain. The relay has no
            # mailboxes, so it is the one at its own name, which goes where that name's mail goes.
            path = b"%b@%b%b" % (path[:11], self._settings.hostname.encode("ascii"), path[11:])
        if not self.utf8 and not path.isascii():
            return NEEDS_UTF8, Action.NEXT
        try:
            address, rest = parse_path(path, utf8=self.utf8)
            kept = parameters.rcpt(rest, utf8=self.utf8) if rest else b""
        except AddressError as error:
            return b"553 5.1.3 Recipient: %b\r\n" % str(error).encode(), Action.NEXT
        except ParameterError as error:
            return b"%d %b\r\n" % (error.code, str(error).encode()), Action.NEXT
        if not address:
            return b"553 5.1.3 Recipient: nobody is named\r\n", Action.NEXT
        if kept and not self.extended:
            return NEEDS_EHLO, Action.NEXT
        refusal = admission.recipient(address, allowed=self._allowed)
        if refusal is not None:
            return f"{refusal}\r\n".encode(), Action.NEXT
        if self._whose is None:
            self._whose = flow(Envelope(self.sender, (), self.parameters)).tenant
        if (suppressed := self._suppressed(address, self._whose)) is not None:
            return suppressed, Action.NEXT
        if len(self.recipients) >= self._settings.limits.recipients:
            return b"452 4.5.3 Too many recipients\r\n", Action.NEXT
        self.recipients.append(Recipient(address, kept))
        return b"250 2.1.5 Recipient ok\r\n", Action.NEXT

    def _data(self, argument: bytes) -> Answer:
        if argument:
            return NO_ARGUMENT, Action.NEXT
        if self.sender is None:
            return NOT_NOW, Action.NEXT
        if not self.recipients:
            return b"554 5.5.1 No valid recipients\r\n", Action.NEXT
        return GO_AHEAD, Action.CONTENT

    def _rset(self, argument: bytes) -> Answer:
        if argument:
            return NO_ARGUMENT, Action.NEXT
        self._reset()
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
        return b"214 2.0.0 RFC 5321; MAIL, RCPT, DATA, RSET, NOOP, VRFY, QUIT\r\n", Action.NEXT

    def _expn(self, _: bytes) -> Answer:
        return b"502 5.5.1 Not implemented\r\n", Action.NEXT
