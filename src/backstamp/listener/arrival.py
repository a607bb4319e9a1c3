"""A message that comes in pieces: gathered while it is small, then piece by piece into the queue.

What is refused is refused at the end, where the client listens: until then its octets are
taken off the wire, and cost nothing. What was gathered first holds the header (1 MiB of it), which
is all that is ever looked at.
"""

from typing import Final

from backstamp.listener.intake import TOO_BIG, Door, Letter, accepted, ended, unclean
from backstamp.listener.origin import Origin
from backstamp.listener.settings import ListenerSettings
from backstamp.mail.envelope import Envelope
from backstamp.queue.port import Deposit, Message
from backstamp.smtp.data import LineLength
from backstamp.text import reason

ENOUGH: Final = 1024 * 1024 - 64
"""Octets that are gathered before a message goes into the queue as it comes."""


class Arrival:
    """One message of one session."""

    def __init__(self, door: Door, envelope: Envelope, origin: Origin, settings: ListenerSettings) -> None:
        self._door = door
        self._settings = settings
        self._envelope = envelope
        self._origin = origin
        self._letter = Letter(door, envelope, origin, settings)
        self._first = bytearray()
        self._lines = LineLength(settings.limits.line_length)
        self._deposit: Deposit | None = None
        self._message: Message | None = None
        self.size = 0
        """Octets that came, those dropped included."""
        self._refusal: bytes | None = None
        self._held = b""

    @property
    def gathered(self) -> int:
        """Octets in memory that did not go into the queue yet."""
        return len(self._first)

    async def take(self, content: bytes) -> None:
        """Take the next octets, not yet the last."""
        self.size += len(content)
        if self._deposit is None and self._refusal is None and (self._first or len(content) < ENOUGH):
            self._first += content
            if len(self._first) < ENOUGH:
                return
            content, self._first = bytes(self._first), bytearray()
        # A CR at the end is kept for the next piece: each line end is to be seen whole.
        content = self._held + content
        self._held = content[-1:] if content.endswith(b"\r") else b""
        await self._take(content[: len(content) - len(self._held)])

    async def end(self, content: bytes) -> bytes:
        """Take the last octets; return the reply."""
        if self._deposit is None and self._refusal is None:
            content = bytes(self._first) + content
            verdict = await self._door.take(content, self._envelope, self._origin, self._settings)
            return verdict.reply
        self.size += len(content)
        content, self._held = self._held + content, b""
        await self._take(content)
        if self._refusal is None and self._deposit is not None and self._message is not None:
            try:
                stands = await self._deposit.commit()
            except Exception as error:
                return self._door.refused(error)
            self._letter.tell(self._message, self.size, stands)
            return accepted(stands).reply
        await self.abandon()
        return self._refusal or TOO_BIG

    async def abandon(self) -> None:
        """Forget the message, if it was not accepted."""
        deposit, self._deposit = self._deposit, None
        if deposit is not None:
            try:
                await deposit.abandon()
            except Exception as error:  # a disk that is ill; the session must end as every other
                problem = f"the draft of a message that was given up cannot be closed: {reason(error)}"
                self._door.alarm(problem, "a start clears away what is left of it")

    async def _take(self, content: bytes) -> None:
        if self._refusal is not None or not content:
            return
        made = ended(content, self._settings)
        self.size += len(made) - len(content)
        content = made
        if self.size > self._settings.limits.message_size:
            self._refusal = TOO_BIG
        elif (refusal := unclean(content, self._lines)) is not None:
            self._refusal = refusal
        else:
            try:
                await self._write(content)
            except Exception as error:
                self._refusal = self._door.refused(error)
        if self._refusal is not None:
            await self.abandon()

    async def _write(self, content: bytes) -> None:
        if self._deposit is not None:
            await self._deposit.write(content)
            return
        made = self._letter.message(content, whole=False)
        if isinstance(made, bytes):
            self._refusal = made
            return
        self._message = made
        self._deposit = await self._door.queue.deposit(made)
