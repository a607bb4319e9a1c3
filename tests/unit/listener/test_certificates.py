"""Certificates clients see: chosen by name, renewed while sessions go on; and theirs."""

import datetime
import hashlib
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tests.support.certificates import save, written

from backstamp.listener.certificates import Certificates
from backstamp.listener.settings import TlsSettings
from backstamp.net.pem import identity, read_pair
from backstamp.net.server_tls import CertificateError, describe
from backstamp.telemetry.events import Alarm, Event, Renewed

DAY = 86400.0
AUTHORITY = trustme.CA()


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._start = datetime.datetime.now(datetime.UTC).timestamp()

    def wall(self) -> float:
        return self._start + self.passed

    def monotonic(self) -> float:
        return self.passed


class Shown:
    """The certificates of a listener and what was told of them."""

    def __init__(self, *pairs: tuple[str, str], **more: Any) -> None:
        self.clock = Time()
        self.events: list[Event] = []
        settings = TlsSettings("starttls", pairs, **more)
        self.certificates = Certificates(settings, clock=self.clock, emit=self.events.append)

    def after(self, seconds: float) -> list[Event]:
        """Let time pass, look, and return what was told."""
        self.clock.passed += seconds
        self.events.clear()
        self.certificates.poll()
        return list(self.events)

    def handshake(self, name: str | None = None, client: ssl.SSLContext | None = None) -> "Both":
        return Both(self.certificates.context(), client or trusting(), name)


class Both:
    """Both ends of a session, in memory."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(up, down, server_side=True)
        self.client = client.wrap_bio(down, up, server_hostname=name)
        for _ in range(3):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue

    @property
    def names(self) -> list[str]:
        """The names in the certificate the client saw."""
        seen: Any = self.client.getpeercert()
        return [value for _, value in seen["subjectAltName"]]

    def exchange(self) -> bytes:
        """Send something in both directions, return what arrived."""
        self.client.write(b"NOOP")
        self.server.write(b"250 " + self.server.read(100))
        return self.client.read(100)


def trusting(*, authority: trustme.CA = AUTHORITY, check: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    context.check_hostname = check
    return context


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    return written(AUTHORITY, tmp_path, "relay.example.org")


# ---- which one ----


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (None, "first.example.org"),
        ("unknown.example.net", "first.example.org"),
        ("first.example.org", "first.example.org"),
        ("second.example.org", "second.example.org"),
        ("SECOND.example.ORG", "second.example.org"),
        ("a.wild.example.org", "*.wild.example.org"),
        ("own.wild.example.org", "own.wild.example.org"),
        ("a.b.wild.example.org", "first.example.org"),
        ("wild.example.org", "first.example.org"),
    ],
)
def test_the_name_a_client_asks_for_chooses(tmp_path: Path, asked: str | None, seen: str) -> None:
    names = ["first.example.org", "second.example.org", "*.wild.example.org", "own.wild.example.org"]
    shown = Shown(*(written(AUTHORITY, tmp_path / str(i), name) for i, name in enumerate(names)))
    both = shown.handshake(asked)
    assert both.names == [seen]
    assert both.exchange() == b"250 NOOP"


def test_the_first_of_two_for_a_name_is_shown(tmp_path: Path) -> None:
    pairs = [written(AUTHORITY, tmp_path / str(i), "a.example.org", f"n{i}.example.org") for i in range(3)]
    assert Shown(*pairs).handshake("a.example.org").names == ["a.example.org", "n0.example.org"]


# ---- how ----


def test_what_a_session_is_protected_by(pair: tuple[str, str]) -> None:
    both = Shown(pair).handshake("relay.example.org", trusting(check=True))
    assert describe(both.server) == f"TLSv1.3:{both.client.cipher()[0]}"  # type: ignore[index]
    assert both.server.compression() is None


def test_tls_1_2_is_spoken_with_forward_secrecy(pair: tuple[str, str]) -> None:
    client = trusting()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert describe(Shown(pair).handshake(None, client).server).startswith("TLSv1.2:ECDHE-")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused(pair: tuple[str, str]) -> None:
    """RFC 8996: neither TLS 1.0 nor 1.1."""
    client = trusting()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)unsupported.protocol|protocol.version"):
        Shown(pair).handshake(None, client)


def test_nothing_is_compressed_or_renegotiated(pair: tuple[str, str]) -> None:
    options = Shown(pair).certificates.context().options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION


# ---- renewals ----


def test_a_renewed_certificate_is_shown_and_sessions_go_on(tmp_path: Path, pair: tuple[str, str]) -> None:
    shown = Shown(pair)
    before = shown.handshake()
    written(AUTHORITY, tmp_path, "renewed.example.org", days=80)
    (told,) = shown.after(2)
    assert isinstance(told, Renewed)
    assert told.certificates == (pair[0],)
    assert told.until == pytest.approx(shown.clock.wall() + 80 * DAY, abs=10)
    assert shown.handshake().names == ["renewed.example.org"]
    assert before.exchange() == b"250 NOOP"
    assert before.names == ["relay.example.org"]
    assert shown.after(60) == []


def test_a_new_connection_is_enough_to_see_it(tmp_path: Path, pair: tuple[str, str]) -> None:
    shown = Shown(pair)
    written(AUTHORITY, tmp_path, "renewed.example.org")
    assert shown.handshake().names == ["relay.example.org"], "looked at twice within a second"
    shown.clock.passed += 1
    assert shown.handshake().names == ["renewed.example.org"]


def test_links_are_followed_as_certbot_swaps_them(tmp_path: Path) -> None:
    written(AUTHORITY, tmp_path / "1", "old.example.org")
    written(AUTHORITY, tmp_path / "2", "new.example.org")
    files = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    for file in files:
        file.symlink_to(tmp_path / "1" / file.name)
    shown = Shown((str(files[0]), str(files[1])))
    for file in files:
        (tmp_path / "new").symlink_to(tmp_path / "2" / file.name)
        os.replace(tmp_path / "new", file)
        shown.after(1)
    assert shown.handshake().names == ["new.example.org"]


def half(directory: Path) -> str:
    """Write another key's certificate."""
    save(AUTHORITY.issue_cert("x.example.org"), directory / "cert.pem", directory / "other.pem")
    return f"{directory}/key.pem is not the key of {directory}/cert.pem"


