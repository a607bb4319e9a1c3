"""TLS towards hosts of every kind, on both loops: what is demanded, what is offered, what is broken."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trustme
from tests.support.peer import ExactPeer, ExactSession
from tests.support.session import connect

from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal, ReplyProtocol
from backstamp.net.connection import Connection
from backstamp.net.tls import Contexts, described, failure
from backstamp.net.transaction import Transaction
from backstamp.policy.destination import Timeouts, Tls
from backstamp.sink.server import Options, Received, Sink

QUICK = Timeouts(connect=2, greeting=2, mail=2, rcpt=2, data=2, block=2, final=2, quit=0.3)
NAME = "mx.example.org"
OFFERS = b"250-mx.example.org\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
ALL = [Tls.NONE, Tls.MAY, Tls.ENCRYPT, Tls.VERIFY]


class Authority:
    """An authority, and a client that trusts it and nobody else."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        trusting = ssl.create_default_context()
        self._ca.configure_trust(trusting)
        self.contexts = Contexts(trusting)

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """Return a context with a certificate for names that ends in so many days."""
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        start = end - datetime.timedelta(days=30)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names, not_before=start, not_after=end).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class Peer:
    """A sink with TLS and a client that trusts its authority."""

    def __init__(self, authority: Authority, **options: Any) -> None:
        options.setdefault("tls", "starttls")
        options.setdefault("context", authority.server(NAME))
        self.contexts = authority.contexts
        self.taken: list[Received] = []
        self.sink = Sink(options=Options(**options), received=self.taken.append)
        self._open: list[Connection] = []

    async def __aenter__(self) -> "Peer":
        await self.sink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._open:
            await connection.close()
        await self.sink.close()
        while self.sink.tasks:
            await asyncio.sleep(0)

    async def connect(self, tls: Tls = Tls.MAY, **how: Any) -> Connection | Refusal | Fault:
        how = {"host": NAME, "timeouts": QUICK, "contexts": self.contexts, "tls": tls, **how}
        found = await connect(*self.sink.address, **how)
        if isinstance(found, Connection):
            self._open.append(found)
        return found

    async def connection(self, tls: Tls = Tls.MAY, **how: Any) -> Connection:
        found = await self.connect(tls, **how)
        assert isinstance(found, Connection), found
        return found


@pytest.fixture
async def peer(authority: Authority) -> AsyncIterator[Peer]:
    async with Peer(authority) as peer:
        yield peer


async def send(connection: Connection, content: bytes = b"Subject: x\r\n\r\n.\r\n") -> Reply | None:
    to = (Recipient(b"a@example.org"), Recipient(b"b@example.org"))
    async with asyncio.timeout(20):
        result = await connection.transact(Transaction(b"s@example.org", to, content), lambda *_: None)
    assert result.fault is None, result.fault
    return result.final


def handshake(found: object, text: str) -> None:
    assert isinstance(found, Fault), found
    assert (found.phase, found.problem) == (Phase.TLS, "handshake")
    assert text in found.text


# ---- what is demanded ----


@pytest.mark.parametrize("tls", ALL)
async def test_starttls_is_used_unless_it_is_unwelcome(peer: Peer, tls: Tls) -> None:
    connection = await peer.connection(tls)
    assert await send(connection) == Reply(250, "2.0.0 Ok")
    assert [message.tls for message in peer.taken] == [tls is not Tls.NONE]
    assert connection.tls.startswith("TLSv1.3 TLS_") if tls is not Tls.NONE else connection.tls == ""
    assert connection.peer == "sink.example.org"


async def test_may_without_starttls_where_it_failed_before(peer: Peer) -> None:
    assert (await peer.connection(starttls=False)).tls == ""
    assert (await peer.connection(Tls.ENCRYPT, starttls=False)).tls != "", "a demand stays one"


@pytest.mark.parametrize("tls", ALL)
async def test_a_host_without_tls(authority: Authority, tls: Tls) -> None:
    async with Peer(authority, tls="none") as peer:
        found = await peer.connect(tls)
        if tls <= Tls.MAY:
            assert isinstance(found, Connection)
            return
        assert isinstance(found, Fault)
        assert (found.phase, found.problem) == (Phase.TLS, "not offered")
        assert not peer.taken


