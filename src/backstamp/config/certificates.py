"""The certificate files a configuration names, looked at once at every load.

Whether they can be read, and are what they should be; not whether they are still valid: that a
running relay tells, and mail goes on.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backstamp.config import words
from backstamp.config.between import Mistakes, rows
from backstamp.config.lines import Path
from backstamp.net.pem import read_certificates, read_key, read_pair
from backstamp.net.server_tls import CertificateError, server_context


def mistakes(document: Mapping[str, Any]) -> Mistakes:
    """Return what is wrong with the certificates, keys and authorities of listeners with TLS."""
    found: Mistakes = []
    for index, table in rows(document, "listen"):
        if table.get("tls") not in ("starttls", "implicit"):
            continue
        path: Path = ("listen", index)
        for place, pair in _pairs(table):
            for error in _wrong(*pair):
                key = "key" if error.file == pair[1] != pair[0] else "certificate"
                found.append(((*path, *place, key), f"{words.shown(error.file, 1000)} {error.args[0]}"))
        authorities = table.get("client_ca")
        if isinstance(authorities, str) and authorities:
            try:
                read_certificates(authorities)
            except CertificateError as error:
                found.append(((*path, "client_ca"), f"{words.shown(authorities, 1000)} {error.args[0]}"))
    return found


def _wrong(certificate: str, key: str) -> list[CertificateError]:
    """Return what is wrong with each of two files, else what is wrong between them."""
    looks: list[tuple[Callable[..., object], str]] = [(read_certificates, certificate), (read_key, key)]
    found = [error for read, file in looks if (error := _told(read, file)) is not None]
    # OpenSSL has demands of its own, as on the length of keys.
    for judge in (read_pair, server_context):
        if not found and (error := _told(judge, certificate, key)) is not None:
            found = [error]
    return found[:1] if certificate == key else found


def _told(read: Callable[..., object], *files: str) -> CertificateError | None:
    try:
        read(*files)
    except CertificateError as error:
        return error
    return None


def _pairs(table: Mapping[str, Any]) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Yield the files that belong together, with the place of their table."""
    places: list[tuple[Path, Mapping[str, Any]]] = [((), table)]
    places += [(("more_certificates", place), one) for place, one in rows(table, "more_certificates")]
    for path, one in places:
        certificate, key = one.get("certificate"), one.get("key")
        if isinstance(certificate, str) and certificate and isinstance(key, str) and key:
            yield path, (certificate, key)
