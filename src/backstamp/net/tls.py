"""TLS towards other hosts: the two contexts there are, and what is said of a handshake.

One takes any certificate (RFC 7435: better than clear text, no defence against who sits in
between), one only those for the host's name from an authority this machine trusts. Each is
built once: loading the trust store takes longer than a delivery, and a megabyte, so that one
is built when it is first demanded.
"""

import asyncio
import ssl
from typing import Final

from backstamp.policy.destination import Tls
from backstamp.text import printable

_ANY: Final = "DEFAULT:@SECLEVEL=1"
"""Ciphers where any certificate is taken: hosts with short keys are many, and what they
are refused goes out in clear text. Below TLS 1.2 nothing is taken (RFC 8996)."""


class Contexts:
    """The contexts by what is demanded. `verified` replaces the one with the machine's trust store."""

    def __init__(self, verified: ssl.SSLContext | None = None) -> None:
        self._unverified = _made(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE
        self._unverified.set_ciphers(_ANY)
        self._verified = None if verified is None else _made(verified)

    async def demanded(self, tls: Tls) -> ssl.SSLContext:
        """Return the context for what is demanded."""
        if tls < Tls.VERIFY:
            return self._unverified
        if self._verified is not None:
            return self._verified
        context = _made(await asyncio.to_thread(ssl.create_default_context, ssl.Purpose.SERVER_AUTH))
        if context.cert_store_stats()["x509"]:
            self._verified = context
        # A store that could not be opened, for want of file descriptors say, looks like an empty one:
        # it trusts nobody, and is not kept. Nor is one that is a directory, which costs nothing to make.
        return context


def _made(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No session is resumed here, so a ticket has no use; hosts of Microsoft's were seen to break
    # sessions over them (chasquid 1.15.1). Compression gives secrets away (RFC 7525 §3.3).
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    return context


def described(found: ssl.SSLObject) -> str:
    """Return version and cipher: `TLSv1.3 TLS_AES_256_GCM_SHA384`."""
    cipher = found.cipher()
    return f"{found.version()} {cipher[0] if cipher else ''}".strip()


def failure(error: Exception) -> str:
    """Return in words why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return printable(f"the certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        # Errors made in Python have no reason.
        reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
        return printable(f"the TLS handshake failed: {reason}")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "the TLS handshake did not end in time"
    if isinstance(error, OSError):
        return "the server closed the connection in the TLS handshake"
    return printable(f"the TLS handshake failed: {error}")
