"""Sessions over TLS: STARTTLS, implicit TLS, broken handshakes, certificates of clients and renewed ones."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.certificates import save, written
from tests.support.door import Door, door
from tests.support.talker import Talker, talker
from tests.unit.listener.test_session import START

from backstamp.listener import session, wire
from backstamp.listener.settings import TlsSettings
from backstamp.telemetry import events

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
NAME = "relay.example.org"


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@pytest.fixture
def tls(tmp_path: Path) -> Callable[..., TlsSettings]:
    """Settings with a certificate of their own."""
    pair = written(AUTHORITY, tmp_path / "server", NAME)
    authority = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(authority))
    return lambda mode="starttls", **more: TlsSettings(mode, (pair,), **more)


async def test_after_starttls_all_begins_anew(tls: Callable[..., TlsSettings]) -> None:
    """RFC 3207: what was said before is forgotten, STARTTLS is offered no more and refused."""
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.reply()
        assert b"\r\n250 STARTTLS\r\n" in (offers := await client.say(b"EHLO client.test"))
        assert b"REQUIRETLS" not in offers
        assert await client.all(b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>") == [b"250", b"250"]
        assert (await client.say(b"STARTTLS")) == b"220 2.0.0 Ready to start TLS\r\n"
        await client.shake(trusting())
        assert await client.all(b"RCPT TO:<c@d.example>", b"DATA", b"MAIL FROM:<a@b.example>") == [b"503"] * 3
        offers = await client.say(b"EHLO client.test")
        assert b"STARTTLS" not in offers
        assert b"REQUIRETLS\r\n" in offers
        assert (await client.say(b"STARTTLS")).startswith(b"503 5.5.1")
        assert (await client.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")
        [message] = opened.queue.messages
        assert b" with ESMTPS id " in message.content


async def test_where_tls_is_required_no_mail_comes_in_clear_text(tls: Callable[..., TlsSettings]) -> None:
    """RFC 3207: 530 to MAIL before STARTTLS; what cannot carry mail is answered."""
    async with door(tls=tls(required=True)) as opened, talker(opened) as client:
        await client.reply()
        assert b"\r\n250 STARTTLS\r\n" in await client.say(b"EHLO client.test")
        refused = await client.say(b"MAIL FROM:<a@b.example>")
        assert refused == b"530 5.7.0 Must issue a STARTTLS command first\r\n"
        assert await client.all(b"RCPT TO:<c@d.example>", b"DATA", b"NOOP") == [b"503", b"503", b"250"]
        await client.say(b"STARTTLS")
        await client.shake(trusting())
        await client.say(b"EHLO client.test")
        assert (await client.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")


async def test_starttls_takes_no_argument(tls: Callable[..., TlsSettings]) -> None:
    """RFC 3207 §4: 501; the session goes on in clear text."""
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.reply()
        assert await client.all(b"EHLO x.test", b"STARTTLS now", b"NOOP") == [b"250", b"501", b"250"]


@pytest.mark.parametrize("behind", [b"MAIL FROM:<x@b.example>\r\n", b"\x16", b"\r\n"])
async def test_nothing_may_follow_starttls_in_clear_text(
    tls: Callable[..., TlsSettings], behind: bytes
) -> None:
    """Security 6: octets behind STARTTLS in one segment end the session; no handshake makes them trusted."""
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        client.send(b"STARTTLS\r\n" + behind)
        assert await client.rest() == b"421 4.7.0 Nothing may follow STARTTLS\r\n"
        await opened.empty()


async def test_clear_text_instead_of_a_handshake_is_no_command(tls: Callable[..., TlsSettings]) -> None:
    """Security 6: after the 220 there is TLS or nothing."""
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.reply()
        await client.all(b"EHLO client.test", b"STARTTLS")
        client.send(START + b"Subject: x\r\n\r\n.\r\n")
        assert b"250 " not in await client.rest()
        await opened.empty()
        assert opened.queue.messages == []
        assert not any(isinstance(event, events.Alarm) for event in opened.events)


async def test_a_session_cannot_be_fixed_before_the_handshake(tls: Callable[..., TlsSettings]) -> None:
    """Security 6: sender, recipients and chunks of before are nobody's (session fixation)."""
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.reply()
        await client.all(b"EHLO evil.test", b"MAIL FROM:<evil@b.example>", b"RCPT TO:<evil@d.example>")
        assert (await client.say(b"BDAT 6\r\nevil")).startswith(b"250")
        assert (await client.say(b"STARTTLS")).startswith(b"220")
        await client.shake(trusting())
        assert await client.all(b"EHLO good.test", b"BDAT 0 LAST") == [b"250", b"503"]
        assert (await client.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")
        [message] = opened.queue.messages
        assert message.envelope.sender == b"a@b.example"
        assert b"evil" not in message.content
        assert opened.budget.used == 0


async def test_implicit_tls(tls: Callable[..., TlsSettings]) -> None:
    """RFC 8314: TLS from the first octet, no STARTTLS within, TLS 1.2 at least."""
    async with door(tls=tls("implicit")) as opened, talker(opened, trusting()) as client:
        assert (await client.reply()).startswith(b"220 relay.example.org")
        assert b"STARTTLS" not in await client.say(b"EHLO client.test")
        assert (await client.say(b"STARTTLS"))[:1] == b"5"
        assert (await client.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")
        assert b" with ESMTPS id " in opened.queue.messages[0].content
        assert client.writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")


async def test_a_large_message_over_tls(tls: Callable[..., TlsSettings]) -> None:
    body = b"".join(b"%07d\r\n" % number for number in range(300_000))
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.starttls(trusting())
        await client.say(b"EHLO client.test")
        assert (await client.hand_in(b"Subject: x\r\n\r\n" + body)).startswith(b"250 2.0.0")
        assert opened.queue.messages[0].content.endswith(body + b"\r\n")
        assert opened.budget.used == 0


async def nonsense(client: Talker) -> None:
    client.send(b"this is no ClientHello" * 20)


async def distrust(client: Talker) -> None:
    """Say why, as mail programs do (asyncio just goes)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = trusting(STRANGER).wrap_bio(incoming, outgoing, server_hostname=NAME)
    async with asyncio.timeout(10):
        while True:
            try:
                shaking.do_handshake()
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                incoming.write(await client.reader.read(65536))
            except ssl.SSLCertVerificationError:
                client.send(outgoing.read())
                return


async def silence(client: Talker) -> None:
    client.send(b"\x16\x03\x01")


async def end(client: Talker) -> None:
    client.writer.write_eof()


async def leave(client: Talker) -> None:
    client.go()


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize(
    ("breaking", "reason"),
    [
        (nonsense, "the TLS handshake failed: wrong version number"),
        (distrust, "the TLS handshake failed: tlsv1 alert unknown ca"),
        (silence, "did not end in time"),
        (end, "the client closed the connection in the TLS handshake"),
        (leave, "the client closed the connection in the TLS handshake"),
    ],
)
async def test_a_broken_handshake_ends_the_session(
    tls: Callable[..., TlsSettings],
    mode: str,
    breaking: Callable[[Talker], Any],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 3207 §4.1: nothing of it is left, the next client is served, an event says whose it was and why."""
    monkeypatch.setattr(session, "HANDSHAKE", 0.5)
    monkeypatch.setattr(wire, "HANDSHAKE", 0.5)
    async with door(tls=tls(mode)) as opened:
        client = await Talker.come(opened)
        if mode == "starttls":
            await client.reply()
            await client.all(b"EHLO client.test", b"STARTTLS")
        await breaking(client)
        await opened.empty()
        if mode == "implicit" and breaking in (end, leave):
            assert opened.events == []  # as whoever looks whether a port is open
        else:
            [event] = opened.events
            assert isinstance(event, events.HandshakeFailed)
            assert (event.client, event.count) == ("127.0.0.1", 1)
            assert event.stage == {"starttls": "STARTTLS", "implicit": "TLS"}[mode]
            assert event.reason.endswith(reason)
        async with talker(opened, trusting() if mode == "implicit" else None) as other:
            assert (await other.reply()).startswith(b"220")
        client.go()


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
async def test_closing_during_a_handshake(tls: Callable[..., TlsSettings], mode: str) -> None:
    async with door(tls=tls(mode)) as opened:
        client = await Talker.come(opened)
        if mode == "starttls":
            await client.reply()
            await client.all(b"EHLO client.test", b"STARTTLS")
        client.send(b"\x16\x03\x01")
        while not opened.listener.connections:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await opened.listener.close(10)
        assert opened.listener.connections == opened.crowd.connections == 0
        assert await client.rest() == b""
        client.go()


async def test_closing_tells_clients_over_tls(tls: Callable[..., TlsSettings]) -> None:
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.starttls(trusting())
        await client.say(b"EHLO client.test")
        closing = asyncio.create_task(opened.listener.close(10))
        assert await client.rest() == b"421 4.3.2 The relay is closing\r\n"
        await closing


@contextlib.asynccontextmanager
async def deaf(opened: Door) -> AsyncIterator[socket.socket]:
    """A client that asks for STARTTLS and reads nothing of what comes before the 220."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(opened.listener.address)
        async with asyncio.timeout(5):
            while not (sessions := [*opened.listener._sessions]):
                await asyncio.sleep(0.01)
        transport = sessions[0].channel
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        transport.set_write_buffer_limits(high=0)
        client.sendall(b"EHLO client.test\r\n" * 190 + b"STARTTLS\r\n")
        async with asyncio.timeout(5):
            while not transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
        yield client


async def test_a_client_that_goes_before_starttls_is_answered_is_no_bug(
    tls: Callable[..., TlsSettings],
) -> None:
    """It reads nothing of what comes before the 220, and is gone: an end like others, and no alarm."""
    async with door(tls=tls()) as opened:
        async with deaf(opened) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await opened.empty()
        assert opened.events == []


async def test_a_client_that_asks_for_starttls_and_reads_nothing_is_cut_off(
    tls: Callable[..., TlsSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Security 14: it had no time to end in, and kept its connection for ever."""
    monkeypatch.setattr(session, "HANDSHAKE", 0.5)
    monkeypatch.setattr(wire, "LINGER", 0.5)
    async with door(tls=tls()) as opened, deaf(opened):
        await opened.empty()
        [event] = opened.events
        assert isinstance(event, events.HandshakeFailed)
        assert (event.stage, event.reason) == ("STARTTLS", "it did not end in time")


async def test_a_clients_certificate_may_relay(tls: Callable[..., TlsSettings], tmp_path: Path) -> None:
    """Security 10: one that is verified and named; no other, and no name alone."""
    named = tls(client_ca=str(tmp_path / "authority.pem"), client_names=frozenset({"app.example.org"}))
    for authority, name, reply in (
        (AUTHORITY, "app.example.org", b"250 2.0.0"),
        (AUTHORITY, "other.example.org", b"550 5.7.1"),
        (None, "", b"550 5.7.1"),
    ):
        async with door(tls=named, allow=()) as opened, talker(opened) as client:
            context = trusting()
            if authority is not None:
                authority.issue_cert(name).configure_cert(context)
            await client.starttls(context)
            await client.say(b"EHLO client.test")
            assert (await client.hand_in(b"Subject: x\r\n")).startswith(reply)


async def test_a_strangers_certificate_is_refused(tls: Callable[..., TlsSettings], tmp_path: Path) -> None:
    """Security 10: whoever signs itself the right name relays nothing."""
    named = tls(client_ca=str(tmp_path / "authority.pem"), client_names=frozenset({"app.example.org"}))
    async with door(tls=named, allow=()) as opened, talker(opened) as client:
        context = trusting()
        STRANGER.issue_cert("app.example.org").configure_cert(context)
        replies = b""
        try:
            await client.starttls(context)
            await client.say(b"EHLO client.test")
            replies = await client.hand_in(b"Subject: x\r\n")
        except (ssl.SSLError, ConnectionError):
            pass
        assert not replies.startswith(b"2")
        assert opened.queue.messages == []


async def test_starttls_where_a_reload_took_tls_away(tls: Callable[..., TlsSettings]) -> None:
    """RFC 3207 §4: 454, and the session goes on; it was offered before."""
    async with door(tls=tls()) as opened, talker(opened) as client:
        await client.reply()
        assert b"250 STARTTLS\r\n" in await client.say(b"EHLO client.test")
        opened.reload(tls=TlsSettings())
        assert (await client.say(b"STARTTLS")).startswith(b"454 4.7.0")
        assert (await client.hand_in(b"x")).startswith(b"250 2.0.0")


async def test_a_renewed_certificate_is_shown_while_sessions_live(
    tls: Callable[..., TlsSettings], tmp_path: Path
) -> None:
    """Sessions keep theirs; who comes next sees the new one."""
    async with door(tls=tls("implicit")) as opened:
        old = await Talker.come(opened, trusting())
        await old.reply()
        before = old.writer.get_extra_info("peercert")["serialNumber"]
        save(AUTHORITY.issue_cert(NAME), tmp_path / "server" / "cert.pem", tmp_path / "server" / "key.pem")
        async with asyncio.timeout(20):
            while not opened.events:
                await asyncio.sleep(0.1)
                opened.listener.poll()
        assert [type(event) for event in opened.events] == [events.Renewed]
        async with talker(opened, trusting()) as new:
            assert new.writer.get_extra_info("peercert")["serialNumber"] != before
        await old.say(b"EHLO client.test")
        assert (await old.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")
        old.go()


async def test_a_reload_changes_files_and_mode(tls: Callable[..., TlsSettings], tmp_path: Path) -> None:
    async with door(tls=tls()) as opened:
        old = await Talker.come(opened)
        await old.starttls(trusting())
        other = written(STRANGER, tmp_path / "other", NAME)
        opened.reload(tls=TlsSettings("starttls", (other,)))
        async with talker(opened) as new:
            await new.starttls(trusting(STRANGER))
            assert (await new.say(b"EHLO x.test")).startswith(b"250-")
        opened.reload(tls=TlsSettings())
        async with talker(opened) as plain:
            await plain.reply()
            assert b"STARTTLS" not in await plain.say(b"EHLO x.test")
        assert (await old.say(b"EHLO x.test")).startswith(b"250-")
        old.go()
