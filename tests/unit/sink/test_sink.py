"""The sink: takes all mail, counts it, keeps it where told, fails as told."""

import asyncio
import hashlib
import json
import smtplib
import ssl
from base64 import b64encode
from pathlib import Path

import pytest

from backstamp.sink.auth import dialogue
from backstamp.sink.keep import Keeper
from backstamp.sink.script import Script, reply
from backstamp.sink.server import KEYWORDS, Heard, Options, Received, Sink, keywords


def test_replies_have_the_lines_they_are_given() -> None:
    assert reply(250, "one\ntwo") == b"250-one\r\n250 two\r\n"
    assert reply(421) == b"421 \r\n"


def test_rules_are_used_in_order_and_used_up() -> None:
    script = Script()
    script.say("RCPT", 450, "later", times=2)
    script.say("RCPT", 550, "no", address=b"a@b.example")
    answers = [script.answer("RCPT", b"a@b.example") for _ in range(3)]
    assert [answer and answer.octets[:3] for answer in answers] == [b"450", b"450", b"550"]
    assert script.answer("RCPT", b"c@d.example") is None
    assert script.answer("MAIL") is None


async def send(sink: Sink, content: bytes, *recipients: str) -> None:
    def run() -> None:
        with smtplib.SMTP(*sink.address, timeout=10) as client:
            client.sendmail("s@x.example", list(recipients), content)

    await asyncio.to_thread(run)


async def test_counts() -> None:
    async with Sink() as sink:
        await send(sink, b"Subject: x\r\n\r\n.dot\r\n", "a@b.example", "c@d.example")
        assert (sink.messages, sink.recipients, sink.connections) == (1, 2, 1)


async def test_a_recipient_without_a_sender_is_refused() -> None:
    """Also one that comes in a group behind a MAIL that was refused: nothing of it is mail."""
    async with Sink() as sink:
        sink.script.say("MAIL", 451, "later", times=1)
        reader, writer = await asyncio.open_connection(*sink.address)
        writer.write(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nQUIT\r\n")
        said = (await reader.read()).splitlines()[-4:]
        writer.close()
        assert [line[:3] for line in said] == [b"451", b"503", b"554", b"221"]
        assert sink.messages == 0


async def test_it_tells_what_it_hears() -> None:
    heard: list[Heard] = []
    async with Sink(heard=heard.append) as sink:
        await send(sink, b"Subject: x\r\n\r\n", "a@b.example")
    assert [one.line[:4] for one in heard] == [b"CONN", b"ehlo", b"mail", b"rcpt", b"data", b"QUIT"]
    assert {(one.connection, one.client, one.tls) for one in heard} == {(1, "127.0.0.1", False)}


async def test_keeps_what_it_takes_before_it_says_so(tmp_path: Path) -> None:
    content = b"X-Test-Id: seven\r\n\r\n.dot\r\n"
    with Keeper(tmp_path / "mail", tmp_path / "log") as keeper:
        async with Sink(received=keeper.keep) as sink:
            await send(sink, content, "a@b.example")
            [line] = (tmp_path / "log").read_text().splitlines()
            assert json.loads(line) == {
                "sender": "s@x.example",
                "recipients": ["a@b.example"],
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "id": "seven",
            }
    assert [path.read_bytes() for path in (tmp_path / "mail").iterdir()] == [content]


async def test_more_connections_than_allowed() -> None:
    async with Sink(options=Options(connections=1)) as sink:
        first = await asyncio.open_connection(*sink.address)
        await first[0].readline()
        second = await asyncio.open_connection(*sink.address)
        assert (await second[0].read()).startswith(b"421")
        assert (sink.connections, sink.refused) == (2, 1)
        first[1].close()
        second[1].close()


async def test_a_port_in_use_is_an_os_error() -> None:
    async with Sink() as sink:
        with pytest.raises(OSError, match="address already in use"):
            await Sink(*sink.address).start()


def test_keywords_may_be_added_and_left_out() -> None:
    assert keywords() == KEYWORDS
    assert keywords("DSN", without=("SIZE", "8BITMIME")) == (
        *("PIPELINING", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"),
    )


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_tls_and_auth_as_another_client_sees_them(tls: str, mechanism: str) -> None:
    taken: list[Received] = []
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    def run() -> None:
        first = (
            smtplib.SMTP(*sink.address, timeout=10)
            if tls == "starttls"
            else smtplib.SMTP_SSL(*sink.address, timeout=10, context=trusting)
        )
        with first as client:
            if tls == "starttls":
                client.ehlo()
                assert client.has_extn("starttls")
                client.starttls(context=trusting)
            client.ehlo()
            assert not client.has_extn("starttls")
            assert client.mail("s@x.example")[0] == 530
            assert client.docmd("AUTH", "GSSAPI")[0] == 504
            assert client.docmd("AUTH", "LOGIN")[0] == 334
            assert client.docmd("*")[0] == 501
            client.user, client.password = "me", "wrong"
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
            client.password = "secret"
            client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
            client.ehlo()
            assert not client.has_extn("auth")
            client.sendmail("s@x.example", ["a@b.example"], b"x\r\n", rcpt_options=["NOTIFY=NEVER"])

    options = Options(tls=tls, auth=("me", "secret"))  # type: ignore[arg-type]
    async with Sink(options=options, received=taken.append) as sink:
        await asyncio.to_thread(run)
    [message] = taken
    assert (message.tls, message.user, message.recipient_parameters) == (True, "me", [b"NOTIFY=NEVER"])


async def test_starttls_where_it_is_not_offered() -> None:
    async with Sink() as sink:

        def run() -> None:
            with smtplib.SMTP(*sink.address, timeout=10) as client:
                assert client.docmd("STARTTLS")[0] == 503

        await asyncio.to_thread(run)


def test_plain_may_say_for_whom_it_is_where_that_is_the_user() -> None:
    """RFC 4616: an authorization identity that is the user's own, as Jakarta Mail sends it."""
    for whom, known in ((b"", True), (b"me", True), (b"another", False)):
        given = b64encode(whom + b"\0me\0sesame!")
        with pytest.raises(StopIteration) as end:
            next(dialogue("PLAIN", given, "me", "sesame!"))
        assert end.value.value is known
