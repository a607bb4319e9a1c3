"""TLS towards clients: contexts of certificates, which the ssl module takes from files only.

What is in those files `pem` knows.
"""

import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

Stamps = tuple[tuple[int, ...] | None, ...]


class CertificateError(Exception):
    """A file is no good; `file` names it and the text says why, as what follows its name."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(why)
        self.file = file

    def __str__(self) -> str:
        """Return name and reason as one line."""
        return f"{self.file} {self.args[0]}"


class Certificate(msgspec.Struct, frozen=True):
    """What is to be known of a server's certificate.

    `names` are the DNS names it is for, in lower case, wildcards as they stand; `ends` is its last second
    since the epoch: the earliest one of its chain.
    """

    names: tuple[str, ...]
    begins: float
    ends: float


class ClientCertificate(msgspec.Struct, frozen=True):
    """A client's certificate that was verified.

    `names` are its DNS names in lower case; `fingerprint` is `sha256:` and 64 hexadecimal digits.
    """

    names: tuple[str, ...]
    fingerprint: str


def server_context(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """Return a context of a server that shows a certificate (RFC 8996, RFC 9325).

    With `client_ca` it asks clients for a certificate and verifies one that is given.

    Raises:
        CertificateError: OpenSSL will not have a file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        raise CertificateError(certificate, f"is not taken by OpenSSL: {_reason(error)}") from None
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except (ssl.SSLError, OSError) as error:
            raise CertificateError(client_ca, f"is not taken by OpenSSL: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
        # One client's own certificate may stand there in an authority's place.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # A resumed session would bring a certificate nobody looked at again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def describe(found: ssl.SSLObject) -> str:
    """Return version and cipher as a trace line has them: `TLSv1.3:TLS_AES_256_GCM_SHA384`."""
    cipher = found.cipher()
    return f"{found.version()}:{cipher[0]}" if cipher else ""


def day(seconds: float) -> str:
    """Return a date as `2026-05-01`."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def stamps(files: Iterable[str]) -> Stamps:
    """Return what differs once a file, or a link to one, is written anew or replaced; None: no file."""
    found: list[tuple[int, ...] | None] = []
    for file in files:
        try:
            seen = os.stat(file)
        except OSError:
            found.append(None)
        else:
            found.append((seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size))
    return tuple(found)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).replace("_", " ").lower()
