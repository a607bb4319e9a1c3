"""The socket file of a listener: who may open it, whose it is, and when it goes."""

import asyncio
import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.support.door import door

from backstamp.listener.local import SocketFile
from backstamp.telemetry.events import Accepted


@pytest.fixture
def path() -> Iterator[str]:
    # A socket's path is short; that of a test's own directory may not be.
    with tempfile.TemporaryDirectory(prefix="bs") as directory:
        yield f"{directory}/smtp.sock"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_the_file_has_the_mode_it_was_given_and_goes_with_the_listener(path: str, mode: int) -> None:
    async with door(host=path, mode=mode):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
        assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert not os.path.exists(path)


def test_nobody_connects_before_the_mode_is_set(path: str) -> None:
    """Security 10: the file is not listened on before its mode says who may relay."""
    file = SocketFile(path, 0o600)
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(path)
    file.socket.close()


async def test_who_opens_it_may_relay_and_is_called_local(path: str) -> None:
    """RFC 5321 §4.4: the Received field has a name and a literal of this machine, not of the client."""
    bound = f"{path}.client"
    async with door(host=path, allow=()) as opened:
        with socket.socket(socket.AF_UNIX) as client:
            client.bind(bound)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, path)
            reader, writer = await asyncio.open_unix_connection(sock=client)
            writer.write(b"EHLO me\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
            writer.write(b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
            assert b"queued as" in await reader.read()
            writer.close()
        [message] = opened.queue.messages
        assert message.content.startswith(
            b"Received: from me (localhost [127.0.0.1])\r\n\tby relay.example.org"
        )
        [accepted] = [one for one in opened.events if isinstance(one, Accepted)]
        assert accepted.client == "local"


def test_a_file_that_a_dead_process_left_is_taken_over(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    file = SocketFile(path, 0o600)
    file.socket.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    file.socket.close()


def test_a_file_somebody_listens_on_is_left_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(OSError, match="somebody listens there"):
            SocketFile(path, 0o600)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).write_text("mine")
    with pytest.raises(OSError, match="no socket"):
        SocketFile(path, 0o600)
    assert Path(path).read_text() == "mine"


def test_a_directory_that_is_not_there_is_said(path: str) -> None:
    with pytest.raises(OSError, match="its directory is not there"):
        SocketFile(f"{path}/x.sock", 0o600)


async def test_a_file_of_the_next_relay_is_not_removed_by_the_one_before(path: str) -> None:
    async with door(host=path):
        os.unlink(path)
        with contextlib.closing(SocketFile(path, 0o600).socket):
            pass
    assert os.path.exists(path)


async def test_who_comes_by_the_file_is_no_proxy(path: str) -> None:
    """No network is where it comes from: no header is waited for, and none is believed."""
    async with door(host=path, proxies=(ip_network("192.0.2.1/32"),)) as opened:
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"220 ")
        writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 25\r\n")
        assert (await reader.readline()).startswith(b"500 5.5.2")
        writer.close()
        await opened.empty()
