"""From a content as it came to a message in the queue, or to the reply that refuses it.

What may be refused is refused here, before the durable write; what was written is told
250 and nothing else. The relay prepends its Received line; on a submission listener also
Date and Message-ID where they are missing (RFC 6409 §8). Everything below stays as it came,
but for the fields Backstamp-Tenant and Backstamp-Idempotency-Key, which are taken out. RFC 6758's
field MT-Priority is left alone: it is for mail that came by a server without the extension.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import msgspec

from backstamp.clock import Clock
from backstamp.listener import authentication
from backstamp.listener.client import names_tenant
from backstamp.listener.origin import Origin, Verdict
from backstamp.listener.settings import ListenerSettings
from backstamp.listener.transaction import Refuse
from backstamp.mail import headers, submission
from backstamp.mail.envelope import Envelope, replaced
from backstamp.policy.user import sender_allowed
from backstamp.queue import ids, keys
from backstamp.queue.port import Flag, Intake, Message, QueueRefusedError
from backstamp.smtp.data import LineLength, bare, normalized
from backstamp.telemetry.events import Accepted, Alarm, Event, Repeated

TOO_BIG = b"552 5.3.4 Message size exceeds the limit\r\n"
TROUBLE = b"451 4.3.0 Local error in processing, try again later\r\n"
HEADER = b"552 5.3.4 The message header exceeds the limit\r\n"
LONG_LINE = b"554 5.6.0 The message has a line longer than the limit\r\n"
LOOP = b"554 5.4.6 Mail loop: too many Received lines\r\n"
TENANT = b"554 5.6.0 Backstamp-Tenant is not one name of at most 64 letters, digits, dots, - and _\r\n"
KEY = b"554 5.6.0 Backstamp-Idempotency-Key is not one key of 1 to 200 printable characters\r\n"
SEMANTICS = b"554 5.6.0 Backstamp-Semantics is neither at-least-once nor at-most-once\r\n"

Answer = Callable[[Verdict], None]

_TENANT: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KEY: Final = re.compile(rb"[ -~]{1,200}")


class Door:
    """What all sessions of a listener share: the queue behind it, and how mail gets there."""

    def __init__(
        self,
        queue: Intake,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        entropy: Callable[[int], bytes],
        once: Callable[[Envelope], bool] = lambda _: False,
        refuse: Refuse = lambda *_: None,
    ) -> None:
        self.queue = queue
        self.clock = clock
        self.emit = emit
        self.entropy = entropy
        self.once = once
        """Whether a route wants mail with this envelope to come at most once."""
        self.refuse = refuse
        """Which recipients are not taken (the suppression list)."""

    def closed(self) -> bytes | None:
        """Return the reply to MAIL while the queue takes nothing: who hears so need not send a content."""
        reply = self.queue.refusal()
        return None if reply is None else f"{reply}\r\n".encode()

    async def take(
        self, content: bytes, envelope: Envelope, origin: Origin, settings: ListenerSettings
    ) -> Verdict:
        """Take a content as `hand_in` does; return what became of it."""
        answered: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def answer(verdict: Verdict) -> None:
            if not answered.done():
                answered.set_result(verdict)

        self.hand_in(content, envelope, origin, settings, answer)
        return await answered

    def hand_in(
        self, content: bytes, envelope: Envelope, origin: Origin, settings: ListenerSettings, answer: Answer
    ) -> None:
        """Take a content as it came, but for doubled dots, which are taken away.

        `answer` is told what became of it: once, here or later; it must not raise. Whatever goes
        wrong on this side is the relay's own trouble and so 4yz (promise 4).
        """
        letter = Letter(self, envelope, origin, settings)
        try:
            content = ended(content, settings)
            message = letter.whole(content)
        except Exception as error:  # a bug must cost no mail: the client keeps it and tries again
            message = self.broken(error)
        if isinstance(message, bytes):
            answer(Verdict(message))
            return
        size = len(content)
        stands = b""

        def told(outcome: bytes | Exception) -> None:
            nonlocal stands
            if isinstance(outcome, bytes):
                stands = outcome
                answer(accepted(stands))
            else:
                answer(Verdict(self.refused(outcome)))

        try:
            self.queue.hand_in(message, told, lambda: letter.tell(message, size, stands))
        except Exception as error:  # as above
            told(error)

    def refused(self, error: Exception) -> bytes:
        """Return what a client is told whose message the queue did not take."""
        return f"{error.reply}\r\n".encode() if isinstance(error, QueueRefusedError) else self.broken(error)

    def broken(self, error: Exception) -> bytes:
        """Tell of a bug; return what the client is told."""
        self.alarm(f"accepting a message broke: {error!r}", "the client was told to try again")
        return TROUBLE

    def alarm(self, problem: str, action: str) -> None:
        """Tell an operator."""
        self.emit(Alarm(time=int(self.clock.wall() * 1e6), problem=problem, action=action))


class Letter:
    """One message from its envelope to its 250."""

    def __init__(self, door: Door, envelope: Envelope, origin: Origin, settings: ListenerSettings) -> None:
        self._door = door
        self._settings = settings
        self._origin = origin
        self._started = door.clock.monotonic()
        self._envelope = envelope

    def whole(self, content: bytes) -> Message | bytes:
        """Return the message to be queued of a content that is all there, or the reply that refuses it."""
        limits = self._settings.limits
        if len(content) > limits.message_size:
            return TOO_BIG
        return unclean(content, LineLength(limits.line_length)) or self.message(content)

    def message(self, content: bytes, *, whole: bool = True) -> Message | bytes:
        """Return the message to be queued, its content begun by ours; or the reply that refuses it.

        Of a large one (not `whole`) `content` is the first part; its header must be in it.
        """
        settings = self._settings
        now = self._door.clock.wall()
        queue_id = ids.make(int(now * 1000), self._door.entropy(10))
        name = ids.text(queue_id)
        separator = headers.separator(content)
        header = b"" if separator else headers.block(content)
        if len(header) > settings.limits.header_size or (not whole and len(header) == len(content)):
            return HEADER
        normal = headers.normal(header)
        if headers.hops(normal) > settings.limits.hops:
            return LOOP
        account = self._origin.account
        if account is not None and account.senders:
            if not sender_allowed(account, self._envelope.sender):
                return authentication.NOT_YOURS
            # RFC 6409 §6.1: whose name the message bears counts as much as its envelope's.
            refusal = submission.refusal(header, lambda address: sender_allowed(account, address))
            if refusal is not None:
                return refusal
        envelope = self._envelope
        key, wanted = b"", None
        if headers.names_ours(normal):
            content, (tenants, named) = headers.without_ours(content)
            separator = headers.separator(content)
            if tenants and names_tenant(settings, account):
                if len(tenants) != 1 or _TENANT.fullmatch(tenants[0]) is None:
                    return TENANT
                kept = replaced(envelope.parameters, b"TENANT", tenants[0])
                envelope = msgspec.structs.replace(envelope, parameters=kept)
            if named:
                if len(named) != 1 or _KEY.fullmatch(named[0]) is None:
                    return KEY
                key = keys.digest(self._scope(), named[0])
            if (wanted := headers.semantics(normal)) not in (None, b"at-most-once", b"at-least-once"):
                return SEMANTICS
        once = wanted == b"at-most-once"
        if wanted is None:
            once = settings.at_most_once or self._door.once(envelope)
        origin = self._origin
        prefix = headers.received(
            helo=origin.helo,
            peer=origin.peer,
            hostname=settings.hostname,
            protocol=origin.protocol,
            queue_id=name,
            seconds=now,
        )
        if settings.submission:
            prefix += headers.repairs(normal, queue_id=name, hostname=settings.hostname, seconds=now)
        flags = Flag.AT_MOST_ONCE if once else Flag.NONE
        return Message(queue_id, int(now * 1e6), envelope, prefix + separator + content, flags, key)

    def _scope(self) -> bytes:
        """Return whose keys are one name space: the user's, else the listener's by tenant or address."""
        settings = self._settings
        if self._origin.user:
            return f"user {self._origin.user}".encode()
        if settings.tenant:
            return f"tenant {settings.tenant}".encode()
        return f"listener {settings.host} {settings.port}".encode()

    def tell(self, message: Message, size: int, stands: bytes) -> None:
        """Tell that a message is on stable storage.

        `stands` is the id of the message that stands for this submission: its own, or an earlier one's.
        """
        clock = self._door.clock
        name = ids.text(stands)
        if stands != message.queue_id:
            self._door.emit(
                Repeated(
                    time=int(clock.wall() * 1e6),
                    queue_id=name,
                    client=self._origin.peer,
                    user=self._origin.user,
                )
            )
            return
        self._door.emit(
            Accepted(
                time=int(clock.wall() * 1e6),
                queue_id=name,
                client=self._origin.peer,
                user=self._origin.user,
                sender=message.envelope.sender.decode("utf-8", "backslashreplace"),
                recipients=len(message.envelope.recipients),
                size=size,
                duration=clock.monotonic() - self._started,
            )
        )


def accepted(stands: bytes) -> Verdict:
    """Return what the client of an accepted message is told; `stands` is its id, or an earlier one's."""
    name = ids.text(stands)
    return Verdict(f"250 2.0.0 Ok: queued as {name}\r\n".encode(), name)


def ended(content: bytes, settings: ListenerSettings) -> bytes:
    """Return a content, or a piece of one that ends in no CRLF, with its line ends as the listener wants."""
    return normalized(content) if settings.line_endings == "normalize" else content


def unclean(content: bytes, lines: LineLength) -> bytes | None:
    """Return the refusal of a content, or a piece of one, with a bare CR, bare LF, NUL or too long a line."""
    if (what := bare(content)) is not None:
        return f"550 5.6.0 The message has a {what}; lines end by CRLF alone\r\n".encode()
    return LONG_LINE if lines.exceeded(content) else None
