"""The conversation as a machine: any lines get replies of the grammar, and never break it."""

import re
from ipaddress import ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.listener.answer import Action
from backstamp.listener.conversation import ERRORS, Conversation
from backstamp.listener.settings import Limits, ListenerSettings
from backstamp.listener.transaction import OVERSHOOT

SETTINGS = ListenerSettings(
    "relay.example.org", "127.0.0.1", 25, (ip_network("127.0.0.0/8"),), False, Limits(recipients=3)
)
GRAMMAR = re.compile(rb"(?:([2-5]\d\d)-[ -~]*\r\n)*([2-5]\d\d) [ -~]*\r\n")
ENHANCED = re.compile(rb"([245])\d\d \1\.\d{1,3}\.\d{1,3} ")

verbs = st.sampled_from(
    [
        b"EHLO",
        b"HELO",
        b"MAIL FROM:",
        b"RCPT TO:",
        b"DATA",
        b"RSET",
        b"NOOP",
        b"VRFY",
        b"QUIT",
        b"HELP",
        b"EXPN",
        b"XYZ",
        b"",
    ]
)
arguments = st.one_of(
    st.sampled_from(
        [
            b"",
            b" x.example",
            b"<a@b.example>",
            b"<>",
            b"<a@b.example> SIZE=1",
            b"<a@b.example> MT-PRIORITY=9",
            b"<a@b.example> NOTIFY=NEVER",
            b" <ab>",
            b"<\xff@b>",
        ]
    ),
    st.binary(max_size=20),
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"])
lines = st.builds(lambda verb, argument, end: verb + argument + end, verbs, arguments, ends)


@given(st.lists(lines, max_size=40))
def test_every_reply_is_of_the_grammar(said: list[bytes]) -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    for line in said:
        reply, action = conversation.command(line)
        assert GRAMMAR.fullmatch(reply), reply
        verb = line[:4].upper()
        if not (reply.startswith(b"250") and verb in {b"EHLO", b"HELO"}) and not reply.startswith(b"354"):
            assert ENHANCED.match(reply), reply
        if action is Action.CONTENT:
            envelope = conversation.transaction.envelope()
            assert 1 <= len(envelope.recipients) <= 3
            assert conversation.transaction.sender is None
        if action is Action.CLOSE:
            break


@given(st.binary(max_size=100))
def test_any_octets_get_a_reply(line: bytes) -> None:
    reply, _ = Conversation(SETTINGS, "127.0.0.1").command(line)
    assert GRAMMAR.fullmatch(reply)


def test_too_many_refusals_end_it() -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    for _ in range(ERRORS):
        assert conversation.too_long(b"NOOP x")[1] is Action.NEXT
    reply, action = conversation.command(b"XYZ\r\n")
    assert (reply[:3], action) == (b"421", Action.CLOSE)


def test_a_message_ends_the_transaction_but_not_the_session() -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    for line in (
        b"EHLO a.example",
        b"MAIL FROM:<> BODY=8BITMIME",
        b"RCPT TO:<b@z.example>",
        b"RCPT TO:<a@a.example>",
    ):
        assert conversation.command(line + b"\r\n")[0].startswith(b"250")
    envelope = conversation.transaction.envelope()
    assert (envelope.sender, envelope.parameters) == (b"", b"BODY=8BITMIME")
    assert [recipient.address for recipient in envelope.recipients] == [b"a@a.example", b"b@z.example"]
    conversation.transaction.reset()
    assert conversation.command(b"RCPT TO:<c@d.example>\r\n")[0].startswith(b"503")
    assert conversation.command(b"MAIL FROM:<a@b.example>\r\n")[0].startswith(b"250")


@pytest.mark.parametrize("greeting", [b"HELO a.example\r\n", b"EHLO a.example\r\n"])
def test_parameters_need_ehlo(greeting: bytes) -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(greeting)
    expected = b"250" if greeting.startswith(b"EHLO") else b"555"
    reply, _ = conversation.command(b"MAIL FROM:<a@b.example> SIZE=1\r\n")
    assert reply.startswith(expected)
    conversation.command(b"RSET\r\n")
    conversation.command(b"MAIL FROM:<a@b.example>\r\n")
    reply, _ = conversation.command(b"RCPT TO:<c@d.example> NOTIFY=NEVER\r\n")
    assert reply.startswith(expected)


def test_a_client_that_may_not_relay_is_told_at_rcpt() -> None:
    conversation = Conversation(SETTINGS, "192.0.2.1")
    conversation.command(b"EHLO a.example\r\n")
    assert conversation.command(b"MAIL FROM:<a@b.example>\r\n")[0].startswith(b"250")
    assert conversation.command(b"RCPT TO:<c@d.example>\r\n")[0].startswith(b"550 5.7.1")


def test_wrong_syntax() -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(b"EHLO a.example\r\n")
    for line, code in (
        (b"MAIL <a@b.example>", b"501"),
        (b"MAIL FROM:<a@b.example>", b"250"),
        (b"RCPT <c@d.example>", b"501"),
        (b"RCPT TO: <c@d.example>", b"250"),
        (b"DATA now", b"501"),
        (b"QUIT now", b"501"),
    ):
        assert conversation.command(line + b"\r\n")[0].startswith(code), line


@pytest.mark.parametrize("line", [b"BDAT 5\n", b"BDAT 5 \xa0LAST\r\n", b"bdat\t5\r\n", b"BDAT five\r\n"])
def test_rfc_3030_behind_a_chunk_of_no_size_nothing_is_a_command(line: bytes) -> None:
    """Security 9: its octets would be read as commands."""
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(b"EHLO c.example\r\n")
    reply, action = conversation.command(line)
    assert (reply[:4], action) == (b"421 ", Action.CLOSE)


def test_rfc_3030_chunks_are_for_who_said_ehlo() -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(b"HELO c.example\r\n")
    reply, action = conversation.command(b"BDAT 5\r\n")
    assert (reply[:4], action) == (b"421 ", Action.CLOSE)


def test_postmaster_needs_no_domain() -> None:
    """RFC 5321 §4.5.1: it is the one at the relay's own name; as a sender it is no address."""
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(b"EHLO a.example\r\n")
    assert conversation.command(b"MAIL FROM:<postmaster>\r\n")[0].startswith(b"553 5.1.7")
    conversation.command(b"MAIL FROM:<a@b.example>\r\n")
    assert conversation.command(b"RCPT TO:<PostMaster>\r\n")[0].startswith(b"250")
    assert conversation.command(b"RCPT TO:<postmaster> BY=1\r\n")[0].startswith(b"555")
    assert conversation.command(b"RCPT TO:<postmasters>\r\n")[0].startswith(b"553")
    [recipient] = conversation.transaction.envelope().recipients
    assert recipient.address == b"PostMaster@relay.example.org"


def test_beyond_ascii_only_where_addresses_are() -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    for line in ("NOOP ü", "VRFY ü", "EHLO ü.example", "ÜHLO x"):
        assert conversation.command(line.encode() + b"\r\n")[0].startswith(b"500 5.5.2"), line


def test_refused_recipients_of_who_may_not_relay_are_errors() -> None:
    conversation = Conversation(SETTINGS, "192.0.2.1")
    conversation.command(b"EHLO a.example\r\n")
    conversation.command(b"MAIL FROM:<a@b.example>\r\n")
    answers = [conversation.command(b"RCPT TO:<c@d.example>\r\n") for _ in range(ERRORS + 1)]
    assert [action for _, action in answers[-2:]] == [Action.NEXT, Action.CLOSE]


def test_refused_recipients_are_errors_some_day() -> None:
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(b"EHLO a.example\r\n")
    conversation.command(b"MAIL FROM:<a@b.example>\r\n")
    for _ in range(OVERSHOOT + ERRORS):
        assert conversation.command(b"RCPT TO:<c>\r\n")[1] is Action.NEXT
    assert conversation.command(b"RCPT TO:<c>\r\n")[1] is Action.CLOSE


@pytest.mark.parametrize(
    ("tenant", "priority", "said", "kept"),
    [
        ("", None, b"", b""),
        ("shop", None, b"", b"TENANT=shop"),
        ("shop", 3, b"", b"TENANT=shop MT-PRIORITY=3"),
        ("", -2, b" BODY=7BIT", b"BODY=7BIT MT-PRIORITY=-2"),
        ("shop", 3, b" MT-PRIORITY=1", b"MT-PRIORITY=1 TENANT=shop"),
        ("", 8, b"", b"MT-PRIORITY=8"),
    ],
)
def test_what_a_listener_says_of_its_mail(
    tenant: str, priority: int | None, said: bytes, kept: bytes
) -> None:
    settings = msgspec.structs.replace(SETTINGS, tenant=tenant, priority=priority, priority_limit=4)
    conversation = Conversation(settings, "127.0.0.1")
    conversation.command(b"EHLO a.example\r\n")
    reply, _ = conversation.command(b"MAIL FROM:<a@b.example>" + said + b"\r\n")
    assert reply == b"250 2.1.0 Sender ok\r\n"
    assert conversation.transaction.envelope().parameters == kept


def test_an_envelope_id_is_no_declaration() -> None:
    """RFC 6531: SMTPUTF8 is a parameter of its own; the word inside another's value is not."""
    conversation = Conversation(SETTINGS, "127.0.0.1")
    conversation.command(b"EHLO a.example\r\n")
    conversation.command(b"MAIL FROM:<a@b.example> ENVID=SMTPUTF8\r\n")
    assert not conversation.transaction.utf8
    assert conversation.command("RCPT TO:<ü@d.example>\r\n".encode())[0].startswith(b"553 5.6.7")
    conversation.command(b"RSET\r\n")
    conversation.command(b"MAIL FROM:<a@b.example> SMTPUTF8\r\n")
    assert conversation.transaction.utf8
    conversation.transaction.reset()
    assert not conversation.transaction.utf8


def test_who_is_suppressed_is_refused_and_the_others_are_taken() -> None:
    asked: list[tuple[bytes, bytes]] = []

    def refuse(address: bytes, tenant: bytes) -> bytes | None:
        asked.append((address, tenant))
        return b"550 5.7.1 no\r\n" if address == b"no@y.example" else None

    conversation = Conversation(SETTINGS, "127.0.0.1", refuse)
    conversation.command(b"EHLO x\r\n")
    conversation.command(b"MAIL FROM:<a@Own.example>\r\n")
    assert conversation.command(b"RCPT TO:<no@y.example>\r\n") == (b"550 5.7.1 no\r\n", Action.NEXT)
    assert conversation.command(b"RCPT TO:<yes@y.example>\r\n")[0].startswith(b"250 ")
    assert asked == [(b"no@y.example", b"own.example"), (b"yes@y.example", b"own.example")]
    assert [one.address for one in conversation.transaction.envelope().recipients] == [b"yes@y.example"]


def test_who_may_not_relay_does_not_learn_who_is_suppressed() -> None:
    conversation = Conversation(SETTINGS, "192.0.2.1", lambda *_: b"550 5.7.1 suppressed\r\n")
    conversation.command(b"EHLO x\r\n")
    conversation.command(b"MAIL FROM:<a@b.example>\r\n")
    assert conversation.command(b"RCPT TO:<no@y.example>\r\n")[0] == b"550 5.7.1 Relaying denied\r\n"


HOLDING = msgspec.structs.replace(SETTINGS, submission=True, future_release=86_400.0)


def test_rfc_4865_mail_may_be_handed_in_for_later() -> None:
    """RFC 4865: offered with its limits; the time stands in the envelope, whichever way it was said."""
    conversation = Conversation(HOLDING, "127.0.0.1", wall=lambda: 1_800_000_000.0)
    offered, _ = conversation.command(b"EHLO c.example\r\n")
    assert b" FUTURERELEASE 86400 2027-01-16T08:00:00Z\r\n" in offered
    refused, _ = conversation.command(b"MAIL FROM:<a@b.example> HOLDFOR=86401\r\n")
    assert refused == b"501 5.5.4 A message is held for 86400 seconds at most\r\n"
    assert conversation.command(b"MAIL FROM:<a@b.example> HOLDFOR=60\r\n")[0].startswith(b"250")
    assert conversation.transaction.envelope().parameters == b"HOLDFOR=60 HOLDUNTIL=2027-01-15T08:01:00Z"


@pytest.mark.parametrize(
    ("settings", "clock"),
    [
        (msgspec.structs.replace(HOLDING, submission=False), lambda: 1.0),
        (msgspec.structs.replace(HOLDING, future_release=0.0), lambda: 1.0),
        (HOLDING, None),
    ],
)
def test_rfc_4865_it_is_for_submission_where_it_is_wanted(settings: ListenerSettings, clock: object) -> None:
    """RFC 4865: a relay that is no MSA does not offer it, and what is not offered is not known."""
    conversation = Conversation(settings, "127.0.0.1", wall=clock)  # type: ignore[arg-type]
    assert b"FUTURERELEASE" not in conversation.command(b"EHLO c.example\r\n")[0]
    assert conversation.command(b"MAIL FROM:<a@b.example> HOLDFOR=60\r\n")[0].startswith(b"555 5.5.4")