def torn(directory: Path) -> str:
    (directory / "cert.pem").write_bytes((directory / "cert.pem").read_bytes()[:300])
    return f"{directory}/cert.pem is no certificate in PEM"


def gone(directory: Path) -> str:
    (directory / "key.pem").unlink()
    return f"{directory}/key.pem cannot be read: no such file or directory"


def over(directory: Path) -> str:
    written(AUTHORITY, directory, "x.example.org", days=-1)
    return f"{directory}/cert.pem expired on "


def early(directory: Path) -> str:
    written(AUTHORITY, directory, "x.example.org", days=120)
    return f"{directory}/cert.pem is not valid before "


@pytest.mark.parametrize("broken", [half, torn, gone, over, early])
def test_a_broken_renewal_changes_nothing_and_is_told_once(
    tmp_path: Path, pair: tuple[str, str], broken: Any
) -> None:
    shown = Shown(pair)
    why = broken(tmp_path)
    assert shown.after(1) == [], "it may be half done"
    (told,) = shown.after(10)
    assert isinstance(told, Alarm)
    assert told.problem.startswith(f"renewed certificates cannot be used: {why}")
    assert told.action == "the old ones are shown; write a certificate and its key anew"
    assert shown.after(1000) == []
    assert shown.handshake().names == ["relay.example.org"]
    written(AUTHORITY, tmp_path, "renewed.example.org")
    (told,) = shown.after(1)
    assert isinstance(told, Renewed)
    assert shown.handshake().names == ["renewed.example.org"]
    assert shown.after(1000) == []


def test_a_renewal_that_takes_a_moment_is_no_alarm(tmp_path: Path, pair: tuple[str, str]) -> None:
    shown = Shown(pair)
    made = AUTHORITY.issue_cert("x.example.org")
    save(made, tmp_path / "cert.pem", tmp_path / "later.pem")
    assert shown.after(1) == []
    os.replace(tmp_path / "later.pem", tmp_path / "key.pem")
    assert [type(told) for told in shown.after(5)] == [Renewed]
    assert shown.after(100) == []


def test_a_certificate_that_ends_soon_is_told_once_a_day(tmp_path: Path) -> None:
    shown = Shown(written(AUTHORITY, tmp_path, "relay.example.org", days=20))
    assert shown.events == []
    assert shown.after(5 * DAY) == []
    (told,) = shown.after(1.5 * DAY)
    assert isinstance(told, Alarm)
    assert told.problem.startswith(f"the certificate {tmp_path}/cert.pem ends on 20")
    assert shown.after(DAY / 2) == []
    assert len(shown.after(DAY / 2)) == 1
    (told,) = shown.after(20 * DAY)
    assert isinstance(told, Alarm)
    assert " ended on 20" in told.problem


def test_only_the_one_that_ends_is_named(tmp_path: Path) -> None:
    good = written(AUTHORITY, tmp_path / "good", "a.example.org")
    shown = Shown(good, written(AUTHORITY, tmp_path / "bad", "b.example.org", days=-2))
    (told,) = shown.events
    assert isinstance(told, Alarm)
    assert told.problem.startswith(f"the certificate {tmp_path}/bad/cert.pem ended on ")


