"""What mail becomes for one peer: every combination of what it needs and what the peer takes."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from backstamp.delivery.prepare import for_peer, left_out, relayed
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.mail.reply import Reply
from backstamp.queue.port import Load

ASCII = b"Subject: hello\r\n\r\nbody\r\n"
BODY_8BIT = b"Subject: hello\r\n\r\n" + "Grüße\r\n".encode()
HEADER_8BIT = "Subject: Grüße\r\n\r\nbody\r\n".encode()
EMPTY = b""
BOTH = frozenset({"8BITMIME", "SMTPUTF8", "PIPELINING"})


def prepared(
    content: Any = ASCII,
    parameters: bytes = b"",
    extensions: frozenset[str] = BOTH,
    *,
    sender: bytes = b"a@example.org",
    size_limit: int | None = None,
) -> bytes | str:
    """Return the parameters, or the status of the refusal."""
    recipients = {0: Recipient(b"b@example.net")}
    load = Load(sender, parameters, recipients, content)
    result = for_peer(
        load, [*recipients.values()], host="mx.test", extensions=extensions, size_limit=size_limit
    )
    if isinstance(result, Outcome):
        assert (result.verdict, result.scope, result.host) == (Verdict.FAILED, Scope.MESSAGE, "mx.test")
        return str(result.reply.enhanced)
    return result.parameters


NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("content", "parameters", "extensions", "expected"),
    [
        (ASCII, b"", BOTH, b""),
        (ASCII, b"", NONE, b""),
        (ASCII, b"BODY=7BIT", BOTH, b""),
        (ASCII, b"BODY=8BITMIME", BOTH, b"BODY=8BITMIME"),
        (ASCII, b"body=8bitmime", BOTH, b"BODY=8BITMIME"),
        (ASCII, b"BODY=8BITMIME", NONE, b""),
        (BODY_8BIT, b"BODY=8BITMIME", BOTH, b"BODY=8BITMIME"),
        (BODY_8BIT, b"", BOTH, b"BODY=8BITMIME"),
        (BODY_8BIT, b"BODY=8BITMIME", NONE, "5.6.3"),
        (BODY_8BIT, b"", NONE, "5.6.3"),
        (ASCII, b"SMTPUTF8", BOTH, b"SMTPUTF8"),
        (ASCII, b"SMTPUTF8", NONE, b""),
        (BODY_8BIT, b"BODY=8BITMIME SMTPUTF8", BOTH, b"BODY=8BITMIME SMTPUTF8"),
        (BODY_8BIT, b"BODY=8BITMIME SMTPUTF8", frozenset({"8BITMIME"}), b"BODY=8BITMIME"),
        (HEADER_8BIT, b"BODY=8BITMIME SMTPUTF8", BOTH, b"BODY=8BITMIME SMTPUTF8"),
        (HEADER_8BIT, b"BODY=8BITMIME SMTPUTF8", frozenset({"8BITMIME"}), "5.6.9"),
        (HEADER_8BIT, b"BODY=8BITMIME SMTPUTF8", NONE, "5.6.3"),
        (HEADER_8BIT, b"BODY=8BITMIME", frozenset({"8BITMIME"}), b"BODY=8BITMIME"),
        (b"\r\n" + "Grüße".encode(), b"SMTPUTF8", frozenset({"8BITMIME"}), b"BODY=8BITMIME"),
        (EMPTY, b"BODY=8BITMIME SMTPUTF8", NONE, b""),
        (ASCII, b"RET=HDRS ENVID=SMTPUTF8", BOTH, b""),
    ],
)
def test_what_a_peer_is_told(
    content: bytes, parameters: bytes, extensions: frozenset[str], expected: bytes | str
) -> None:
    assert prepared(content, parameters, extensions) == expected


def test_a_sender_beyond_ascii_needs_a_peer_that_takes_it() -> None:
    sender = "jürgen@example.org".encode()
    assert prepared(ASCII, b"SMTPUTF8", frozenset({"8BITMIME"}), sender=sender) == "5.6.7"
    assert prepared(ASCII, b"SMTPUTF8", BOTH, sender=sender) == b"SMTPUTF8"


def test_a_recipient_beyond_ascii_is_left_out_alone() -> None:
    recipients = {3: Recipient(b"b@example.net"), 4: Recipient("jürgen@example.net".encode())}
    assert left_out(recipients, host="mx.test", extensions=BOTH) == {}
    [(ordinal, outcome)] = left_out(recipients, host="mx.test", extensions=NONE).items()
    assert (ordinal, outcome.verdict, str(outcome.reply.enhanced)) == (4, Verdict.FAILED, "5.6.7")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, b""), (0, b""), (len(ASCII), b""), (len(ASCII) + 1, b""), (len(ASCII) - 1, "5.3.4")],
)
def test_the_peers_size_limit(limit: int | None, expected: bytes | str) -> None:
    assert prepared(size_limit=limit) == expected


class Kept(msgspec.Struct):
    """A stored content of which only the facts are there."""

    size: int
    ascii: bool
    header: bytes

    def pieces(self) -> AsyncIterator[bytes]:
        raise AssertionError("nobody may read it here")


@pytest.mark.parametrize(
    ("kept", "extensions", "limit", "expected"),
    [
        (Kept(1000, True, b"A: b"), NONE, 1000, b""),
        (Kept(1001, True, b"A: b"), BOTH, 1000, "5.3.4"),
        (Kept(1000, False, b"A: b"), BOTH, None, b"BODY=8BITMIME SMTPUTF8"),
        (Kept(1000, False, b"A: b"), frozenset({"8BITMIME"}), None, b"BODY=8BITMIME"),
        (Kept(1000, False, b"A: \xc3\xbc"), frozenset({"8BITMIME"}), None, "5.6.9"),
        (Kept(1000, False, b"A: b"), NONE, None, "5.6.3"),
    ],
)
def test_a_stored_content_is_judged_by_what_is_known_of_it(
    kept: Kept, extensions: frozenset[str], limit: int | None, expected: bytes | str
) -> None:
    parameters = b"SMTPUTF8" if not kept.ascii else b""
    assert prepared(kept, parameters, extensions, size_limit=limit) == expected


ASKED = b"RET=hdrs BODY=7BIT ENVID=Qq+2B1 MT-PRIORITY=-3 TENANT=shop REPORTS=01:0"


@pytest.mark.parametrize(
    ("extensions", "told"),
    [
        (NONE, b""),
        (BOTH, b""),
        (frozenset({"DSN"}), b"RET=hdrs ENVID=Qq+2B1"),
        (frozenset({"MT-PRIORITY"}), b"MT-PRIORITY=-3"),
        (frozenset({"DSN", "MT-PRIORITY"}), b"RET=hdrs ENVID=Qq+2B1 MT-PRIORITY=-3"),
    ],
)
def test_rfc_3461_and_6710_what_is_asked_for_goes_on_where_it_is_understood(
    extensions: frozenset[str], told: bytes
) -> None:
    """And what is the queue's own goes nowhere."""
    assert prepared(ASCII, ASKED, extensions) == told


