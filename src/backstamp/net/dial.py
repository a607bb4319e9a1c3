"""A connected socket to exactly one address, or why there is none.

The address was judged before; nothing is resolved here. One address, one try: which is next
is for others to say.
"""

import asyncio
import errno
import os
import socket
from typing import Final

from backstamp.mail.fault import Fault, Phase

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What this machine lacks: no host is to blame, and none would do."""


async def dial(
    address: str, port: int, *, seconds: float, source: str | None = None
) -> socket.socket | Fault:
    """Connect to an IPv4 or IPv6 address, from `source` if given, within so many seconds."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a machine without IPv6: the next candidate may do
        return _refused(error)
    try:
        sock.setblocking(False)
        # Commands are written in groups already; waiting for more would only add delay (Nagle).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            try:
                sock.bind((source, 0))
            except OSError as error:
                sock.close()
                why = f"no connection can be made from {source}: {reason(error)}"
                return Fault(Phase.CONNECT, "refused", why)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError:
        sock.close()
        return Fault(Phase.CONNECT, "timeout", f"no connection within {seconds:g} seconds")
    except OSError as error:
        sock.close()
        return _refused(error)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(error: OSError) -> Fault:
    problem = "resources" if error.errno in _OURS else "refused"
    return Fault(Phase.CONNECT, problem, f"no connection: {reason(error)}")


def reason(error: OSError) -> str:
    """Return why the system refused, in its words, lower case.

    By number where there is one: the loop overwrites the words of a failed connect with the address.
    """
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
