"""From a content as it came to a message in the queue, or to the reply that refuses it.

What may be refused is refused here, before the durable write; what was written is told
250 and nothing else. The relay prepends its Received line; on a submission listener also
Date and Message-ID where they are missing (RFC 6409 §8). Everything below stays as it came.
"""

from collections.abc import Callable

from backstamp.clock import Clock
from backstamp.listener.conversation import Conversation
from backstamp.listener.settings import ListenerSettings
from backstamp.mail import headers
from backstamp.queue import ids
from backstamp.queue.port import Intake, Message, QueueRefusedError
from backstamp.smtp.data import bare, unstuff
from backstamp.telemetry.events import Accepted, Alarm, Event

TOO_BIG = b"552 5.3.4 Message size exceeds the limit\r\n"
TROUBLE = b"451 4.3.0 Local error in processing, try again later\r\n"
LOOP = b"554 5.4.6 Mail loop: too many Received lines\r\n"


class Door:
    """What all sessions of a listener share: the queue behind it, and how mail gets there."""

    def __init__(
        self,
        queue: Intake,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._queue = queue
        self.clock = clock
        self.emit = emit
        self._entropy = entropy

    async def accept(
        self, raw: bytes, conversation: Conversation, settings: ListenerSettings, peer: str
    ) -> bytes:
        """Take a content as it came over the wire (dots still doubled); return the reply.

        Whatever goes wrong on this side is the relay's own trouble and so 4yz (promise 4).
        """
        started = self.clock.monotonic()
        helo, extended, utf8 = conversation.helo, conversation.extended, conversation.utf8
        envelope = conversation.envelope()
        content = unstuff(raw)
        if len(content) > settings.limits.message_size:
            return TOO_BIG
        if (what := bare(content)) is not None:
            return f"550 5.6.0 The message has a {what}; lines end by CRLF alone\r\n".encode()
        now = self.clock.wall()
        size = len(content)
        queue_id = ids.make(int(now * 1000), self._entropy(10))
        name = ids.text(queue_id)
        separator = headers.separator(content)
        normal = headers.normal(b"" if separator else headers.block(content))
        if headers.hops(normal) > settings.limits.hops:
            return LOOP
        try:
            prefix = headers.received(
                helo=helo,
                peer=peer,
                hostname=settings.hostname,
                protocol="UTF8SMTP" if utf8 else "ESMTP" if extended else "SMTP",
                queue_id=name,
                seconds=now,
            )
            if settings.submission:
                prefix += headers.repairs(normal, queue_id=name, hostname=settings.hostname, seconds=now)
            content = prefix + separator + content
            await self._queue.append(Message(queue_id, int(now * 1e6), envelope, content))
        except QueueRefusedError as error:
            return f"{error.reply}\r\n".encode()
        except Exception as error:  # a bug must cost no mail: the client keeps it and tries again
            problem = f"accepting a message broke: {error!r}"
            self.emit(Alarm(time=int(now * 1e6), problem=problem, action="the client was told to try again"))
            return TROUBLE
        self.emit(
            Accepted(
                time=int(self.clock.wall() * 1e6),
                queue_id=name,
                client=peer,
                sender=envelope.sender.decode("utf-8", "backslashreplace"),
                recipients=len(envelope.recipients),
                size=size,
                duration=self.clock.monotonic() - started,
            )
        )
        return f"250 2.0.0 Ok: queued as {name}\r\n".encode()
