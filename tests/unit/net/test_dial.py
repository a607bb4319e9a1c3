"""Connecting to one address: what keeps it from a connection is told as it is."""

import asyncio
import errno
import socket

import pytest
import uvloop

from backstamp.mail.fault import Fault, Phase
from backstamp.net.dial import dial, reason

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refused_connection_says_so(loop: str) -> None:
    """Both loops put the address in the place of the reason."""
    with socket.socket() as taken, asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        # Bound and not listening: nobody else gets this port, and nobody answers there.
        taken.bind(("127.0.0.1", 0))
        found = runner.run(dial("127.0.0.1", taken.getsockname()[1], seconds=5))
    assert found == Fault(Phase.CONNECT, "refused", "no connection: connection refused")


async def test_a_source_that_is_not_ours_says_so() -> None:
    found = await dial("127.0.0.1", 1, seconds=5, source="192.0.2.1")
    why = "no connection can be made from 192.0.2.1: cannot assign requested address"
    assert found == Fault(Phase.CONNECT, "refused", why)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 25)"), "no route to host"),
        (OSError(errno.ENETUNREACH, "Connect call failed ('192.0.2.1', 25)"), "network is unreachable"),
        (OSError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError("Something Else"), "something else"),
    ],
)
def test_the_reason_is_the_system_s(error: OSError, words: str) -> None:
    assert reason(error) == words


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_what_this_machine_lacks_is_no_host_s_refusal(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> socket.socket:
        raise OSError(number, "nothing left")

    monkeypatch.setattr(socket, "socket", lacking)
    found = await dial("127.0.0.1", 1, seconds=5)
    assert isinstance(found, Fault)
    assert (found.phase, found.problem) == (Phase.CONNECT, "resources")