def test_rfc_3461_nothing_is_added_that_was_not_asked_for() -> None:
    assert prepared(ASCII, b"", frozenset({"DSN", "MT-PRIORITY"})) == b""


PLAIN = Recipient(b"a@example.net")
MARKED = Recipient(b"b@example.net", b"NOTIFY=never ORCPT=rfc822;B+2Bx@example.net")
WIDE = Recipient(b"c@example.net", "ORCPT=utf-8;jürgen@example.net".encode())


def addressed(recipients: list[Recipient], extensions: frozenset[str]) -> object:
    load = Load(b"a@example.org", b"", dict(enumerate(recipients)), ASCII)
    result = for_peer(load, recipients, host="mx.test", extensions=extensions, size_limit=None)
    assert not isinstance(result, Outcome)
    return result.recipients


def test_rfc_3461_recipients_go_on_unchanged_to_a_peer_with_dsn() -> None:
    recipients = [PLAIN, MARKED]
    assert addressed(recipients, frozenset({"DSN"})) == recipients
    assert addressed(recipients, frozenset({"DSN", "SMTPUTF8"})) is recipients


def test_rfc_3461_a_peer_without_dsn_is_told_nothing() -> None:
    assert addressed([PLAIN, MARKED], BOTH) == [PLAIN, Recipient(MARKED.address)]


