"""A listener in front of another, which keeps what clients say in clear text."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Wire:
    """Hands every connection on to an address; `said` is what all clients said together."""

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.said = b""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        other, there = await asyncio.open_connection(*self._there)
        try:
            await asyncio.gather(self._pass(reader, there, said=True), self._pass(other, writer, said=False))
        finally:
            writer.close()
            there.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, said: bool) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65536):
                if said:
                    self.said += octets
                sink.write(octets)
                await sink.drain()
            # Who has said all may still listen.
            sink.write_eof()
