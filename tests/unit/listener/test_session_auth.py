"""AUTH in a session: mechanisms over the wire, when it is there, what it gives, and what it never tells."""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from scramp import ScramClient
from tests.support.certificates import written
from tests.support.door import HASHER, Door, door
from tests.support.talker import Talker, talker
from tests.unit.listener.test_session_tls import AUTHORITY, NAME, trusting
from tests.unit.listener.test_users import put

from backstamp.listener import sasl
from backstamp.listener.passwords import account
from backstamp.listener.settings import Auth, AuthSettings, TlsSettings
from backstamp.policy.user import User
from backstamp.telemetry import events, lines

SECRET = "s3cret-gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"
ANN = User("ann@example.org", ("example.org",), "shop")


@pytest.fixture
def accounts(tmp_path: Path) -> AuthSettings:
    path = tmp_path / "users"
    put(path, account(ANN, SECRET, os.urandom, hasher=HASHER, iterations=4096))
    put(path, account(User("bob smith"), SECRET, os.urandom, hasher=HASHER, iterations=4096))
    return AuthSettings(str(path))


@pytest.fixture
def tls(tmp_path: Path) -> TlsSettings:
    return TlsSettings("starttls", (written(AUTHORITY, tmp_path / "server", NAME),))


def plain(name: str, secret: str = SECRET) -> bytes:
    return b64encode(f"\0{name}\0{secret}".encode())


async def by_plain(client: Talker, name: str, secret: str) -> bytes:
    return await client.say(b"AUTH PLAIN " + plain(name, secret))


async def by_plain_in_two(client: Talker, name: str, secret: str) -> bytes:
    assert await client.say(b"AUTH plain") == b"334 \r\n"
    return await client.say(plain(name, secret))


async def by_login(client: Talker, name: str, secret: str) -> bytes:
    assert await client.say(b"AUTH LOGIN") == b"334 " + b64encode(b"Username:") + b"\r\n"
    assert await client.say(b64encode(name.encode())) == b"334 " + b64encode(b"Password:") + b"\r\n"
    return await client.say(b64encode(secret.encode()))


async def by_scram(client: Talker, name: str, secret: str) -> bytes:
    scram = ScramClient(["SCRAM-SHA-256"], name, secret)
    first = await client.say(b"AUTH SCRAM-SHA-256 " + b64encode(scram.get_client_first().encode()))
    scram.set_server_first(b64decode(first[4:]).decode())
    reply = await client.say(b64encode(scram.get_client_final().encode()))
    if reply.startswith(b"334 "):
        scram.set_server_final(b64decode(reply[4:]).decode())
        return await client.say(b"")
    return reply


WAYS = [by_plain, by_plain_in_two, by_login, by_scram]


def no_secret_in(opened: Door) -> None:
    told = b"".join(lines.json(event) + lines.text(event) for event in opened.events)
    for secret in (SECRET, b64encode(SECRET.encode()).decode(), plain(ANN.name).decode(), "gu3ss"):
        assert secret not in told.decode()
        assert secret not in repr(opened.events)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("protected", [True, False])
async def test_who_proves_who_they_are_may_relay(
    accounts: AuthSettings, tls: TlsSettings, way: Callable[..., Any], protected: bool
) -> None:
    """RFC 4954, RFC 4616, RFC 5802, RFC 7677, RFC 3848: PLAIN, LOGIN, SCRAM-SHA-256; the trace says so.

    The tenant is the user's.
    """
    async with (
        door(accounts=accounts, auth=Auth.OPTIONAL, tls=tls, allow=()) as opened,
        talker(opened) as client,
    ):
        if protected:
            await client.starttls(trusting())
        else:
            await client.reply()
        assert b"AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n" in await client.say(b"EHLO client.test")
        assert (await client.hand_in(b"x")).startswith(b"550 5.7.1 Relaying denied")
        assert (await client.say(b"RSET")).startswith(b"250")
        assert await way(client, ANN.name, SECRET) == b"235 2.7.0 Authentication succeeded\r\n"
        assert (await client.say(b"AUTH PLAIN " + plain(ANN.name))).startswith(b"503 5.5.1")
        reply = await client.hand_in(b"From: <a@example.org>\r\n", sender=b"x@example.org")
        assert reply.startswith(b"250 2.0.0")
        [message] = opened.queue.messages
        assert (b" with ESMTPSA id " if protected else b" with ESMTPA id ") in message.content
        assert message.envelope.parameters == b"TENANT=shop"
        assert b"ann" not in message.content
        [accepted] = [event for event in opened.events if isinstance(event, events.Accepted)]
        assert accepted.user == ANN.name
        no_secret_in(opened)