@pytest.mark.parametrize("extensions", [NONE, BOTH, frozenset({"DSN"})])
def test_recipients_without_parameters_are_not_even_copied(extensions: frozenset[str]) -> None:
    recipients = [PLAIN, Recipient(b"z@example.net")]
    assert addressed(recipients, extensions) is recipients


def test_rfc_6533_an_original_recipient_beyond_ascii_is_written_in_ascii_where_smtputf8_is_not_offered() -> (
    None
):
    [found] = addressed([WIDE], frozenset({"DSN"}))  # type: ignore[misc]
    assert found == Recipient(b"c@example.net", b"ORCPT=utf-8;j\\x{FC}rgen@example.net")
    assert addressed([WIDE], frozenset({"DSN", "SMTPUTF8"})) == [WIDE]


@pytest.mark.parametrize(
    ("sender", "extensions", "owed"),
    [
        (b"a@example.org", NONE, (1, 3)),
        (b"a@example.org", frozenset({"DSN"}), ()),
        (b"", NONE, ()),
    ],
)
def test_rfc_3461_who_is_owed_a_relayed_report(
    sender: bytes, extensions: frozenset[str], owed: tuple[int, ...]
) -> None:
    notify = [
        b"",
        b"NOTIFY=success",
        b"NOTIFY=NEVER",
        b"ORCPT=rfc822;x@y NOTIFY=FAILURE,SUCCESS",
        b"NOTIFY=DELAY",
    ]
    notify.append(b"NOTIFY=SUCCESS")  # who was not delivered
    recipients = {number: Recipient(b"r%d@x.test" % number, one) for number, one in enumerate(notify)}
    load = Load(sender, b"", recipients, ASCII)
    outcomes = dict.fromkeys(range(5), Outcome(Verdict.DELIVERED, Reply(250), Scope.MESSAGE))
    outcomes[5] = Outcome(Verdict.DEFERRED, Reply(450), Scope.RECIPIENT)
    assert relayed(load, outcomes, extensions=extensions) == owed


@pytest.mark.parametrize(
    ("verified", "offers", "expected"),
    [
        (True, BOTH | {"REQUIRETLS"}, b"REQUIRETLS"),
        (True, BOTH, ("5.7.30", Scope.HOST)),
        (False, BOTH | {"REQUIRETLS"}, ("5.7.10", Scope.MESSAGE)),
        (False, NONE, ("5.7.10", Scope.MESSAGE)),
    ],
)
def test_rfc_8689_mail_that_demands_tls_goes_where_it_is_verified_and_promised(
    verified: bool, offers: frozenset[str], expected: object
) -> None:
    """RFC 8689: only over verified TLS, and only to a peer with REQUIRETLS, which is told it."""
    recipients = {0: Recipient(b"b@example.net")}
    load = Load(b"a@example.org", b"REQUIRETLS", recipients, ASCII)
    result = for_peer(
        load,
        [*recipients.values()],
        host="mx.test",
        extensions=offers,
        size_limit=None,
        verified=verified,
    )
    if isinstance(result, Outcome):
        assert result.verdict is Verdict.FAILED
        assert (str(result.reply.enhanced), result.scope) == expected
    else:
        assert result.parameters == expected


def test_rfc_8689_an_envelope_id_of_that_name_demands_nothing() -> None:
    assert prepared(ASCII, b"ENVID=REQUIRETLS") == b""
