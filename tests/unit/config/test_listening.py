"""What a listener's keys must keep between them, and the files they name."""

from pathlib import Path

import pytest
import trustme
from tests.support.certificates import written

from backstamp.config import certificates, listening
from backstamp.config.load import parse
from backstamp.config.names import fingerprint
from backstamp.config.problem import ConfigurationError
from backstamp.listener.settings import TlsSettings

NO_TLS = "means something only with tls = starttls or implicit"
PRINT = "9F:" * 31 + "0a"


def wrong(table: dict[str, object]) -> list[tuple[str, str]]:
    return [(str(path[-1]), text) for path, text in listening.mistakes({"listen": [{}, table]})]


@pytest.mark.parametrize("mode", [{}, {"tls": "none"}])
@pytest.mark.parametrize(
    "key",
    [
        "certificate",
        "key",
        "tls_required",
        "more_certificates",
        "client_ca",
        "client_names",
        "client_fingerprints",
    ],
)
def test_without_tls_nobody_sees_a_certificate(mode, key):
    assert wrong({**mode, key: "c"}) == [(key, NO_TLS)]


def test_tls_needs_certificate_and_key():
    assert wrong({"tls": "implicit"}) == [
        ("tls", "implicit needs a certificate; write certificate = a file in PEM"),
        ("tls", "implicit needs a key; write key = a file in PEM"),
    ]
    assert wrong({"tls": "starttls", "certificate": "c", "key": "k"}) == []
    assert wrong({"tls": "what"}) == []


def test_clients_certificates_are_verified_and_let_somebody_in():
    with_tls = {"tls": "starttls", "certificate": "c", "key": "k"}
    assert wrong({**with_tls, "client_ca": "c"}) == [
        ("client_ca", "lets nobody in by itself; write client_names or client_fingerprints")
    ]
    for key in ("client_names", "client_fingerprints"):
        assert wrong({**with_tls, key: ["x"]}) == [
            (key, "needs client_ca, which verifies clients' certificates")
        ]
        assert wrong({**with_tls, key: ["x"], "client_ca": "c"}) == []


def test_fingerprints_are_one_spelling():
    assert fingerprint(f"sha256:{PRINT}") == "sha256:" + "9f" * 31 + "0a"
    assert fingerprint("sha256:" + "9F" * 32) == "sha256:" + "9f" * 32
    for bad in ("9f" * 32, "sha1:" + "9f" * 20, "sha256:" + "9f" * 31, "sha256:" + "9f" * 33, PRINT, 5):
        with pytest.raises(ValueError, match="not a fingerprint"):
            fingerprint(bad)


def document(text: str) -> bytes:
    return f"""\
hostname = "relay.example.org"
[queue]
directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
{text}""".encode()


def test_files_become_settings(tmp_path: Path):
    authority = trustme.CA()
    one, two = (written(authority, tmp_path / name, f"{name}.example.org") for name in ("a", "b"))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    text = f"""\
tls = "starttls"
tls_required = true
certificate = "{one[0]}"
key = "{one[1]}"
more_certificates = [{{certificate = "{two[0]}", key = "{two[1]}"}}]
client_ca = "{tmp_path}/ca.pem"
client_names = ["App.example.org"]
client_fingerprints = ["sha256:{PRINT}"]
proxies = ["10.0.0.5/32", "fd00::5"]
"""
    (listener,) = parse(document(text), "x.toml").listeners
    assert listener.tls == TlsSettings(
        "starttls",
        (one, two),
        f"{tmp_path}/ca.pem",
        frozenset({"app.example.org"}),
        frozenset({"sha256:" + "9f" * 31 + "0a"}),
        required=True,
    )
    assert [str(network) for network in listener.proxies] == ["10.0.0.5/32", "fd00::5/128"]


def test_without_tls_there_is_none():
    (listener,) = parse(document(""), "x.toml").listeners
    assert (listener.tls, listener.proxies) == (TlsSettings(), ())


def test_what_is_wrong_with_files_is_told_at_their_key(tmp_path: Path):
    authority = trustme.CA()
    one, two = (written(authority, tmp_path / name, f"{name}.example.org") for name in ("a", "b"))
    text = f"""\
tls = "implicit"
certificate = "{one[0]}"
key = "{two[1]}"
client_ca = "{one[1]}"
client_names = ["app.example.org"]
[[listen.more_certificates]]
certificate = "{tmp_path}/missing.pem"
key = "{two[1]}"
"""
    with pytest.raises(ConfigurationError) as raised:
        parse(document(text), "x.toml")
    assert [str(problem) for problem in raised.value.problems] == [
        f'x.toml:8: listen[0].key: "{two[1]}" is not the key of {one[0]}',
        f'x.toml:9: listen[0].client_ca: "{one[1]}" is no certificate in PEM',
        f'x.toml:12: listen[0].more_certificates[0].certificate: "{tmp_path}/missing.pem" cannot be read:'
        " no such file or directory",
    ]


def test_both_files_of_a_pair_are_told_at_once(tmp_path: Path):
    (tmp_path / "none.pem").write_text("nothing")
    text = f"""\
tls = "implicit"
certificate = "{tmp_path}/missing.pem"
key = "{tmp_path}/none.pem"
[[listen]]
address = "127.0.0.1:2526"
tls = "implicit"
certificate = "{tmp_path}/missing.pem"
key = "{tmp_path}/missing.pem"
"""
    with pytest.raises(ConfigurationError) as raised:
        parse(document(text), "x.toml")
    missing = f'certificate: "{tmp_path}/missing.pem" cannot be read: no such file or directory'
    assert [str(problem) for problem in raised.value.problems] == [
        f"x.toml:7: listen[0].{missing}",
        f'x.toml:8: listen[0].key: "{tmp_path}/none.pem" is no private key in PEM',
        f"x.toml:12: listen[1].{missing}",
    ]


@pytest.mark.parametrize("strange", [None, 5, [5], [{"tls": "starttls", "certificate": 5, "key": ""}], [{}]])
def test_what_names_no_file_is_passed_over(strange):
    assert certificates.mistakes({"listen": strange}) == []


def test_strangers_through_a_proxy_are_an_open_relay():
    """Security 10: behind a proxy a listener on loopback is reached from everywhere."""
    allow = 'allow = ["0.0.0.0/0"]\n'
    parse(document(allow), "x.toml")
    with pytest.raises(ConfigurationError, match="open relay"):
        parse(document(allow + 'proxies = ["127.0.0.1"]\n'), "x.toml")
    with pytest.raises(ConfigurationError, match=r"listen\[0\]\.proxies\[0\]"):
        parse(document('proxies = ["::/0"]\n'), "x.toml")
