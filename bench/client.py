"""A client that hands in messages, each with its commands in one write (RFC 2920)."""

import asyncio
from collections.abc import Sequence
from typing import Self

CONTENT = b"Subject: one\r\n\r\n" + b"x" * 998 + b"\r\n"


class Client:
    """One connection to a relay."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._expect(b"220")
        self._writer.write(b"EHLO bench.example.org\r\n")
        await self._expect(b"250")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, recipients: Sequence[str], content: bytes = CONTENT) -> None:
        """Hand in one message; return when its 250 is there."""
        rows = [f"RCPT TO:<{recipient}>\r\n" for recipient in recipients]
        self._writer.write(f"MAIL FROM:<s@bench.invalid>\r\n{''.join(rows)}DATA\r\n".encode())
        for code in (*[b"250"] * (1 + len(recipients)), b"354"):
            await self._expect(code)
        self._writer.write(content + b".\r\n")
        await self._expect(b"250")

    async def _expect(self, code: bytes) -> None:
        while (line := await self._reader.readline())[3:4] == b"-":
            pass
        if not line.startswith(code):
            raise RuntimeError(f"unexpected reply {line!r}")
