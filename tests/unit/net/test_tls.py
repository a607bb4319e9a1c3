"""The two contexts towards hosts: what each trusts, and when the trust store is read."""

import ssl
from pathlib import Path

import pytest
import trustme

from backstamp.net.tls import Contexts
from backstamp.policy.destination import Tls


def trusted(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of this machine's trust store, which is not there yet."""
    path = tmp_path / "trusted.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return path


async def test_the_trust_store_is_read_when_it_is_demanded_and_once(store: Path) -> None:
    contexts = Contexts()
    for demand in (Tls.NONE, Tls.MAY, Tls.ENCRYPT):
        assert (await contexts.demanded(demand)).verify_mode is ssl.CERT_NONE
    trustme.CA().cert_pem.write_to_path(str(store))
    found = await contexts.demanded(Tls.VERIFY)
    assert (found.verify_mode, found.check_hostname, trusted(found)) == (ssl.CERT_REQUIRED, True, 1)
    assert found.minimum_version is ssl.TLSVersion.TLSv1_2
    store.unlink()
    assert await contexts.demanded(Tls.VERIFY) is found


async def test_a_trust_store_that_could_not_be_read_is_read_again(store: Path) -> None:
    """OpenSSL says nothing where it cannot open the file: out of descriptors is nobody trusted."""
    contexts = Contexts()
    nobody = await contexts.demanded(Tls.VERIFY)
    assert (nobody.verify_mode, trusted(nobody)) == (ssl.CERT_REQUIRED, 0)
    trustme.CA().cert_pem.write_to_path(str(store))
    assert trusted(await contexts.demanded(Tls.VERIFY)) == 1
