"""TLS towards hosts: used where it works; gone without where it breaks, but never where it is demanded."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from tests.support.client import send
from tests.support.dns import DnsServer
from tests.support.operator import LATE, Host, configured, to

from backstamp.telemetry import events

ZONE = {
    "y.test": {"MX": ["10 mx.y.test."]},
    "mx.y.test": {"A": ["127.0.0.1"]},
}


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Return an authority this machine trusts, and no other."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    return authority


def certified(authority: trustme.CA, name: str) -> Host:
    """Return a host with an authority's certificate for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return Host(hostname=name, tls="starttls", context=context)


@pytest.fixture
async def names() -> AsyncIterator[DnsServer]:
    async with DnsServer(ZONE) as server:
        yield server


async def test_tls_is_used_where_it_is_offered_and_the_event_says_which(tmp_path: Path) -> None:
    async with Host(tls="starttls") as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        [message] = host.taken
        assert message.tls
        [event] = running.events(events.Delivered)
        assert event.tls.startswith("TLSv1.3 TLS_")


async def test_clear_text_is_told_by_saying_nothing_of_tls(tmp_path: Path) -> None:
    async with Host() as host, configured(tmp_path, to(host)) as running:
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert running.events(events.Delivered)[0].tls == ""


@pytest.mark.parametrize("octets", [b"", b"500 what?\r\n"], ids=["closed", "nonsense"])
async def test_a_broken_handshake_costs_one_connection_and_is_remembered(
    tmp_path: Path, octets: bytes
) -> None:
    async with Host(tls="starttls") as host, configured(tmp_path, to(host), schedule=LATE) as running:
        host.script.do("TLS", octets=octets, close=True)
        await send(running.address, ["first@y.test"])
        await running.until(events.Delivered)
        assert len(host.lines(b"CONNECT")) == 2
        for session in list(host.open):
            session.drop()
        await send(running.address, ["second@y.test"])
        await running.until(events.Delivered, 2)
        assert len(host.lines(b"CONNECT")) == 3
        assert len(host.lines(b"STARTTLS")) == 1
        assert [message.tls for message in host.taken] == [False, False]
        assert not running.events(events.Deferred)
        [told] = running.events(events.TlsFailed)
        assert told.mx == f"127.0.0.1[127.0.0.1]:{host.address[1]}"
        assert "TLS handshake" in told.reply


@pytest.mark.parametrize(
    "octets", [b"454 4.7.0 not now\r\n", b"421 4.7.0 closing\r\n", b""], ids=["454", "421", "no answer"]
)
async def test_a_host_that_hangs_up_at_starttls_gets_the_mail_in_clear_text(
    tmp_path: Path, octets: bytes
) -> None:
    async with Host(tls="starttls") as host, configured(tmp_path, to(host), schedule=LATE) as running:
        host.script.do("STARTTLS", octets=octets, close=True)
        await send(running.address, ["first@y.test"])
        await running.until(events.Delivered)
        assert len(host.lines(b"CONNECT")) == 2
        for session in list(host.open):
            session.drop()
        await send(running.address, ["second@y.test"])
        await running.until(events.Delivered, 2)
        assert len(host.lines(b"STARTTLS")) == 1
        assert not running.events(events.Deferred)
        assert len(running.events(events.TlsFailed)) == 1


@pytest.mark.parametrize("level", ["encrypt", "verify"])
@pytest.mark.parametrize("octets", [b"454 4.7.0 not now\r\n", b"421 4.7.0 closing\r\n", b""])
async def test_a_host_that_hangs_up_at_starttls_gets_nothing_in_clear_text_where_tls_is_demanded(
    tmp_path: Path, octets: bytes, level: str
) -> None:
    """Security 8."""
    async with (
        Host(tls="starttls") as host,
        configured(tmp_path, to(host, more=f'tls = "{level}"')) as running,
    ):
        host.script.do("STARTTLS", octets=octets, close=True)
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        nothing_in_clear(host)
        assert not host.taken


async def test_a_host_that_refuses_starttls_gets_the_mail_on_the_same_connection(tmp_path: Path) -> None:
    async with Host(tls="starttls") as host, configured(tmp_path, to(host), schedule=LATE) as running:
        host.script.say("STARTTLS", 454, "4.7.0 not now")
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert len(host.lines(b"CONNECT")) == 1
        assert not host.taken[0].tls


