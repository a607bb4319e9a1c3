"""Clients behind a proxy: whom it speaks for is who the client is, and only where the proxy is known."""

import asyncio
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from tests.support.certificates import written
from tests.support.door import door
from tests.support.talker import Talker, talker
from tests.unit.listener.test_session import START
from tests.unit.listener.test_session_tls import AUTHORITY, NAME, trusting

from backstamp.listener import session
from backstamp.listener.settings import Auth, AuthSettings, Limits, TlsSettings
from backstamp.policy.token import TokenEndpoint
from backstamp.telemetry import events

HERE = (ip_network("127.0.0.0/8"),)
THERE = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
BEGIN = b"\r\n\r\n\0\r\nQUIT\n"


def version_1(source: str) -> bytes:
    family, other = ("6", "::1") if ":" in source else ("4", "192.0.2.200")
    return f"PROXY TCP{family} {source} {other} 50000 25\r\n".encode()


def version_2(source: str, *, tail: bytes = b"") -> bytes:
    address = ip_address(source)
    block = address.packed + address.packed + b"\xc3\x50\x00\x19" + tail
    kind = b"\x21" if address.version == 6 else b"\x11"
    return BEGIN + b"\x21" + kind + len(block).to_bytes(2, "big") + block


HEADERS = [version_1, version_2]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("piece", [None, 1])
async def test_the_client_is_whom_the_proxy_names(header: object, source: str, piece: int | None) -> None:
    """Security 10: in the trace, in events, and for who may relay."""
    assert callable(header)
    async with door(proxies=HERE, allow=THERE) as opened:
        said = header(source) + START + b"Subject: x\r\n\r\n.\r\nQUIT\r\n"
        assert b"250 2.0.0 Ok: queued as" in await opened.talk(said, piece=piece)
        literal = f"IPv6:{source}" if ":" in source else source
        assert f"([{literal}])".encode() in opened.queue.messages[0].content
        [accepted] = opened.events
        assert isinstance(accepted, events.Accepted)
        assert accepted.client == source


@pytest.mark.parametrize(
    ("header", "offered"),
    [
        (version_1("192.0.2.7"), False),
        (version_1("127.0.0.1"), True),
        (version_2("192.0.2.7"), False),
        (version_2("192.0.2.7", tail=b"\x20\x00\x05\x01\0\0\0\0"), True),
        (version_2("192.0.2.7", tail=b"\x20\x00\x05\0\0\0\0\0"), False),
    ],
)
async def test_a_password_goes_by_a_proxy_only_where_nobody_listens_in(header: bytes, offered: bool) -> None:
    """RFC 4954 §4: the listener is on this machine, the client is not; a proxy may tell of its TLS."""
    authority = AuthSettings(endpoint=TokenEndpoint("http://127.0.0.1:9/"))
    async with door(proxies=HERE, allow=THERE, auth=Auth.OPTIONAL, accounts=authority) as opened:
        said = await opened.talk(header + b"EHLO client.test\r\nAUTH XOAUTH2\r\nQUIT\r\n")
        assert (b"\r\n250-AUTH" in said or b"\r\n250 AUTH" in said) is offered
        assert (b"\r\n538 5.7.11 " in said) is not offered


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("source", ["203.0.113.9", "::ffff:203.0.113.9", "2001:db9::1"])
async def test_a_proxy_gives_its_rights_to_nobody(header: object, source: str) -> None:
    """Security 10: who comes through it is judged by its own address, not by the proxy's."""
    assert callable(header)
    async with door(proxies=HERE, allow=HERE) as opened:
        replies = await opened.talk(header(source) + START + b"QUIT\r\n")
        assert b"550 5.7.1 Relaying denied" in replies


@pytest.mark.parametrize("header", HEADERS)
async def test_who_is_no_proxy_names_nobody(header: object) -> None:
    """Security 10: a spoofed source from anybody else is a syntax error, and changes nothing."""
    assert callable(header)
    async with door(proxies=(ip_network("192.0.2.1/32"),), allow=THERE) as opened:
        replies = await opened.talk(header("192.0.2.7") + START + b"QUIT\r\n")
        assert b"\r\n500 5.5.2" in replies
        assert b"250 2.1.5" not in replies
        assert all(
            event.client == "127.0.0.1" for event in opened.events if isinstance(event, events.Refused)
        )


