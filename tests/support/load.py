"""Clients that send numbered messages as fast as a relay takes them, and know which it took."""

import asyncio
from collections.abc import Iterable

BODY = "x" * 2000


class Load:
    """Clients that send numbered messages, each number once."""

    def __init__(self, address: tuple[str, int], numbers: Iterable[int]) -> None:
        self.address = address
        self.acknowledged: set[int] = set()
        """Whose client read 250."""
        self.ended = False
        """Set when nobody is to try again."""
        self._numbers = iter(numbers)

    async def client(self) -> None:
        """Send what is left; whoever is cut off connects again, and goes on with the next number."""
        while not self.ended:
            try:
                reader, writer = await asyncio.open_connection(*self.address)
                await self._session(reader, writer)
                return
            except (OSError, asyncio.IncompleteReadError, EOFError):
                await asyncio.sleep(0.05)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _expect(reader, b"220")
            writer.write(b"EHLO client.test\r\n")
            await _expect(reader, b"250")
            for number in self._numbers:
                writer.write(
                    f"MAIL FROM:<s@test.example>\r\nRCPT TO:<u{number}@test.example>\r\nDATA\r\n".encode()
                )
                await _expect(reader, b"250")
                await _expect(reader, b"250")
                await _expect(reader, b"354")
                writer.write(f"X-Number: {number}\r\n\r\n{BODY}\r\n.\r\n".encode())
                await _expect(reader, b"250")
                self.acknowledged.add(number)
        finally:
            writer.close()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readuntil(b"\n")
        if not line.startswith(code):
            raise ConnectionRefusedError(line)
        if line[3:4] == b" ":
            return
