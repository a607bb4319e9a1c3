"""From a plain connection to TLS, while it lives: after STARTTLS, or before anything else.

The loop's own `start_tls` does it, on asyncio and uvloop alike; what they leave open is closed
here. A handshake has a time to end in; one that fails leaves no connection. Neither loop tells a
protocol surely that its connection went in the handshake, and uvloop forgets who waits for one
that was aborted: whoever wants to end a handshake cancels its task.
"""

import asyncio
import ssl
from typing import Any, Final, cast

from backstamp.text import printable

SHUTDOWN: Final = 5.0
"""Seconds a client has for its part of the end of TLS (close_notify)."""


class HandshakeError(Exception):
    """There is no TLS, and the connection is gone; the text says why."""


async def upgrade(
    plain: asyncio.BaseTransport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    seconds: float,
    begun: bytes = b"",
) -> asyncio.Transport:
    """Shake hands as a server; return the transport that takes the place of `plain`.

    What the protocol held before is no part of what comes now: after STARTTLS it must be nothing, for what
    stands behind the command was said by nobody knows whom (RFC 3207 §4.2; CVE-2011-0411). `begun` is the
    beginning of the handshake, where it was read already (behind a PROXY header). Until the handshake ends
    nothing may be written; what is protected goes to the protocol as soon as it does, before this returns.

    Raises:
        HandshakeError: it failed, or did not end within `seconds`.
        asyncio.CancelledError: as ever; the connection is gone then, too.
    """
    loop = asyncio.get_running_loop()
    wire = cast(asyncio.Transport, plain)
    # Read by nobody until TLS reads: octets that come now are the handshake's.
    wire.pause_reading()
    start = loop.start_tls(
        wire,
        protocol,
        context,
        server_side=True,
        ssl_handshake_timeout=2 * seconds,  # ours is sooner, and one on both loops
        ssl_shutdown_timeout=SHUTDOWN,
    )
    shaking = loop.create_task(start)
    try:
        async with asyncio.timeout(seconds):
            await asyncio.sleep(0)
            if begun:
                # Behind the loop's own first steps, before it reads again.
                loop.call_soon(_feed, wire.get_protocol(), begun)
            upgraded = await shaking
    except TimeoutError:
        wire.abort()
        raise HandshakeError("the TLS handshake did not end in time") from None
    except ssl.SSLError as error:
        wire.abort()
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise HandshakeError(printable(f"the TLS handshake failed: {reason}")) from None
    except OSError:
        wire.abort()
        raise HandshakeError("the client closed the connection in the TLS handshake") from None
    except BaseException:
        shaking.cancel()
        wire.abort()
        raise
    if upgraded is None:
        wire.abort()
        raise HandshakeError("the connection was closed in the TLS handshake")
    return upgraded


def _feed(below: Any, octets: bytes) -> None:
    """Give TLS what was read before it was there."""
    while octets:
        with memoryview(below.get_buffer(len(octets))) as room:
            taken = min(len(room), len(octets))
            room[:taken] = octets[:taken]
        below.buffer_updated(taken)
        octets = octets[taken:]