@pytest.mark.parametrize("tls", ALL)
async def test_implicit_tls(authority: Authority, tls: Tls) -> None:
    async with Peer(authority, tls="implicit") as peer:
        connection = await peer.connection(tls, implicit_tls=True)
        assert connection.tls
        assert "STARTTLS" not in connection.extensions
        for _ in range(3):
            assert await send(connection) == Reply(250, "2.0.0 Ok")
        assert peer.sink.connections == 1


async def test_many_transactions_and_large_ones_in_one_session(peer: Peer) -> None:
    connection = await peer.connection()
    large = b"Subject: big\r\n\r\n" + b".line\r\n" * 300_000
    for content in (b"x\r\n", large, b"", b"y\r\n"):
        assert await send(connection, content) == Reply(250, "2.0.0 Ok")
    assert [message.content for message in peer.taken] == [b"x\r\n", large, b"", b"y\r\n"]
    assert peer.sink.connections == 1


async def test_sni_is_the_name_and_no_session_is_resumed(authority: Authority) -> None:
    context = authority.server(NAME)
    seen: list[tuple[str | None, bool]] = []
    context.sni_callback = lambda sock, name, _: seen.append((name, bool(sock.session_reused)))
    async with Peer(authority, context=context) as peer:
        for host in (NAME, NAME + ".", "127.0.0.1"):
            await peer.connection(host=host)
    assert seen == [(NAME, False), (NAME, False), (None, False)]


async def test_only_tls_1_2_and_above(authority: Authority) -> None:
    context = authority.server(NAME)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with Peer(authority, context=context) as peer:
        assert (await peer.connection(Tls.VERIFY)).tls.startswith("TLSv1.2 ")
    for tls in (Tls.MAY, Tls.VERIFY):
        ours = await authority.contexts.demanded(tls)
        assert ours.minimum_version == ssl.TLSVersion.TLSv1_2
        assert ours.options & ssl.OP_NO_TICKET
        assert ours.options & ssl.OP_NO_COMPRESSION


# ---- certificates ----


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
@pytest.mark.parametrize("bad", ["untrusted", "expired", "another name"])
async def test_a_bad_certificate_matters_under_verify_only(
    authority: Authority, bad: str, implicit: bool
) -> None:
    context, text = {
        "untrusted": (Authority().server(NAME), "unable to get local issuer certificate"),
        "expired": (authority.server(NAME, days=-1), "certificate has expired"),
        "another name": (authority.server("mx.example.net"), "Hostname mismatch"),
    }[bad]
    async with Peer(authority, context=context, tls="implicit" if implicit else "starttls") as peer:
        for tls in (Tls.MAY, Tls.ENCRYPT):
            assert await send(await peer.connection(tls, implicit_tls=implicit)) is not None
        handshake(await peer.connect(Tls.VERIFY, implicit_tls=implicit), text)
        assert len(peer.taken) == 2


async def test_a_self_signed_certificate(authority: Authority) -> None:
    async with Peer(authority, context=None) as peer:
        assert (await peer.connection(Tls.ENCRYPT)).tls
        handshake(await peer.connect(Tls.VERIFY), "self-signed certificate")


async def test_a_smarthost_by_address_is_verified_by_its_address(authority: Authority) -> None:
    async with Peer(authority, context=authority.server("127.0.0.1")) as peer:
        assert (await peer.connection(Tls.VERIFY, host="127.0.0.1")).tls
        handshake(await peer.connect(Tls.VERIFY, host="127.0.0.2"), "IP address mismatch")


# ---- hosts that break it ----


@pytest.mark.parametrize("code", [454, 502])
async def test_starttls_refused_goes_on_in_clear_text_under_may_only(peer: Peer, code: int) -> None:
    peer.sink.script.say("STARTTLS", code, "5.7.0 not now")
    connection = await peer.connection(Tls.MAY)
    assert connection.tls == ""
    assert await send(connection) is not None
    assert peer.sink.connections == 1
    for tls in (Tls.ENCRYPT, Tls.VERIFY):
        assert await peer.connect(tls) == Refusal(Reply(code, "5.7.0 not now"), Phase.TLS)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("words", [b"", b"421 4.3.2 closing\r\n"], ids=["silent", "with a word"])
