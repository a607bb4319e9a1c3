"""AUTH towards a smarthost: said when it is safe, told when it is not, and never repeated."""

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.peer import ExactPeer, ExactSession
from tests.support.session import connect

from backstamp.mail.envelope import Recipient
from backstamp.mail.fault import Fault, Phase
from backstamp.mail.reply import Reply
from backstamp.net.client import Refusal, ReplyProtocol
from backstamp.net.connection import Connection
from backstamp.net.transaction import Transaction
from backstamp.policy.destination import Timeouts, Tls
from backstamp.policy.route import Credentials
from backstamp.sink.server import Options, Received, Sink
from backstamp.sink.tls import self_signed

QUICK = Timeouts(connect=2, greeting=2, mail=2, rcpt=2, data=2, block=2, final=2, quit=0.3)
ME = Credentials("me@example.org", "hunter two")


class Smarthost:
    def __init__(self, **options: Any) -> None:
        self.taken: list[Received] = []
        options = {"auth": (ME.username, ME.secret), **options}
        self.sink = Sink(options=Options(**options), received=self.taken.append)
        self._open: list[Connection] = []

    async def __aenter__(self) -> "Smarthost":
        await self.sink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._open:
            await connection.close()
        await self.sink.close()

    async def connect(self, credentials: Credentials | None = ME, **how: Any) -> Connection | Refusal | Fault:
        found = await connect(*self.sink.address, timeouts=QUICK, credentials=credentials, **how)
        if isinstance(found, Connection):
            self._open.append(found)
        return found


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    return self_signed("sink.example.org")


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection look as if it left this machine."""
    monkeypatch.setattr(ReplyProtocol, "local", False)


@pytest.fixture
async def smarthost(context: ssl.SSLContext) -> AsyncIterator[Smarthost]:
    async with Smarthost(tls="starttls", context=context) as smarthost:
        yield smarthost


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("mechanism", ["", "PLAIN", "LOGIN", "XOAUTH2"])
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_mail_is_taken_from_who_says_who_it_is(
    context: ssl.SSLContext, mechanism: str, implicit: bool
) -> None:
    async with Smarthost(tls="implicit" if implicit else "starttls", context=context) as smarthost:
        me = Credentials(ME.username, ME.secret, mechanism)
        found = await smarthost.connect(me, tls=Tls.ENCRYPT, implicit_tls=implicit)
        assert isinstance(found, Connection), found
        transaction = Transaction(b"s@x.example", (Recipient(b"a@y.example"),), b"x\r\n")
        assert (await found.transact(transaction, lambda *_: None)).final == Reply(250, "2.0.0 Ok")
        assert [(message.user, message.tls) for message in smarthost.taken] == [(ME.username, True)]


async def test_without_credentials_nothing_is_said(smarthost: Smarthost) -> None:
    found = await smarthost.connect(None, tls=Tls.MAY)
    assert isinstance(found, Connection)
    transaction = Transaction(b"s@x.example", (Recipient(b"a@y.example"),), b"x\r\n")
    assert (await found.transact(transaction, lambda *_: None)).mail == Reply(530, "5.7.0 Who are you?")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
async def test_wrong_credentials_are_a_refusal(smarthost: Smarthost, mechanism: str) -> None:
    wrong = Credentials(ME.username, "wrong", mechanism)
    found = await smarthost.connect(wrong, tls=Tls.ENCRYPT)
    assert found == Refusal(Reply(535, "5.7.8 Credentials are not valid"), Phase.AUTH)


@pytest.mark.parametrize("code", [421, 432, 454, 500, 534, 535])
async def test_every_refusal_is_the_server_s_word(smarthost: Smarthost, code: int) -> None:
    smarthost.sink.script.say("AUTH", code, "4.7.0 no")
    found = await smarthost.connect(tls=Tls.ENCRYPT)
    assert found == Refusal(Reply(code, "4.7.0 no"), Phase.AUTH)


async def test_a_server_that_only_echoes() -> None:
    async def play(session: ExactSession) -> None:
        await session.hear()
        await session.say(session.heard[-1] + b"\r\n")
        await session.wait()

    async with ExactPeer(play, ehlo=b"250-x\r\n250 AUTH PLAIN\r\n") as peer:
        found = await connect(*peer.address, timeouts=QUICK, credentials=ME)
    assert found == Fault(Phase.AUTH, "protocol", "the server's answer to AUTH is no reply")


async def test_a_server_that_repeats_the_secret(smarthost: Smarthost) -> None:
    said = b64encode(f"\0{ME.username}\0{ME.secret}".encode()).decode()
    smarthost.sink.script.say("AUTH", 500, f"5.5.1 unknown: AUTH PLAIN {said} ({ME.secret})")
    found = await smarthost.connect(tls=Tls.ENCRYPT)
    assert found == Refusal(Reply(500, "5.5.1 unknown: AUTH PLAIN … (…)"), Phase.AUTH)


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("tls", ["none", "starttls"])
async def test_never_in_clear_text(context: ssl.SSLContext, tls: str) -> None:
    """Security 8."""
    heard: list[bytes] = []

    async def play(session: ExactSession) -> None:
        while True:
            await session.hear()
            heard.append(session.heard[-1])
            await session.say(b"454 4.7.0 not now\r\n" if heard[-1] == b"STARTTLS" else b"250 ok\r\n")

    offers = (
        b"250-x\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"
        if tls == "starttls"
        else b"250-x\r\n250 AUTH PLAIN\r\n"
    )
    async with ExactPeer(play, ehlo=offers) as peer:
        found = await connect(*peer.address, timeouts=QUICK, credentials=ME, tls=Tls.MAY)
    text = "credentials are not sent in clear text, and there is no TLS"
    assert found == Fault(Phase.AUTH, "clear text", text)
    assert heard == ([b"STARTTLS", b"NOOP"] if tls == "starttls" else []) + [b"QUIT"]


async def test_clear_text_does_on_this_machine() -> None:
    async with Smarthost() as smarthost:
        assert isinstance(await smarthost.connect(), Connection)


@pytest.mark.parametrize("mechanisms", [("CRAM-MD5", "GSSAPI"), ("XOAUTH2",)])
async def test_no_mechanism_for_us(mechanisms: tuple[str, ...]) -> None:
    async with Smarthost(mechanisms=mechanisms) as smarthost:
        found = await smarthost.connect()
        text = f"no AUTH mechanism for these credentials; the server offers {', '.join(mechanisms)}"
        assert found == Fault(Phase.AUTH, "not offered", text)


async def test_no_auth_at_all() -> None:
    async with Smarthost(auth=None) as smarthost:
        found = await smarthost.connect()
        assert isinstance(found, Fault)
        assert (found.phase, found.problem) == (Phase.AUTH, "not offered")
        assert found.text.endswith("the server offers none")


async def test_a_server_that_asks_for_ever_is_cancelled() -> None:
    async def play(session: ExactSession) -> None:
        while True:
            await session.hear()
            await session.say(b"334 more\r\n")

    async with ExactPeer(play, ehlo=b"250-x\r\n250 AUTH=LOGIN\r\n") as peer:
        found = await connect(*peer.address, timeouts=QUICK, credentials=ME)
    assert found == Refusal(Reply(334, "more"), Phase.AUTH)
    assert peer.sessions[0].heard[4:] == [b"*", b"QUIT"]


@pytest.mark.parametrize("problem", ["disconnected", "timeout", "protocol"])
async def test_a_server_that_breaks_in_the_middle(problem: str) -> None:
    async def play(session: ExactSession) -> None:
        await session.hear()
        if problem == "timeout":
            await session.wait()
        if problem == "protocol":
            await session.say(b"what?\r\n")
            await session.hear()

    quick = Timeouts(connect=2, greeting=1.0, quit=0.2)
    async with ExactPeer(play, ehlo=b"250-x\r\n250 AUTH PLAIN\r\n") as peer:
        found = await connect(*peer.address, timeouts=quick, credentials=ME)
    assert isinstance(found, Fault)
    assert (found.phase, found.problem) == (Phase.AUTH, problem)
    assert ME.secret not in str(found)


async def test_credentials_that_cannot_be_said_are_a_bug_of_the_caller() -> None:
    async with Smarthost() as smarthost:
        with pytest.raises(ValueError, match="NUL"):
            await smarthost.connect(Credentials("me", "a\0b"))