@pytest.mark.parametrize("way", WAYS)
async def test_three_failures_end_the_session(accounts: AuthSettings, way: Callable[..., Any]) -> None:
    """Security 11: 535 twice, then 421, in the same words for a name nobody has; no secret is told."""
    for name in (ANN.name, "nobody"):
        async with door(accounts=accounts, auth=Auth.OPTIONAL, allow=()) as opened, talker(opened) as client:
            await client.reply()
            await client.say(b"EHLO client.test")
            for _ in range(2):
                assert await way(client, name, "gu3ss") == b"535 5.7.8 Authentication credentials invalid\r\n"
            assert await way(client, name, "gu3ss") == b"421 4.7.0 Too many failed authentications\r\n"
            assert await client.rest() == b""
            failed = [event for event in opened.events if isinstance(event, events.AuthenticationFailed)]
            assert [event.user for event in failed] == [name] * 3
            no_secret_in(opened)


async def test_failures_are_counted_over_starttls(accounts: AuthSettings, tls: TlsSettings) -> None:
    """Security 11: a handshake forgets who a client is, not how often it failed."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL, tls=tls) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        for _ in range(2):
            await by_plain(client, ANN.name, "gu3ss")
        assert (await client.say(b"STARTTLS")).startswith(b"220")
        await client.shake(trusting())
        await client.say(b"EHLO client.test")
        assert (await by_plain(client, ANN.name, "gu3ss")).startswith(b"421 4.7.0")


async def test_who_somebody_was_is_forgotten_at_starttls(accounts: AuthSettings, tls: TlsSettings) -> None:
    """RFC 3207 §4.2: AUTH in clear text proves nothing over TLS."""
    async with (
        door(accounts=accounts, auth=Auth.REQUIRED, tls=tls, allow=()) as opened,
        talker(opened) as client,
    ):
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"235")
        assert (await client.say(b"STARTTLS")).startswith(b"220")
        await client.shake(trusting())
        await client.say(b"EHLO client.test")
        assert (await client.say(b"MAIL FROM:<a@example.org>")) == b"530 5.7.0 Authentication required\r\n"
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"235")
        assert (await client.say(b"MAIL FROM:<a@example.org>")).startswith(b"250")


async def test_where_tls_is_required_there_is_no_auth_without_it(
    accounts: AuthSettings, tls: TlsSettings
) -> None:
    """RFC 4954 §4: 538 on a loopback address too, if the listener wants TLS."""
    required = msgspec.structs.replace(tls, required=True)
    async with door(accounts=accounts, auth=Auth.OPTIONAL, tls=required) as opened, talker(opened) as client:
        await client.reply()
        assert b"AUTH" not in await client.say(b"EHLO client.test")
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"538 5.7.11")
        no_secret_in(opened)


async def test_where_others_listen_in_there_is_no_auth_without_tls(
    accounts: AuthSettings, tls: TlsSettings
) -> None:
    """RFC 4954 §4: 538 before TLS, and it is not offered; 530 where it is required."""
    settings = {"accounts": accounts, "auth": Auth.REQUIRED, "tls": tls, "host": "0.0.0.0"}
    async with door(**settings) as opened:
        opened.listener.address = ("127.0.0.1", opened.listener.address[1])
        async with talker(opened) as client:
            await client.reply()
            assert b"AUTH" not in await client.say(b"EHLO client.test")
            assert (await by_plain(client, ANN.name, SECRET)).startswith(b"538 5.7.11")
            assert (await client.say(b"MAIL FROM:<a@example.org>")).startswith(b"530 5.7.0")
            await client.say(b"STARTTLS")
            await client.shake(trusting())
            assert b"AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n" in await client.say(b"EHLO client.test")
            assert (await by_plain(client, ANN.name, SECRET)).startswith(b"235")
        no_secret_in(opened)


@pytest.mark.parametrize(
    ("sender", "header", "reply"),
    [
        (b"a@example.org", b"From: A <A@EXAMPLE.org>", b"250 2.0.0"),
        (b"", b"From: <a@example.org>", b"250 2.0.0"),
        (b"a@example.com", b"From: <a@example.org>", b"550 5.7.1"),
        (b"a@sub.example.org", b"From: <a@example.org>", b"550 5.7.1"),
        (b"a@example.org", b"From: <ceo@example.com>", b"550 5.7.1"),
        (b"", b"From: <ceo@example.com>", b"550 5.7.1"),
        (b"a@example.org", b"From: <a@example.org>, <ceo@example.com>", b"554 5.6.0"),
        (b"a@example.org", b"From: <a@example.org>\r\nFrom: <ceo@example.com>", b"554 5.6.0"),
        (b"a@example.org", b"Subject: x", b"554 5.6.0"),
        (b"a@example.org", b"From: =?utf-8?q?=3Cceo=40example.com=3E?= <a@example.org>", b"250 2.0.0"),
    ],
)
@pytest.mark.parametrize("padding", [0, 2_000_000])
async def test_users_send_in_their_own_names_only(
    accounts: AuthSettings, sender: bytes, header: bytes, reply: bytes, padding: int
) -> None:
    """RFC 6409 §6.1: at MAIL, and in the header; of large mail, too."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"235")
        body = b"\r\n\r\n" + (b"x" * 98 + b"\r\n") * (padding // 100)
        assert (await client.hand_in(header + body, sender=sender)).startswith(reply)
        assert len(opened.queue.messages) == reply.startswith(b"2")


async def test_a_user_without_senders_may_send_as_anybody(accounts: AuthSettings) -> None:
    """RFC 6409 §6.1: the name is the tenant then, as far as it can be one."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL, allow=()) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await by_scram(client, "bob smith", SECRET)).startswith(b"235")
        assert (await client.hand_in(b"From: <x@y.example>\r\n")).startswith(b"250 2.0.0")
        assert opened.queue.messages[0].envelope.parameters == b"TENANT=bob_smith"


@pytest.mark.parametrize(("name", "kept"), [(ANN.name, b"TENANT=shop"), ("bob smith", b"TENANT=other")])
async def test_a_user_with_a_tenant_hands_in_for_no_other(
    accounts: AuthSettings, name: str, kept: bytes
) -> None:
    """Whose turns and whose suppression list it is, is the operator's word where there is one."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL, allow=()) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await by_plain(client, name, SECRET)).startswith(b"235")
        header = b"Backstamp-Tenant: other\r\nFrom: <x@example.org>\r\n"
        assert (await client.hand_in(header, sender=b"x@example.org")).startswith(b"250 2.0.0")
        [message] = opened.queue.messages
        assert message.envelope.parameters == kept
        assert isinstance(message.content, bytes)
        assert b"Backstamp-Tenant" not in message.content


async def test_the_longest_lines_of_an_exchange(accounts: AuthSettings) -> None:
    """RFC 4954 §4: 12,288 octets of base64 are read; longer ones are refused, and the session goes on."""
    longest = b"A" * sasl.LONGEST_LINE
    async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await client.say(b"AUTH PLAIN " + longest)).startswith(b"501 5.5.2")
        assert (await client.say(b"AUTH PLAIN")).startswith(b"334")
        assert (await client.say(longest)).startswith(b"501 5.5.2 This is not a message")
    for line in (longest + b"AAAA", b"A" * 100_000):
        async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened, talker(opened) as client:
            await client.reply()
            await client.say(b"EHLO client.test")
            assert (await client.say(b"AUTH PLAIN " + line)).startswith(b"500 5.5")
            assert (await client.say(b"AUTH PLAIN")).startswith(b"334")
            assert (await client.say(line)).startswith(b"500 5.5.6")
            assert (await by_plain(client, ANN.name, SECRET)).startswith(b"235")