async def test_a_host_that_hangs_up_behind_its_refusal_of_starttls(late: bool, words: bytes) -> None:
    """Its end may be on the way when the refusal is read: that is no session to send mail over."""

    async def play(session: ExactSession) -> None:
        await session.hear()
        await session.say(b"454 4.7.0 not now\r\n")
        if late or words:
            await session.hear()
            await session.say(words)

    async with ExactPeer(play, ehlo=OFFERS) as peer:
        for _ in range(20):
            found = await connect(*peer.address, timeouts=QUICK, tls=Tls.MAY)
            text = "the server closed the connection behind its 454 to STARTTLS"
            assert found == Fault(Phase.TLS, "disconnected", text)


async def test_421_to_starttls_ends_the_session(peer: Peer) -> None:
    peer.sink.script.say("STARTTLS", 421, "4.3.2 closing")
    assert await peer.connect() == Refusal(Reply(421, "4.3.2 closing"), Phase.TLS)


@pytest.mark.parametrize("code", [250, 334])
async def test_other_answers_to_starttls_are_a_broken_handshake(peer: Peer, code: int) -> None:
    """Nobody knows in what the server speaks now, so another connection it must be."""
    peer.sink.script.say("STARTTLS", code, "hm")
    peer.sink.script.do("TLS")
    handshake(await peer.connect(), f"answered by {code}")


@pytest.mark.parametrize("tls", [Tls.MAY, Tls.ENCRYPT, Tls.VERIFY])
@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"close": True}, "closed the connection in the TLS handshake"),
        ({"octets": b"500 what is that?\r\n" * 20, "close": True}, "the TLS handshake failed"),
        ({"octets": b"\x15\x03\x03\x00\x02\x02\x28"}, "handshake failure"),
    ],
    ids=["hangs up", "goes on in clear text", "an alert"],
)
async def test_a_broken_handshake_is_a_fault_and_nothing_is_said_in_clear_text(
    peer: Peer, step: dict[str, Any], text: str, tls: Tls
) -> None:
    """Security 8."""
    peer.sink.script.do("TLS", **step)
    handshake(await peer.connect(tls), text)
    assert not peer.taken


async def test_a_handshake_without_an_answer_ends_in_time(peer: Peer) -> None:
    peer.sink.script.do("TLS")
    async with asyncio.timeout(10):
        found = await peer.connect(timeouts=msgspec.structs.replace(QUICK, greeting=1.0))
    handshake(found, "did not end in time")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_refuses_the_handshake_when_the_client_is_done(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """RFC 8446 section 4.4.4: in TLS 1.3 its alert comes after the client's last flight."""
    context = authority.server(NAME)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    async with Peer(authority, context=context) as peer:
        for tls in (Tls.MAY, Tls.VERIFY):
            handshake(await peer.connect(tls), "")
        assert not peer.taken


async def test_a_server_that_hangs_up_in_its_first_words_of_tls(peer: Peer) -> None:
    peer.sink.script.do("EHLO", octets=b"250-one\r\n250 STARTTLS\r\n", times=1)
    peer.sink.script.do("EHLO", close=True)
    handshake(await peer.connect(), "closed the connection")


async def test_implicit_tls_to_a_host_in_clear_text() -> None:
    async def play(session: ExactSession) -> None:
        await session.wait()

    async with ExactPeer(play) as peer:
        found = await connect(*peer.address, timeouts=QUICK, implicit_tls=True, tls=Tls.MAY)
    handshake(found, "wrong version number")


@pytest.mark.parametrize("reset", [False, True], ids=["in order", "by a reset"])
async def test_a_host_that_hangs_up_behind_its_220(reset: bool) -> None:
    """The end may come before the handshake begins, or in it."""

    async def play(session: ExactSession) -> None:
        await session.hear()
        await session.say(b"220 go\r\n")
        if reset:
            session._writer.transport.abort()

    async with ExactPeer(play, ehlo=OFFERS) as peer:
        for _ in range(20):
            found = await connect(*peer.address, timeouts=QUICK, tls=Tls.MAY)
            assert isinstance(found, Fault), found
            assert found.phase is Phase.TLS
            assert found.problem in {"handshake", "disconnected"}


@pytest.mark.parametrize("alone", [False, True], ids=["one segment", "two segments"])
async def test_octets_behind_the_220_are_never_taken_for_the_server_s(alone: bool) -> None:
    """Security 7, RFC 3207 section 6 and the likes of CVE-2021-38371: what comes before TLS is anybody's."""

    async def play(session: ExactSession) -> None:
        await session.hear()
        if alone:
            await session.say(b"220 go\r\n")
            await session.say(b"250-mx.example.org\r\n250 AUTH PLAIN\r\n")
        else:
            await session.say(b"220 go\r\n250-mx.example.org\r\n250 AUTH PLAIN\r\n")
        await session.hear()

    async with ExactPeer(play, ehlo=OFFERS) as peer:
        for tls in (Tls.MAY, Tls.ENCRYPT):
            found = await connect(*peer.address, timeouts=QUICK, tls=tls, host=NAME)
            assert isinstance(found, Fault), found
            assert found.phase is Phase.TLS
            assert found.problem in ({"protocol", "handshake"} if alone else {"protocol"})


async def test_what_was_offered_in_clear_text_is_forgotten(authority: Authority) -> None:
    """RFC 3207 section 4.2."""
    first = ("PIPELINING", "SIZE 1000", "DSN")
    async with Peer(authority, keywords=first) as peer:
        peer.sink.script.do("EHLO", octets=b"250-one\r\n250-SIZE 1\r\n250-DSN\r\n250 STARTTLS\r\n", times=1)
        peer.sink.script.do("EHLO", octets=b"250-Two.Example\r\n250 SIZE 77\r\n", times=1)
        connection = await peer.connection()
        assert connection.extensions == {"SIZE": "77"}
        assert connection.size_limit == 77
        assert connection.peer == "two.example"


async def test_what_was_offered_is_forgotten_though_only_helo_is_taken_now(peer: Peer) -> None:
    peer.sink.script.do("EHLO", octets=b"250-one\r\n250-SIZE 1\r\n250 STARTTLS\r\n", times=1)
    peer.sink.script.say("EHLO", 502, "5.5.1 not in here")
    connection = await peer.connection()
    assert connection.tls
    assert connection.extensions == {}
    assert (connection.size_limit, connection.peer) == (None, "")


async def test_no_mail_if_the_second_ehlo_is_refused(peer: Peer) -> None:
    peer.sink.script.do("EHLO", octets=OFFERS, times=1)
    peer.sink.script.say("EHLO", 421, "4.7.0 closing")
    assert await peer.connect() == Refusal(Reply(421, "4.7.0 closing"), Phase.EHLO)


async def test_an_idle_session_in_tls_that_ends_is_seen(peer: Peer) -> None:
    connection = await peer.connection()
    for session in list(peer.sink.open):
        session.drop()
    async with asyncio.timeout(5):
        while connection.usable:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("verb", "doubt"), [("MAIL", False), ("DATA", False), ("DOT", True)])
