"""What other programs hand in arrives at the server behind the relay, octet for octet."""

import re
from pathlib import Path

import msgspec
import pytest
from tests.interop.clients import (
    Aiosmtplib,
    Client,
    Curl,
    JakartaMail,
    Msmtp,
    Nodemailer,
    PhpMailer,
    Smtplib,
    Snail,
    Swaks,
)
from tests.interop.conftest import Front, Proved
from tests.interop.letters import Letter, large, letter, many
from tests.interop.servers import EximRelays, PostfixRelays

from backstamp.sink.server import Received
from backstamp.telemetry import events

CLIENTS = (
    *(Swaks, Msmtp, Curl, Snail, PostfixRelays, EximRelays),
    *(Nodemailer, PhpMailer, JakartaMail, Smtplib, Aiosmtplib),
)

FIELD = rb"Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name.replace(" ", "")),
]


def able(kind: type[Client], front: Front, ability: str = "") -> Client:
    """Return a client, or skip where it is absent or cannot do it."""
    client = kind()
    lacks = client.missing() or client.takes(front.entrance.access)
    if ability and ability not in client.able:
        lacks = lacks or f"{client.name} cannot: {ability}"
    if lacks:
        pytest.skip(lacks)
    return client


async def arrives(client: Client, front: Front, place: Path, sent: Letter) -> list[Received]:
    """Send a letter; what arrives at the sink is what was sent, to everybody once, with the right trace."""
    done = await client.send(front.entrance, sent, place)
    assert done.taken, done.words
    taken = await front.until_taken(len(sent.recipients))
    access = front.entrance.access
    # RFC 3848 has no name for TLS without EHLO.
    bare = not (client.greets or access.mechanism)
    protocol = "SMTP" if bare else access.protocol(utf8=sent.utf8)
    for message in taken:
        assert message.content.endswith(done.octets)
        head = message.content[: len(message.content) - len(done.octets)]
        trace = re.match(FIELD, head)
        assert trace is not None, head
        assert f"by relay.example.org with {protocol} id ".encode() in trace.group(), trace.group()
        if client.trace is not None:
            assert re.fullmatch(rb"(?:%b){%d}" % (FIELD, client.trace + 1), head), head
        assert message.sender == sent.sender.encode()
    named = sorted(name.decode() for message in taken for name in message.recipients)
    assert named == sorted(sent.recipients)
    if access.mechanism:
        assert {event.user for event in front.relay.events(events.Accepted)} == {"app"}
    return taken


def what(client: Client, front: Front, text: str) -> tuple[str, str, str, str, str]:
    return "client", client.name, client.version(), text, front.entrance.access.name


async def test_a_message_arrives_as_it_was_sent(
    kind: type[Client], front: Front, place: Path, proved: Proved
) -> None:
    client = able(kind, front)
    await arrives(client, front, place, letter())
    proved(
        *what(client, front, "a message, body exact" if client.trace is None else "a message, octet-exact")
    )


async def test_a_wrong_secret_is_understood(
    kind: type[Client], front: Front, place: Path, proved: Proved
) -> None:
    """RFC 4954: 535, and the exchange is over; nothing is sent."""
    client = able(kind, front)
    if not front.entrance.access.mechanism:
        pytest.skip("no AUTH here")
    entrance = msgspec.structs.replace(front.entrance, secret="guessed")
    done = await client.send(entrance, letter(), place)
    assert not done.taken
    # s-nail shows the challenge that says why (RFC 7628 §3.2.3), and no more.
    assert re.search("535|authenticat|denied|token|334 eyJzdGF0dXM", done.words, re.IGNORECASE), done.words
    failed = front.relay.events(events.AuthenticationFailed)
    assert {(event.reason, event.reply[:3]) for event in failed} == {("credentials", "535")}
    assert not front.relay.events(events.Accepted)
    proved("client", client.name, client.version(), "a wrong secret is understood")


async def test_five_megabytes_arrive(kind: type[Client], front: Front, place: Path, proved: Proved) -> None:
    client = able(kind, front)
    await arrives(client, front, place, large(5_000_000))
    proved(*what(client, front, "5 MB"))


async def test_each_of_many_recipients_gets_it_once(
    kind: type[Client], front: Front, place: Path, proved: Proved
) -> None:
    client = able(kind, front)
    await arrives(client, front, place, many(250))
    proved(*what(client, front, "250 recipients"))


async def test_an_internationalized_message_arrives(
    kind: type[Client], front: Front, place: Path, proved: Proved
) -> None:
    """RFC 6531: addresses and header fields in UTF-8."""
    client = able(kind, front, "utf8")
    sent = letter(sender="dörte@shop.test", recipients=("jürgen@one.test", "r@two.test"), subject="Grüße")
    taken = await arrives(client, front, place, sent)
    assert all(b"SMTPUTF8" in message.parameters.split() for message in taken)
    proved(*what(client, front, "SMTPUTF8"))


async def test_what_is_asked_of_reports_goes_on(
    kind: type[Client], front: Front, place: Path, proved: Proved
) -> None:
    """RFC 3461: what a client asks for stands in the transaction behind the relay."""
    client = able(kind, front, "dsn")
    sent = letter(notify="SUCCESS,FAILURE", ret="HDRS", envid="QQ314159")
    (message,) = await arrives(client, front, place, sent)
    (asked,) = message.recipient_parameters
    (notify,) = re.findall(rb"NOTIFY=(\S+)", asked)
    assert sorted(notify.split(b",")) == [b"FAILURE", b"SUCCESS"]
    proved(*what(client, front, "DSN"))


async def test_a_refusal_is_understood(kind: type[Client], front: Front, place: Path, proved: Proved) -> None:
    client = able(kind, front)
    done = await client.send(front.entrance, letter(recipients=("r@[192.0.2.1]",)), place)
    assert not done.taken
    assert "Address literals are not accepted" in done.words, done.words
    refused = {event.command for event in front.relay.events(events.Refused)}
    if "pipelining" in client.able:
        # Its DATA was on the way already, and had nobody to be for (RFC 2920 §3.1).
        assert refused == {"RCPT", "BDAT" if "chunking" in client.able else "DATA"}
        proved(*what(client, front, "PIPELINING"))
    else:
        assert refused == {"RCPT"}
    # What an MTA reports of it to the sender is another message.
    assert not [message for message in front.taken if message.sender]
    proved(*what(client, front, "a refusal is understood"))
