"""A client of a listener that says one thing at a time, in clear text or over TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Self

from tests.support.door import Door

LONG = 20.0
"""Seconds nothing here takes."""


class Talker:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def come(cls, door: Door, context: ssl.SSLContext | None = None, *, first: bytes = b"") -> Self:
        """Connect, over TLS where there is a context; `first` is sent before anything else, in clear text."""
        made = cls(*await door.connect())
        made.send(first)
        if context is not None:
            await made.shake(context)
        return made

    def send(self, octets: bytes) -> None:
        """Send octets, waiting for nothing."""
        self.writer.write(octets)

    async def reply(self) -> bytes:
        """Return the next reply, all of its lines; empty at the end."""
        lines = b""
        async with asyncio.timeout(LONG):
            while line := await self.reader.readline():
                lines += line
                if line[3:4] != b"-":
                    break
        return lines

    async def say(self, line: bytes) -> bytes:
        """Send a line, return the reply."""
        self.send(line + b"\r\n")
        return await self.reply()

    async def all(self, *lines: bytes) -> list[bytes]:
        """Say one line after the other; return the first three digits of each reply."""
        return [(await self.say(line))[:3] for line in lines]

    async def hand_in(self, content: bytes, *, sender: bytes = b"a@b.example") -> bytes:
        """Hand in a message by DATA; return the first reply that is none of those hoped for, or the last."""
        for line, hoped in (
            (b"MAIL FROM:<%b>" % sender, b"250"),
            (b"RCPT TO:<c@d.example>", b"250"),
            (b"DATA", b"354"),
        ):
            if not (reply := await self.say(line)).startswith(hoped):
                return reply
        return await self.say(content + b"\r\n.")

    async def shake(self, context: ssl.SSLContext, name: str = "relay.example.org") -> None:
        """Shake hands. Raises ssl.SSLError, ConnectionError."""
        async with asyncio.timeout(LONG):
            await self.writer.start_tls(context, server_hostname=name)

    async def starttls(self, context: ssl.SSLContext) -> None:
        """Read the greeting, ask for TLS and shake hands; nothing was said over it yet."""
        await self.reply()
        assert (await self.all(b"EHLO client.test", b"STARTTLS")) == [b"250", b"220"]
        await self.shake(context)

    async def rest(self) -> bytes:
        """Return what comes up to the end."""
        octets = b""
        async with asyncio.timeout(LONG):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while piece := await self.reader.read(65536):
                    octets += piece
        return octets

    def go(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def talker(
    door: Door, context: ssl.SSLContext | None = None, *, first: bytes = b""
) -> AsyncIterator[Talker]:
    """Connect a client for a while."""
    made = await Talker.come(door, context, first=first)
    try:
        yield made
    finally:
        made.go()
