"""Opening a session as a test wants it: an address, and what differs from the usual."""

import functools
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from backstamp.mail.fault import Fault
from backstamp.net.client import Refusal
from backstamp.net.connection import Connection
from backstamp.net.dial import dial
from backstamp.net.opening import open_session
from backstamp.net.tls import Contexts
from backstamp.policy.destination import DestinationPolicy, Timeouts, Tls
from backstamp.policy.manner import Manner

PLAIN = Manner(DestinationPolicy(), "relay.example.org", tls=Tls.NONE)

usual = functools.cache(Contexts)
"""The contexts, made once."""


async def connect(
    address: str,
    port: int,
    *,
    timeouts: Timeouts | None = None,
    host: str = "",
    contexts: Contexts | None = None,
    tune: Callable[[socket.socket], None] | None = None,
    **manner: Any,
) -> Connection | Refusal | Fault:
    """Dial and open a session in clear text; `manner` changes fields of the `Manner`, `tune` the socket."""
    policy = DestinationPolicy(timeouts=timeouts or Timeouts())
    sock = await dial(address, port, seconds=policy.timeouts.connect)
    if isinstance(sock, Fault):
        return sock
    if tune is not None:
        tune(sock)
    how = msgspec.structs.replace(PLAIN, policy=policy, **manner)
    return await open_session(sock, host=host or address, manner=how, contexts=contexts or usual())
