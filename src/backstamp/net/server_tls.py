"""TLS towards clients: certificates from files, judged before they are shown, and contexts of them.

The ssl module takes certificates from files only, and tells of what is wrong with them in
OpenSSL's words; here they are read first, and what is wrong is a sentence.
"""

import hashlib
import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

Stamps = tuple[tuple[int, ...] | None, ...]

LARGEST: Final = 1_000_000
"""Octets of a file: a chain has a few thousand, an authority's list some hundred thousand."""


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


def read_pair(certificate: str, key: str) -> Certificate:
    """Return what a file of a chain says, if the other holds its key.

    Raises:
        CertificateError: one cannot be read, is no PEM, has a passphrase, or they are not a pair.
    """
    chain = _certificates(certificate)
    octets = _content(key)
    try:
        private = load_pem_private_key(octets, None)
    except TypeError:
        raise CertificateError(key, "has a passphrase; write it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(key, "is no private key in PEM") from None
    try:
        shown = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(certificate, "has a key of a kind that is not known") from None
    if private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != shown:
        raise CertificateError(key, f"is not the key of {certificate}")
    return Certificate(
        _names(certificate, chain[0]),
        max(one.not_valid_before_utc.timestamp() for one in chain),
        min(one.not_valid_after_utc.timestamp() for one in chain),
    )


def read_authorities(file: str) -> None:
    """Look at a file of authorities.

    Raises:
        CertificateError: it cannot be read, or holds no certificates in PEM.
    """
    _certificates(file)


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


def identity(found: ssl.SSLObject) -> ClientCertificate | None:
    """Return a client's certificate, None where none was given or none asked for."""
    octets = found.getpeercert(binary_form=True)
    if not found.getpeercert() or octets is None:  # the first is empty where none was verified
        return None
    certificate = x509.load_der_x509_certificate(octets)
    try:
        names = _names("", certificate)
    except CertificateError:
        names = ()
    return ClientCertificate(names, f"sha256:{hashlib.sha256(octets).hexdigest()}")


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


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            octets = stream.read(LARGEST + 1)
    except OSError as error:
        raise CertificateError(file, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except ValueError:
        raise CertificateError(file, "is not the name of a file") from None
    if len(octets) > LARGEST:
        raise CertificateError(file, f"has more than {LARGEST} octets")
    return octets


def _certificates(file: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(file))
    except ValueError:
        raise CertificateError(file, "is no certificate in PEM") from None


def _names(file: str, certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    except (ValueError, x509.DuplicateExtension):
        raise CertificateError(file, "has names that cannot be read") from None
    return tuple(name.lower() for name in found.value.get_values_for_type(x509.DNSName))


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).replace("_", " ").lower()
