"""A plain connection becomes a protected one, or none; on both loops."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import trustme

from backstamp.listener.upgrade import HandshakeError, upgrade

AUTHORITY = trustme.CA()
LONG = 20.0


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.issue_cert("relay.example.org").configure_cert(server)
    AUTHORITY.configure_trust(client)
    return server, client


class Server(asyncio.Protocol):
    """Reads plain octets, then shakes hands when it is told to."""

    def __init__(self) -> None:
        self.read = bytearray()
        self.lost = asyncio.Event()
        self.came = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.read += data
        self.came.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()

    async def until(self, octets: bytes) -> None:
        async with asyncio.timeout(LONG):
            while octets not in self.read:
                self.came.clear()
                await self.came.wait()

    async def shake(self, seconds: float = LONG, begun: bytes = b"") -> None:
        server, _ = contexts()
        self.transport = await upgrade(self.transport, self, server, seconds=seconds, begun=begun)


class Wire:
    """A client in memory on a socket: what it sends is cut and held back as a test likes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        _, context = contexts()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="relay.example.org")

    async def send(self, octets: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, octets)

    def hello(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    async def shake(self) -> None:
        """Go on until the handshake is done, the last flight not yet sent."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self.send(self._out.read())
                self._in.write(await self.octets())

    async def octets(self) -> bytes:
        async with asyncio.timeout(LONG):
            return await asyncio.get_running_loop().sock_recv(self._sock, 65_536)

    async def protected(self, octets: bytes) -> None:
        """Send what is kept back and this, at once."""
        self.tls.write(octets)
        await self.send(self._out.read())

    async def answer(self) -> bytes:
        while True:
            try:
                return self.tls.read(1000)
            except ssl.SSLWantReadError:
                self._in.write(await self.octets())

    def leave(self) -> None:
        """End the connection; the loop may hold the socket open."""
        self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Server, Wire]]:
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[Server] = asyncio.Queue()

    def one() -> Server:
        server = Server()
        made.put_nowait(server)
        return server

    listening = await loop.create_server(one, "127.0.0.1", 0)
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, listening.sockets[0].getsockname())
    wire = Wire(sock)
    await wire.send(b"STARTTLS\r\n")
    server = await made.get()
    await server.until(b"STARTTLS\r\n")
    server.read.clear()
    # A task begins later than it is made: what is read until then would be no part of the handshake.
    server.transport.pause_reading()
    yield server, wire
    wire.close()
    server.transport.abort()
    listening.close()
    await listening.wait_closed()


async def test_octets_go_both_ways(ends: tuple[Server, Wire]) -> None:
    server, wire = ends
    async with asyncio.TaskGroup() as group:
        group.create_task(server.shake())
        group.create_task(_client(wire))
    await server.until(b"EHLO x\r\n")
    server.transport.write(b"250 ok\r\n")
    assert await wire.answer() == b"250 ok\r\n"
    found: Any = server.transport.get_extra_info("ssl_object")
    assert found.version() == "TLSv1.3"
    server.transport.close()
    assert await wire.answer() == b"", "the end of TLS was not said"


async def _client(wire: Wire) -> None:
    await wire.shake()
    await wire.protected(b"EHLO x\r\n")


@pytest.mark.parametrize("cut", [1, 5, 100, 100_000])
async def test_a_handshake_that_was_read_already_goes_on(ends: tuple[Server, Wire], cut: int) -> None:
    """Behind a PROXY header the handshake may come in the same segment."""
    server, wire = ends
    hello = wire.hello()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.shake(begun=hello[:cut]))
        await wire.send(hello[cut:])
        group.create_task(_client(wire))
    await server.until(b"EHLO x\r\n")


async def test_clear_text_behind_starttls_is_never_a_command(ends: tuple[Server, Wire]) -> None:
    """Security 6: what comes before the handshake is not taken for what comes after it."""
    server, wire = ends
    await wire.send(b"MAIL FROM:<a@b.example>\r\n")
    with pytest.raises(HandshakeError, match="the TLS handshake failed: "):
        await server.shake()
    assert server.read == b""
    assert b"250" not in await wire.octets()


async def test_a_silent_client_is_cut_off(ends: tuple[Server, Wire]) -> None:
    """Security 14."""
    server, wire = ends
    with pytest.raises(HandshakeError, match="did not end in time"):
        await server.shake(0.05)
    assert await wire.octets() == b""


async def test_a_client_that_is_slow_is_cut_off_too(ends: tuple[Server, Wire]) -> None:
    """Security 14."""
    server, wire = ends
    await wire.send(wire.hello()[:20])
    with pytest.raises(HandshakeError, match="did not end in time"):
        await server.shake(0.05)


async def test_a_client_goes_in_the_handshake(ends: tuple[Server, Wire]) -> None:
    server, wire = ends
    shaking = asyncio.create_task(server.shake())
    await wire.send(wire.hello())
    await wire.octets()
    wire.leave()
    with pytest.raises(HandshakeError, match="closed the connection"):
        await shaking


async def test_a_handshake_that_is_cancelled_leaves_no_connection(ends: tuple[Server, Wire]) -> None:
    server, wire = ends
    shaking = asyncio.create_task(server.shake())
    await wire.send(wire.hello())
    await wire.octets()
    shaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shaking
    with contextlib.suppress(ConnectionError):
        assert await wire.octets() == b""


async def test_one_cancelled_before_it_began(ends: tuple[Server, Wire]) -> None:
    server, wire = ends
    shaking = asyncio.create_task(server.shake())
    await asyncio.sleep(0)
    shaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shaking
    assert await wire.octets() == b""
