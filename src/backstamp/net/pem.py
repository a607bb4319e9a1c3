"""Certificates and keys in PEM, judged before they are shown; and who a client is by its own.

OpenSSL tells of what is wrong with a file in words of its own, and of one mistake at a time; here files
are read first, and what is wrong is a sentence.
"""

import hashlib
import ssl
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from backstamp.net.server_tls import Certificate, CertificateError, ClientCertificate

LARGEST: Final = 1_000_000
"""Octets of a file: a chain has a few thousand, an authority's list some hundred thousand."""


def read_pair(certificate: str, key: str) -> Certificate:
    """Return what a file of a chain says, if the other holds its key.

    Raises:
        CertificateError: one cannot be read, is no PEM, has a passphrase, or they are not a pair.
    """
    chain = read_certificates(certificate)
    private = read_key(key)
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


def read_certificates(file: str) -> list[x509.Certificate]:
    """Return the certificates of a file: a chain, or authorities.

    Raises:
        CertificateError: it cannot be read, or holds no certificates in PEM.
    """
    try:
        return x509.load_pem_x509_certificates(_content(file))
    except ValueError:
        raise CertificateError(file, "is no certificate in PEM") from None


def read_key(file: str) -> PrivateKeyTypes:
    """Return the private key of a file.

    Raises:
        CertificateError: it cannot be read, is no PEM, or has a passphrase.
    """
    octets = _content(file)
    try:
        return load_pem_private_key(octets, None)
    except TypeError:
        raise CertificateError(file, "has a passphrase; write it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(file, "is no private key in PEM") from None


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


def _names(file: str, certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    except (ValueError, x509.DuplicateExtension):
        raise CertificateError(file, "has names that cannot be read") from None
    return tuple(name.lower() for name in found.value.get_values_for_type(x509.DNSName))