async def test_none_does_not_even_ask(tmp_path: Path) -> None:
    async with (
        Host(tls="starttls") as host,
        configured(tmp_path, to(host, more='tls = "none"')) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert not host.lines(b"STARTTLS")


def nothing_in_clear(host: Host) -> None:
    """Whatever was said of mail was said in TLS."""
    for heard in host.said:
        if not heard.tls:
            assert heard.line[:4] in (b"CONN", b"EHLO", b"STAR", b"QUIT"), heard


@pytest.mark.parametrize("level", ["encrypt", "verify"])
@pytest.mark.parametrize("trouble", ["not offered", "broken", "refused"])
async def test_what_is_demanded_is_never_gone_without(
    tmp_path: Path, names: DnsServer, level: str, trouble: str
) -> None:
    async with (
        Host(tls="none" if trouble == "not offered" else "starttls") as host,
        configured(
            tmp_path,
            f'[[destination]]\nmatch = "y.test"\ntls = "{level}"',
            port=host.address[1],
            nameservers=[names.address],
        ) as running,
    ):
        if trouble == "broken":
            host.script.do("TLS", close=True)
        elif trouble == "refused":
            host.script.say("STARTTLS", 554, "5.7.0 no TLS today")
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred, 2)
        assert {event.scope for event in running.events(events.Deferred)} == {"host"}
        assert "TLS" in running.events(events.Deferred)[0].reply
        assert not running.events(events.Failed)
        assert not running.events(events.TlsFailed)
        nothing_in_clear(host)
        assert not host.taken


async def test_encrypt_takes_any_certificate(tmp_path: Path, names: DnsServer) -> None:
    async with (
        Host(hostname="somebody.else.test", tls="starttls") as host,
        configured(
            tmp_path,
            delivery='tls = "encrypt"',
            port=host.address[1],
            nameservers=[names.address],
        ) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        nothing_in_clear(host)


async def test_verify_takes_a_certificate_for_the_exchangers_name(
    tmp_path: Path, names: DnsServer, trusted: trustme.CA
) -> None:
    async with (
        certified(trusted, "mx.y.test") as host,
        configured(
            tmp_path, delivery='tls = "verify"', port=host.address[1], nameservers=[names.address]
        ) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        nothing_in_clear(host)


@pytest.mark.parametrize("trouble", ["name", "authority"])
async def test_verify_takes_no_certificate_of_another(
    tmp_path: Path, names: DnsServer, trusted: trustme.CA, trouble: str
) -> None:
    authority, name = (trusted, "mx.z.test") if trouble == "name" else (trustme.CA(), "mx.y.test")
    async with (
        certified(authority, name) as host,
        configured(
            tmp_path, delivery='tls = "verify"', port=host.address[1], nameservers=[names.address]
        ) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        assert "certificate is not trusted" in running.events(events.Deferred)[0].reply
        assert not host.lines(b"MAIL")
        nothing_in_clear(host)


async def test_what_one_exchanger_cannot_another_does(tmp_path: Path, trusted: trustme.CA) -> None:
    """Under verify a host with a wrong certificate gives no session: the next is tried at once."""
    zone = {
        "y.test": {"MX": ["10 wrong.y.test.", "20 mx.y.test."]},
        "wrong.y.test": {"A": ["127.0.0.2"]},
        "mx.y.test": {"A": ["127.0.0.1"]},
    }
    async with (
        certified(trusted, "mx.y.test") as host,
        Host("127.0.0.2", host.address[1], tls="starttls") as wrong,
        DnsServer(zone) as server,
        configured(
            tmp_path,
            delivery='tls = "verify"',
            port=host.address[1],
            nameservers=[server.address],
            schedule=LATE,
        ) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Delivered)
        assert running.events(events.Delivered)[0].mx.startswith("mx.y.test[")
        assert not running.events(events.Deferred)
        assert not wrong.taken
        nothing_in_clear(wrong)


async def test_a_smarthost_with_tls_from_the_first_octet(tmp_path: Path) -> None:
    async with (
        Host(tls="implicit") as host,
        configured(tmp_path, to(host, more="implicit_tls = true")) as running,
    ):
        await asyncio.gather(*(send(running.address, [f"r{number}@y.test"]) for number in range(3)))
        await running.until(events.Delivered, 3)
        assert all(heard.tls for heard in host.said)
        assert not host.lines(b"STARTTLS")


async def test_implicit_tls_against_a_host_without_it_waits(tmp_path: Path) -> None:
    async with (
        Host() as host,
        configured(
            tmp_path, to(host, more="implicit_tls = true"), delivery='timeouts.greeting = "1s"'
        ) as running,
    ):
        await send(running.address, ["r@y.test"])
        await running.until(events.Deferred)
        assert not host.lines(b"EHLO")
        assert not host.taken


async def test_a_certificate_nobody_trusts_costs_only_those_who_must_trust_it(
    tmp_path: Path, trusted: trustme.CA
) -> None:
    zone = {**ZONE, "strict.test": {"MX": ["10 mx.y.test."]}}
    async with (
        Host(hostname="mx.y.test", tls="starttls") as host,
        DnsServer(zone) as server,
        configured(
            tmp_path,
            '[[destination]]\nmatch = "strict.test"\ntls = "verify"',
            port=host.address[1],
            nameservers=[server.address],
            schedule=LATE,
        ) as running,
    ):
        await send(running.address, ["a@strict.test"])
        await running.until(events.Deferred)
        await send(running.address, ["b@y.test"])
        await running.until(events.Delivered)
        assert len(running.events(events.Deferred)) == 1
        assert host.taken[0].tls
