"""Who may relay, whatever else is said: a table of the ways by which relays were opened."""

from ipaddress import ip_network

import pytest
from tests.support.door import door
from tests.support.talker import talker

ELSEWHERE = (ip_network("192.0.2.0/24"),)
WAYS = [
    b"v@ext.example",
    b"v%ext.example@relay.example.org",
    b"ext.example!v",
    b"ext.example!v@relay.example.org",
    b'"v@ext.example"@relay.example.org',
    b'"v%ext.example"@relay.example.org',
    b'"v@ext.example"',
    b"@relay.example.org:v@ext.example",
    b"@relay.example.org,@x.example:v@ext.example",
    b"v@[127.0.0.1]",
    b"v@[192.0.2.1]",
    b"v@[IPv6:::ffff:192.0.2.1]",
    b"v@ext.example.",
    b"v@EXT.Example",
    b"v@relay.example.org@ext.example",
    b"v@ext.example@relay.example.org",
    b"v@xn--e1afmkfd.example",
    b"v@relay.example.org",
    b"postmaster@ext.example",
    b"v@ext.example>,<v@relay.example.org",
    b"v@ext.example\\",
]
SENDERS = [
    b"",
    b"postmaster@relay.example.org",
    b"v@localhost",
    b"v@192.0.2.1",
    b"v@[127.0.0.1]",
    b"@relay.example.org:v@ext.example",
    b"a@b.example",
]


@pytest.mark.parametrize("name", [b"EHLO localhost", b"EHLO relay.example.org", b"HELO [127.0.0.1]"])
async def test_no_name_opens_the_relay(name: bytes) -> None:
    """Security 10: what a client calls itself, RSET, a refusal, postmaster: nothing makes it another."""
    async with door(allow=ELSEWHERE) as opened, talker(opened) as client:
        await client.reply()
        await client.say(name)
        for recipient in (b"postmaster", b"Postmaster@relay.example.org", b"v@ext.example"):
            assert (await client.say(b"MAIL FROM:<>")).startswith(b"250")
            assert (await client.say(b"RCPT TO:<%b>" % recipient)) == b"550 5.7.1 Relaying denied\r\n"
            assert (await client.say(b"DATA")).startswith(b"554")
            assert (await client.say(b"RSET")).startswith(b"250")
        assert opened.queue.messages == []


@pytest.mark.parametrize("recipient", WAYS)
@pytest.mark.parametrize("sender", SENDERS)
async def test_no_pair_of_addresses_is_taken(sender: bytes, recipient: bytes) -> None:
    """Security 10: in one segment, with a content behind it."""
    said = b"EHLO x.test\r\nMAIL FROM:<%b>\r\nRCPT TO:<%b>\r\nDATA\r\n" % (sender, recipient)
    async with door(allow=ELSEWHERE) as opened:
        replies = await opened.talk(said + b"Subject: x\r\n\r\n.\r\n")
        assert b"250 2.1.5" not in replies
        assert b"354" not in replies
        assert opened.queue.messages == []
