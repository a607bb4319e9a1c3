"""What mail becomes for one peer: every combination of what it needs and what the peer takes."""

import pytest

from backstamp.delivery.prepare import left_out, mail_parameters
from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Scope, Verdict
from backstamp.queue.port import Load

ASCII = b"Subject: hello\r\n\r\nbody\r\n"
BODY_8BIT = b"Subject: hello\r\n\r\n" + "Grüße\r\n".encode()
HEADER_8BIT = "Subject: Grüße\r\n\r\nbody\r\n".encode()
EMPTY = b""
BOTH = frozenset({"8BITMIME", "SMTPUTF8", "PIPELINING"})


def prepared(
    content: bytes = ASCII,
    parameters: bytes = b"",
    extensions: frozenset[str] = BOTH,
    *,
    sender: bytes = b"a@example.org",
    size_limit: int | None = None,
) -> bytes | str:
    """Return the parameters, or the status of the refusal."""
    load = Load(sender, parameters, {0: Recipient(b"b@example.net")}, content)
    result = mail_parameters(load, host="mx.test", extensions=extensions, size_limit=size_limit)
    if isinstance(result, Outcome):
        assert (result.verdict, result.scope, result.host) == (Verdict.FAILED, Scope.MESSAGE, "mx.test")
        return str(result.reply.enhanced)
    return result


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
        (ASCII, b"RET=HDRS ENVID=BODY=8BITMIME", BOTH, b""),
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