async def test_no_second_header_is_believed() -> None:
    """Security 10: behind the proxy's own header its client may say what it likes."""
    async with door(proxies=HERE, allow=THERE) as opened:
        said = version_1("203.0.113.9") + version_1("192.0.2.7") + START + b"QUIT\r\n"
        replies = await opened.talk(said)
        assert b"550 5.7.1 Relaying denied" in replies


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 1 99999\r\n",
        b"PROXY " + b"x" * 200,
        b"\x16\x03\x01\x02\x00\x01",
        BEGIN + b"\x31\x11\x00\x0c" + b"x" * 12,
        BEGIN + b"\x21\x11\x00\x04" + b"x" * 4,
        BEGIN + b"\x21\x11\xff\xff",
    ],
)
async def test_a_malformed_header_ends_without_a_word(header: bytes) -> None:
    """Security 10: who does not say who is there is not greeted."""
    async with door(proxies=HERE) as opened, talker(opened, first=header) as client:
        assert await client.rest() == b""
        await opened.empty()
        [event] = opened.events
        assert isinstance(event, events.HandshakeFailed)
        assert (event.client, event.stage, event.count) == ("127.0.0.1", "PROXY", 1)
        assert event.reason == "no header of the PROXY protocol, or none that says who the client is"


async def test_who_looks_whether_a_port_is_open_is_told_of_nowhere() -> None:
    """A balancer connects and goes, every second."""
    async with door(proxies=HERE) as opened:
        async with talker(opened):
            pass
        await opened.empty()
        assert opened.events == []


async def test_a_proxy_that_goes_wrong_again_and_again_is_told_once_a_minute() -> None:
    """And counted; so is what a flood of strangers does."""
    async with door(proxies=HERE) as opened:
        for _ in range(3):
            assert await opened.talk(b"EHLO client.test\r\n") == b""
        assert [type(event) for event in opened.events] == [events.HandshakeFailed]
        house = opened.listener._house
        owed = list(house._unheard.due(house.door.clock.monotonic() + 60))
        assert [count for _, count in owed] == [2]


async def test_a_header_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security 14: half a header is cut off."""
    monkeypatch.setattr(session, "HANDSHAKE", 0.2)
    async with door(proxies=HERE) as opened, talker(opened, first=b"PROXY TCP4 192.0") as client:
        assert await client.rest() == b""
        await opened.empty()
        [event] = opened.events
        assert isinstance(event, events.HandshakeFailed)
        assert (event.stage, event.reason) == ("PROXY", "it did not end in time")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", BEGIN + b"\x20\x00\x00\x00"])
async def test_a_proxy_may_speak_for_itself(header: bytes) -> None:
    async with door(proxies=HERE, allow=HERE) as opened:
        assert b"250 2.1.5" in await opened.talk(header + START)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("together", [True, False])
async def test_behind_a_proxy_over_tls(header: object, mode: str, together: bool, tmp_path: Path) -> None:
    """Security 10: a handshake forgets what was said, not who it is; its first octets may come along."""
    assert callable(header)
    tls = TlsSettings(mode, (written(AUTHORITY, tmp_path, NAME),))
    async with door(proxies=HERE, allow=THERE, tls=tls) as opened:
        first = header("192.0.2.7")
        if mode == "implicit":
            client = await Talker.come(opened, first=first)
            if not together:
                await client.writer.drain()
                await asyncio.sleep(0.05)
            await client.shake(trusting())
            await client.reply()
        else:
            client = await Talker.come(opened, first=first)
            await client.starttls(trusting())
        await client.say(b"EHLO client.test")
        assert (await client.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")
        content = opened.queue.messages[0].content
        assert b"([192.0.2.7])" in content
        assert b" with ESMTPS id " in content
        client.go()
        await opened.empty()


async def test_limits_count_whom_the_proxy_names() -> None:
    """Security 15: not the proxy, which would be one client for all."""
    limits = Limits(connections_per_client=1, exempt=HERE)
    async with door(limits, proxies=HERE) as opened:
        async with talker(opened, first=version_1("192.0.2.7")) as first:
            assert (await first.reply()).startswith(b"220")
            async with talker(opened, first=version_1("192.0.2.7")) as second:
                assert (await second.reply()).startswith(b"421 4.7.0")
            async with talker(opened, first=version_1("192.0.2.8")) as third:
                assert (await third.reply()).startswith(b"220")
        await opened.empty()


async def test_a_mapped_address_is_the_address_it_is() -> None:
    """Security 10: over a socket for both families, too."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no socket for both families")
    async with door(proxies=HERE, allow=(ip_network("192.0.2.7/32"),)) as opened:
        replies = await opened.talk(version_2("::ffff:192.0.2.7") + START)
        assert b"250 2.1.5" in replies