# ---- files that are no good ----


def test_what_is_wrong_with_files_is_a_sentence(tmp_path: Path, pair: tuple[str, str]) -> None:
    certificate, key = pair
    nothing, locked, large = tmp_path / "nothing.pem", tmp_path / "locked.pem", tmp_path / "large.pem"
    nothing.write_text("nothing")
    large.write_bytes(bytes(1_000_001))
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
    )
    other = written(AUTHORITY, tmp_path / "other", "x.example.org")[1]
    for one, two, why in (
        (str(nothing), key, f"{nothing} is no certificate in PEM"),
        (certificate, str(nothing), f"{nothing} is no private key in PEM"),
        (certificate, certificate, f"{certificate} is no private key in PEM"),
        (certificate, str(locked), f"{locked} has a passphrase; write it without one"),
        (certificate, other, f"{other} is not the key of {certificate}"),
        (certificate, str(large), f"{large} has more than 1000000 octets"),
        (certificate, str(tmp_path), f"{tmp_path} cannot be read: is a directory"),
        ("a\0b", key, "a\0b is not the name of a file"),
    ):
        with pytest.raises(CertificateError) as raised:
            read_pair(one, two)
        assert str(raised.value) == why
    with pytest.raises(CertificateError):
        Shown((certificate, other))


# ---- clients' certificates ----


def client_with(made: trustme.LeafCert | None) -> ssl.SSLContext:
    context = trusting()
    if made is not None:
        made.configure_cert(context)
    return context


def test_a_client_is_known_by_its_certificate(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Security 10: who may relay is decided by what was verified."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made, other = authority.issue_cert("App.example.org"), authority.issue_cert("other.example.org")
    fingerprint = hashlib.sha256(
        ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
    ).hexdigest()
    ca = {"client_ca": str(tmp_path / "ca.pem")}
    named = Shown(pair, **ca, client_names=frozenset({"app.example.org"})).certificates
    printed = Shown(pair, **ca, client_fingerprints=frozenset({f"sha256:{fingerprint}"})).certificates
    for certificates in (named, printed):
        for client, known, trusted in ((made, True, True), (other, True, False), (None, False, False)):
            both = Both(certificates.context(), client_with(client), None)
            assert both.exchange() == b"250 NOOP", "TLS itself demands no certificate"
            found = identity(both.server)
            assert (found is not None) is known
            assert certificates.trusted(found) is trusted
            if client is made:
                assert found is not None
                assert (found.names, found.fingerprint) == (("app.example.org",), f"sha256:{fingerprint}")


def test_a_certificate_of_a_strange_authority_ends_the_handshake(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    shown = Shown(pair, client_ca=str(tmp_path / "ca.pem"), client_names=frozenset({"app.example.org"}))
    with pytest.raises(ssl.SSLCertVerificationError):
        shown.handshake(None, client_with(trustme.CA().issue_cert("app.example.org")))


def test_a_clients_own_certificate_may_stand_for_an_authority(tmp_path: Path, pair: tuple[str, str]) -> None:
    made = trustme.CA().issue_cert("app.example.org")
    made.cert_chain_pems[0].write_to_path(tmp_path / "ca.pem")
    shown = Shown(pair, client_ca=str(tmp_path / "ca.pem"), client_names=frozenset({"app.example.org"}))
    both = shown.handshake(None, client_with(made))
    assert shown.certificates.trusts(both.server)


def test_nobody_is_asked_without_authorities(pair: tuple[str, str]) -> None:
    both = Shown(pair).handshake(None, client_with(AUTHORITY.issue_cert("app.example.org")))
    assert identity(both.server) is None


def test_clients_are_judged_alike_under_every_name(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Security 10: the certificate SNI chooses does not choose who may relay."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    more = written(AUTHORITY, tmp_path / "more", "b.example.org")
    shown = Shown(pair, more, client_ca=str(tmp_path / "ca.pem"), client_names=frozenset({"app.example.org"}))
    with pytest.raises(ssl.SSLCertVerificationError):
        shown.handshake("b.example.org", client_with(trustme.CA().issue_cert("app.example.org")))


def test_an_authority_is_renewed_too(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Security 10: whom an authority no longer stands for relays no more; no session is resumed."""
    old, new = trustme.CA(), trustme.CA()
    made = old.issue_cert("app.example.org")
    old.cert_pem.write_to_path(tmp_path / "ca.pem")
    shown = Shown(pair, client_ca=str(tmp_path / "ca.pem"), client_names=frozenset({"app.example.org"}))
    both = shown.handshake(None, client_with(made))
    assert shown.certificates.trusts(both.server)
    new.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert [type(told) for told in shown.after(1)] == [Renewed]
    with pytest.raises(ssl.SSLCertVerificationError):
        shown.handshake(None, client_with(made))
