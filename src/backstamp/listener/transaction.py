"""One mail transaction: sender, recipients, the content to come (RFC 5321 §3.3, RFC 3030). Pure."""

import re
from collections.abc import Callable
from typing import Final, Protocol

from backstamp.listener import admission, authentication
from backstamp.listener.answer import NO_ARGUMENT, NOT_NOW, Action, Answer
from backstamp.listener.client import Client
from backstamp.listener.settings import Auth, ListenerSettings
from backstamp.mail.address import AddressError, parse_path
from backstamp.mail.envelope import Envelope, Recipient, flow, ordered, parameter
from backstamp.mail.submission import qualified
from backstamp.policy.user import sender_allowed
from backstamp.smtp import parameters
from backstamp.smtp.parameters import ParameterError

OVERSHOOT: Final = 1000
"""Refused recipients of one message that are no errors (Postfix: smtpd_recipient_overshoot_limit)."""

_POSTMASTER: Final = b"<postmaster>"
_CHUNK: Final = re.compile(rb"([0-9]{1,10})( +LAST)?", re.IGNORECASE)

NEEDS_UTF8: Final = b"553 5.6.7 The address needs SMTPUTF8\r\n"
NEEDS_TLS: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
"""RFC 3207 §4, which has the words."""
NEEDS_EHLO: Final = b"555 5.5.4 Parameters need EHLO\r\n"
NOBODY: Final = b"554 5.5.1 No valid recipients\r\n"
GO_AHEAD: Final = b"354 End data with <CR><LF>.<CR><LF>\r\n"
NO_SIZE: Final = b"421 4.7.0 BDAT without a size: where the next command begins nobody knows\r\n"
FAR_TOO_BIG: Final = b"421 4.3.2 The chunk is far beyond the limit of a message\r\n"

Refuse = Callable[[bytes, bytes], bytes | None]
"""From a recipient and the tenant the mail is of to the reply that refuses it, None if it is taken."""


Closed = Callable[[], bytes | None]
"""The reply to MAIL while no mail can be taken at all, None while it can."""


class Rates(Protocol):
    """How much one client may do; asked for each, the answer is the reply that refuses it."""

    def message(self, user: str, before: int) -> bytes | None:
        """Count a message; `before` are those of the connection already."""
        ...

    def recipient(self, user: str) -> bytes | None:
        """Count a recipient."""
        ...


