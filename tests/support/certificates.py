"""Certificates in files, for servers and clients under test."""

import datetime
from pathlib import Path

import trustme


def written(authority: trustme.CA, directory: Path, *names: str, days: float = 90.0) -> tuple[str, str]:
    """Write a certificate for names that ends in so many days, and its key; return the files."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = authority.issue_cert(*names, not_before=end - datetime.timedelta(days=100), not_after=end)
    return save(made, directory / "cert.pem", directory / "key.pem")


def save(made: trustme.LeafCert, certificate: Path, key: Path) -> tuple[str, str]:
    """Write a certificate and its key into files; return their names."""
    certificate.parent.mkdir(parents=True, exist_ok=True)
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return str(certificate), str(key)