async def test_only_auth_has_long_lines(accounts: AuthSettings) -> None:
    """Security 15: for other commands the limit stays what it was."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened, talker(opened) as client:
        await client.reply()
        assert (await client.say(b"NOOP " + b"x" * 3000)).startswith(b"500 5.5.2 Command line too long")


async def test_an_exchange_can_be_cancelled(accounts: AuthSettings) -> None:
    """RFC 4954 §4: `*` ends it with 501; what is no base64 does, too; `=` is an empty response."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened, talker(opened) as client:
        await client.reply()
        await client.say(b"EHLO client.test")
        assert await client.all(b"AUTH LOGIN", b"*", b"NOOP") == [b"334", b"501", b"250"]
        assert (await client.say(b"AUTH CRAM-MD5")).startswith(b"504 5.5.4")
        assert (await client.say(b"AUTH")).startswith(b"501 5.5.4")
        assert (await client.say(b"AUTH PLAIN =")).startswith(b"501 5.5.2")


async def test_auth_has_its_place(accounts: AuthSettings) -> None:
    """RFC 4954 §4: after EHLO, outside of a transaction."""
    async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened, talker(opened) as client:
        await client.reply()
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"503 5.5.1")
        await client.all(b"EHLO client.test", b"MAIL FROM:<a@b.example>")
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"503 5.5.1")
        assert (await client.say(b"RSET")).startswith(b"250")
        assert (await by_plain(client, ANN.name, SECRET)).startswith(b"235")


