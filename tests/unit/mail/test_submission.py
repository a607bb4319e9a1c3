"""Addresses without a domain, and whom a header names."""

import email.headerregistry
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.submission import FIELD, NOT_ALLOWED, UNREADABLE, header_senders, qualified, refusal


@pytest.mark.parametrize(
    ("path", "becomes"),
    [
        (b"<bob>", b"<bob@example.org>"),
        (b"<bob> SIZE=1 RET=HDRS", b"<bob@example.org> SIZE=1 RET=HDRS"),
        (b'<"b b"> X', b'<"b b"@example.org> X'),
        (b'<"b@x">', b'<"b@x"@example.org>'),
        (b"<>", b"<>"),
        (b"<bob@shop>", b"<bob@shop>"),
        (b"bob", b"bob"),
        (b"<bo b>", b"<bo b>"),
        (b"", b""),
    ],
)
def test_rfc_6409_an_address_without_a_domain_is_given_one(path: bytes, becomes: bytes) -> None:
    """RFC 6409: domains of the envelope are fully qualified; where nothing is to be given all stays."""
    assert qualified(path, b"example.org") == becomes
    assert qualified(path, b"") == path


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b"From: a@b.example", [b"a@b.example"]),
        (b"To: x@y.example\r\nFROM : Anne <a@b.example>\r\nSubject: s", [b"a@b.example"]),
        (b'From: "Doe, Jane" <a@b.example>', [b"a@b.example"]),
        (b"From: =?utf-8?q?J=C3=BC?= <a@b.example>", [b"a@b.example"]),
        ("From: Jürgen <jü@b.example>".encode(), ["jü@b.example".encode()]),
        (b"From: John Q. Public <a@b.example>", [b"a@b.example"]),
        (b"From: a@b.example (the (real) \\) one)", [b"a@b.example"]),
        (b"From:\r\n\tAnne\r\n <a@b.example>", [b"a@b.example"]),
        (b'From: "b c"@b.example', [b'"b c"@b.example']),
        (b"From: a@[192.0.2.1]", []),
        (b"From: <a@[192.0.2.1]>", [b"a@[192.0.2.1]"]),
        (b"From: a@b.example\r\nSender: s@b.example", [b"a@b.example", b"s@b.example"]),
        (
            b"From: a@b.example, c@d.example\r\nSender: S <s@b.example>",
            [b"a@b.example", b"c@d.example", b"s@b.example"],
        ),
        (b"From: a@b.example\r\nX-From: z@z.example", [b"a@b.example"]),
        # Nobody, or somebody else to each who reads it.
        (b"", []),
        (b"From:", []),
        (b"From: Anne", []),
        (b"From: <>", []),
        (b"From: a@b.example, c@d.example", []),
        (b"From: a@b.example, c@d.example\r\nSender: s@b.example, t@b.example", []),
        (b"From: a@b.example\r\nFrom: c@d.example", []),
        (b"From: a@b.example\r\nfrom : c@d.example", []),
        (b"From: a@b.example\r\nSender: s@b.example\r\nSender: s@b.example", []),
        (b"From: a@b.example\r\nSender: Anne", []),
        (b"From: a@b.example\r\nSender: s@b.example, t@b.example", []),
        (b"From: Anne\r\nSender: s@b.example", []),
        (b"From: a@b.example,", []),
        (b"From: c@d.example <a@b.example>", []),
        (b"From: <c@d.example> <a@b.example>", []),
        (b"From: <a@b.example> c@d.example", []),
        (b"From: a @ b.example", []),
        (b"From: a@b.example c", []),
        (b"From: a@b.exam(x)ple", []),
        (b"From: (unended a@b.example", []),
        (b'From: "unended <a@b.example>', []),
        (b"From: friends: a@b.example;", []),
        (b"From: <@c.example:a@b.example>", []),
        (b"From: =?utf-8?q?a?=@b.example", []),
        (b"From: a@b.example\x00", []),
        (b"From: \xff@b.example", []),
        (b"From: " + b"x" * FIELD + b" <a@b.example>", []),
    ],
)
def test_rfc_5322_who_is_named(header: bytes, named: list[bytes]) -> None:
    """RFC 5322: all of From and the one of Sender; nothing that can be read in two ways."""
    assert header_senders(header) == named


def test_rfc_6409_who_may_not_be_the_sender_is_refused() -> None:
    """RFC 6409: 550 5.7.1 to who is not allowed, 554 5.6.0 where nobody is named."""
    mine = b"a@b.example".__eq__
    assert refusal(b"From: A <a@b.example>", mine) is None
    assert refusal(b"From: A <c@b.example>", mine) == NOT_ALLOWED
    assert refusal(b"Subject: nobody", mine) == UNREADABLE


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@b.example\r\nSender: Boss <boss@bank.example>",
        b"From: Boss <boss@bank.example>, a@b.example\r\nSender: a@b.example",
        b"From: boss@bank.example, cfo@bank.example\r\nSender: a@b.example",
        b"From: boss@bank.example\r\nSender: a@b.example",
    ],
)
def test_nobody_passes_for_another_by_sender_or_by_a_second_author(header: bytes) -> None:
    """RFC 6409: a program that shows the other name would show it as the message's."""
    assert refusal(header, b"a@b.example".__eq__) == NOT_ALLOWED


def test_who_may_send_as_several_may_name_them_all() -> None:
    """RFC 5322: a secretary sends for two authors, all of whom the user may be."""
    ours = lambda address: address.endswith(b"@b.example")  # noqa: E731
    assert refusal(b"From: a@b.example\r\nSender: s@b.example", ours) is None
    assert refusal(b"From: a@b.example, c@b.example\r\nSender: s@b.example", ours) is None


WORDS = rb"""From: Sender: a@b.example <a@b.example> < > " ( ) \ , @ ;""".split()
PIECES = st.sampled_from([b" ", b"\r\n", *WORDS])
FIELDS = st.lists(PIECES, max_size=12).map(b"".join).filter(lambda text: not {*b"\r:"} & {*text})


@given(st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=30).map(b"".join))
def test_any_octets_name_somebody_or_nobody(header: bytes) -> None:
    for address in header_senders(header):
        assert b"@" in address and address in header


@given(
    st.lists(PIECES, max_size=12).map(b"".join).filter(lambda text: b"\r" not in text and b":" not in text)
)
def test_who_is_named_is_whom_others_read_too(field: bytes) -> None:
    """Python's own parser finds the same address wherever we find one."""
    named = header_senders(b"From: " + field)
    if named:
        other = email.policy.default.header_factory("from", field.decode())
        assert [one.addr_spec.encode() for one in other.addresses] == named


@pytest.mark.parametrize("piece", [b"(", b'"', b"<", b"\\", b"a@b,", b"(a)", b"@"])
def test_a_field_of_any_make_is_read_at_once(piece: bytes) -> None:
    """No nesting of comments is deep enough to be an error, and none is looked at twice."""
    assert header_senders(b"From: " + piece * (FIELD // len(piece))) == []