async def test_a_disconnect_in_tls_is_in_doubt_only_behind_the_dot(
    peer: Peer, verb: str, doubt: bool
) -> None:
    peer.sink.script.do(verb, close=True)
    connection = await peer.connection()
    transaction = Transaction(b"", (Recipient(b"a@example.org"),), b"x\r\n")
    result = await connection.transact(transaction, lambda *_: None)
    assert result.fault is not None
    assert result.fault.problem == "disconnected"
    assert result.in_doubt is doubt
    assert not connection.usable


async def test_a_cancelled_opening_leaves_no_connection(peer: Peer) -> None:
    peer.sink.script.do("TLS")
    task = asyncio.create_task(peer.connect())
    async with asyncio.timeout(5):
        while not peer.sink.open or not next(iter(peer.sink.open))._held:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while peer.sink.open:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("turn", range(4), ids=["greeting", "EHLO", "STARTTLS", "EHLO again"])
async def test_a_cancellation_in_one_turn_with_a_reply_is_not_forgotten(
    peer: Peer, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ReplyProtocol._answer
    turns = 0

    def cancelling(self: ReplyProtocol, reply: Reply) -> None:
        nonlocal turns
        answer(self, reply)
        if turns == turn:
            task.cancel()
        turns += 1

    monkeypatch.setattr(ReplyProtocol, "_answer", cancelling)
    task = asyncio.create_task(peer.connect())
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- words ----


def test_failures_in_words() -> None:
    assert failure(TimeoutError()) == "the TLS handshake did not end in time"
    assert failure(ConnectionResetError()) == "the server closed the connection in the TLS handshake"
    assert failure(UnicodeError("label too\nlong")) == "the TLS handshake failed: label too long"
    assert failure(ssl.SSLError(1, "odd")) == "the TLS handshake failed: odd"


def test_a_session_without_a_cipher_yet() -> None:
    context = ssl.create_default_context()
    found = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=NAME)
    assert described(found)