class Transaction:
    """The transactions of one session, one after the other."""

    def __init__(
        self,
        settings: ListenerSettings,
        client: Client,
        refuse: Refuse,
        *,
        wall: Callable[[], float] | None,
        rates: Rates | None,
        closed: Closed = lambda: None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._suppressed = refuse
        # RFC 4865 is for submission; without a clock nothing can be held until a time.
        self._wall = wall or float
        self.hold = settings.future_release if settings.submission and wall is not None else 0.0
        self._rates = rates
        self._closed = closed
        self._domain = settings.qualify.encode("ascii") if settings.submission else b""
        self._priority = b"" if settings.priority is None else b" MT-PRIORITY=%d" % settings.priority
        self._messages = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.sender: bytes | None = None
        self.recipients: list[Recipient] = []
        self.parameters = b""
        self.utf8 = False
        """Whether the transaction is internationalized (RFC 6531)."""
        self.declared: int | None = None
        """Octets of content the client announced (SIZE)."""
        self.chunk: tuple[int, bool] | None = None
        """Octets of the BDAT whose content is to be read and whether it is the last; None: DATA."""
        self.skip = 0
        """Octets of a refused BDAT."""
        self.chunked = 0
        """More than nothing once a chunk was taken: octets of them, and one for each."""
        self._refused = 0
        self._whose: bytes | None = None
        """The tenant of the transaction, once somebody asked."""

    def envelope(self) -> Envelope:
        """Return the envelope."""
        return Envelope(self.sender or b"", ordered(self.recipients), self.parameters)

    def forgiven(self) -> bool:
        """Tell whether a refused recipient is no error of the session's.

        Who may relay sends lists, pipelined: to close on some bad addresses in one, or on
        those beyond the limit, would lose the good ones again at every try (RFC 5321
        §4.5.3.1.10).
        """
        self._refused += 1
        return self._client.allowed and self.sender is not None and self._refused <= OVERSHOOT

    def mail(self, argument: bytes) -> Answer:
        """Answer MAIL."""
        client = self._client
        if not client.helo or self.sender is not None:
            return NOT_NOW, Action.NEXT
        if self._settings.tls.required and not client.private:
            return NEEDS_TLS, Action.NEXT
        user = client.user
        if user is None and self._settings.auth is Auth.REQUIRED:
            return authentication.REQUIRED, Action.NEXT
        if argument[:5].upper() != b"FROM:":
            return b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n", Action.NEXT
        path = argument[5:].lstrip(b" ")
        if self._domain:
            path = qualified(path, self._domain)
        try:
            address, rest = parse_path(path, utf8=not path.isascii())
            kept, lowered = parameters.mail(
                rest,
                message_size=self._settings.limits.message_size,
                priority_limit=self._settings.priority_limit,
                hold=self.hold,
                now=self._wall(),
                auth=client.offered_auth,
                requiretls=bool(client.tls),
            )
        except AddressError as error:
            return b"553 5.1.7 Sender: %b\r\n" % str(error).encode(), Action.NEXT
        except ParameterError as error:
            return b"%d %b\r\n" % (error.code, str(error).encode()), Action.NEXT
        utf8 = b"SMTPUTF8" in kept.split(b" ")
        if not address.isascii() and not utf8:
            return NEEDS_UTF8, Action.NEXT
        if rest and not client.extended:
            return NEEDS_EHLO, Action.NEXT
        if user is not None and not sender_allowed(user, address):
            return authentication.NOT_YOURS, Action.NEXT
        if (closed := self._closed()) is not None:
            return closed, Action.NEXT
        if self._rates is not None:
            refusal = self._rates.message(user.name if user is not None else "", self._messages)
            if refusal is not None:
                return refusal, Action.CLOSE if int(refusal[:3]) == 421 else Action.NEXT
        self._messages += 1
        self.sender = address
        self.utf8 = utf8
        self.parameters = self._completed(kept)
        self.declared = parameters.declared_size(rest)
        if lowered is not None:
            return b"250 2.3.6 %d is the new priority of the message\r\n" % lowered, Action.NEXT
        return b"250 2.1.0 Sender ok\r\n", Action.NEXT

    def _completed(self, kept: bytes) -> bytes:
        """Return MAIL's parameters with what the listener says of its mail."""
        tenant = self._client.tenant
        said = b" TENANT=" + tenant.encode("ascii") if tenant else b""
        if self._priority and parameter(kept, b"MT-PRIORITY") is None:
            said += self._priority
        return (kept + said).lstrip(b" ")

    def rcpt(self, argument: bytes) -> Answer:
        """Answer RCPT."""
        if self.sender is None or self.chunked:
            return NOT_NOW, Action.NEXT
        if argument[:3].upper() != b"TO:":
            return b"501 5.5.4 Syntax: RCPT TO:<address>\r\n", Action.NEXT
        path = argument[3:].lstrip(b" ")
        if path[: len(_POSTMASTER)].lower() == _POSTMASTER:
            # RFC 5321 §4.5.1: every server knows postmaster without a domain. The relay has no
            # mailboxes, so it is the one at its own name, which goes where that name's mail goes.
            path = b"%b@%b%b" % (path[:11], self._settings.hostname.encode("ascii"), path[11:])
        if self._domain:
            path = qualified(path, self._domain)
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
        if kept and not self._client.extended:
            return NEEDS_EHLO, Action.NEXT
        refusal = admission.recipient(address, allowed=self._client.allowed)
        if refusal is not None:
            return f"{refusal}\r\n".encode(), Action.NEXT
        if self._whose is None:
            self._whose = flow(Envelope(self.sender, (), self.parameters)).tenant
        if (suppressed := self._suppressed(address, self._whose)) is not None:
            return suppressed, Action.NEXT
        if len(self.recipients) >= self._settings.limits.recipients:
            return b"452 4.5.3 Too many recipients\r\n", Action.NEXT
        if self._rates is not None:
            user = self._client.user
            if (limited := self._rates.recipient(user.name if user is not None else "")) is not None:
                return limited, Action.NEXT
        self.recipients.append(Recipient(address, kept))
        return b"250 2.1.5 Recipient ok\r\n", Action.NEXT

    def data(self, argument: bytes) -> Answer:
        """Answer DATA; the reply goes out when there is room for the content."""
        if argument:
            return NO_ARGUMENT, Action.NEXT
        if self.sender is None or self.chunked:
            return NOT_NOW, Action.NEXT
        if not self.recipients:
            return NOBODY, Action.NEXT
        return GO_AHEAD, Action.CONTENT

    def bdat(self, argument: bytes) -> Answer:
        """Answer BDAT (RFC 3030 §2): its octets follow at once, also those of one that is refused."""
        found = _CHUNK.fullmatch(argument)
        if found is None:
            return NO_SIZE, Action.CLOSE
        size, last = int(found[1]), found[2] is not None
        limit = self._settings.limits.message_size
        if self.chunked + size > 3 * limit:
            return FAR_TOO_BIG, Action.CLOSE
        self.skip = size
        if self.sender is None:
            return NOT_NOW, Action.SKIP
        if not self.recipients:
            return NOBODY, Action.SKIP
        self.skip = 0
        self.chunked += size + 1  # a chunk of nothing begins a content, too
        self.chunk = (size, last)
        return b"250 2.0.0 %d octets received\r\n" % size, Action.CONTENT