async def test_commands_behind_auth_wait_for_the_judgement(accounts: AuthSettings) -> None:
    """RFC 2920 §3.1: AUTH is the last of its group; who sends on loses nothing by it, and gains nothing."""
    mail = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
    for secret, replies in ((SECRET, [b"235", b"250", b"250", b"354"]), ("gu3ss", [b"535", b"530"])):
        async with door(accounts=accounts, auth=Auth.REQUIRED) as opened, talker(opened) as client:
            await client.reply()
            await client.say(b"EHLO client.test")
            client.send(b"AUTH PLAIN " + plain(ANN.name, secret) + b"\r\n" + mail)
            assert [(await client.reply())[:3] for _ in replies] == replies


async def test_a_client_that_goes_while_it_is_judged(accounts: AuthSettings) -> None:
    async with door(accounts=accounts, auth=Auth.OPTIONAL) as opened:
        client = await Talker.come(opened)
        await client.reply()
        await client.say(b"EHLO client.test")
        client.send(b"AUTH PLAIN " + plain(ANN.name, "gu3ss") + b"\r\n")
        await client.writer.drain()
        client.go()
        await opened.empty()
        assert not any(isinstance(event, events.Alarm) for event in opened.events)


async def test_a_certificate_counts_beside_auth(accounts: AuthSettings, tls: TlsSettings) -> None:
    """Security 11: AUTH that failed takes nothing from who may relay anyway, and gives nothing to others."""
    assert isinstance(AUTHORITY, trustme.CA)
    for allow, reply in (((), b"550 5.7.1"), (None, b"250 2.0.0")):
        changes = {} if allow is None else {"allow": allow}
        async with door(accounts=accounts, auth=Auth.OPTIONAL, tls=tls, **changes) as opened:
            async with talker(opened) as client:
                await client.starttls(trusting())
                await client.say(b"EHLO client.test")
                assert (await by_plain(client, ANN.name, "gu3ss")).startswith(b"535")
                assert (await client.hand_in(b"x")).startswith(reply)
