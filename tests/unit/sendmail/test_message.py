"""A message as programs write it, and as it goes out."""

import email
import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.sendmail import message


def wire(*pieces: bytes, dot_ends: bool = True) -> bytes:
    return b"".join(message.wire(pieces, dot_ends=dot_ends))


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        (b"", b""),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\r\n"),
        (b"a\r\r\nb", b"a\r\nb\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\rb\n", b"a\rb\r\n"),
        (b"a\n.\nb\n", b"a\r\n"),
        (b"a\n.\r\nb\n", b"a\r\n"),
        (b".\nb\n", b""),
        (b"a\n.", b"a\r\n"),
        (b"a\n..\n .\nx.\n", b"a\r\n..\r\n .\r\nx.\r\n"),
        (b"\n\n", b"\r\n\r\n"),
    ],
)
def test_lines(written: bytes, sent: bytes) -> None:
    """RFC 5321 §2.3.8: only CRLF ends a line; however the pieces are cut."""
    assert wire(written) == sent
    assert wire(*(bytes([one]) for one in written)) == sent


def test_a_dot_is_a_line_like_others_if_that_is_asked() -> None:
    assert wire(b"a\n.\nb\n.", dot_ends=False) == b"a\r\n.\r\nb\r\n.\r\n"


def test_nothing_is_read_behind_the_dot() -> None:
    def pieces():
        yield b"a\n"
        yield b".\n"
        raise AssertionError("somebody waits on a terminal that stays open")

    assert b"".join(message.wire(pieces(), dot_ends=True)) == b"a\r\n"


def test_an_endless_line_is_passed_on_in_parts() -> None:
    piece = b"x" * 65536
    parts = list(message.wire([piece] * 40 + [b".\n.\n", b"y\n"], dot_ends=True))
    assert max(map(len, parts)) <= 1024 * 1024 + 2 * 65536
    assert b"".join(parts) == piece * 40 + b".\r\n"


@given(st.lists(st.text(st.sampled_from("ab.\r\n"), max_size=6).map(str.encode), max_size=8), st.booleans())
def test_it_does_not_matter_how_the_pieces_are_cut(pieces: list[bytes], dot_ends: bool) -> None:
    whole = b"".join(pieces)
    assert wire(*pieces, dot_ends=dot_ends) == wire(whole, dot_ends=dot_ends)
    assert b"\n" not in wire(whole).replace(b"\r\n", b"")


def begun(written: bytes, sender: bytes = b"From: me\r\n") -> bytes:
    content = wire(written)
    return message.begin(content, message.head(content), sender)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        (b"From: a\nTo: b\n\nx\n", b"From: a\r\nTo: b\r\n\r\nx\r\n"),
        (b"To: b\n\nx\n", b"From: me\r\nTo: b\r\n\r\nx\r\n"),
        (b"FROM : a\nBcc: c,\n d\nResent-BCC: e\nTo: b\n\nBcc: x\n", b"FROM : a\r\nTo: b\r\n\r\nBcc: x\r\n"),
        (b"From a@x Mon\n>From b\nFrom: a\n\nx\n", b"From: a\r\n\r\nx\r\n"),
        (b"just text\n", b"From: me\r\n\r\njust text\r\n"),
        (b"\ntext\n", b"From: me\r\n\r\ntext\r\n"),
        (b"From: a\ntext: \n", b"From: a\r\ntext: \r\n"),
        (b"From: a\nno field\nBcc: c\n", b"From: a\r\n\r\nno field\r\nBcc: c\r\n"),
        (b"", b"From: me\r\n"),
        (b"From: a\rb\nTo: c\n\n", b"From: a\rb\r\nTo: c\r\n\r\n"),
    ],
)
def test_what_is_done_to_the_header(written: bytes, sent: bytes) -> None:
    """RFC 6409 §8.1: a sender that is missing is added; RFC 5322 §3.6.3: Bcc is taken out."""
    assert begun(written) == sent


def lists(written: bytes) -> list[str]:
    return [one.strip() for one in message.head(wire(written)).recipients()]


def test_addresses_get_a_domain() -> None:
    """As cron writes them; what is no address, and every other field, stays."""
    content = (
        b'From: "(Cron Daemon)" <root>\r\nTo: root (Cron Daemon),\r\n J\xf6rg <joe>, a@x.org\r\n'
        b"Sender: two words\r\nX-To: root\r\n\r\nTo: root\r\n"
    )
    sent = message.begin(content, message.head(content), b"", hostname="h.example")
    assert sent == (
        b'From: "(Cron Daemon)" <root@h.example>\r\nTo: root@h.example (Cron Daemon),\r\n'
        b" J\xf6rg <joe@h.example>, a@x.org\r\nSender: two words\r\nX-To: root\r\n\r\nTo: root\r\n"
    )


def test_a_key_tells_the_part_of_a_message_in_many_transactions() -> None:
    content = b"BackStamp-Idempotency-Key : a\r\n\tb \r\nFrom: a\r\n\r\nBackstamp-Idempotency-Key: c\r\n"
    head = message.head(content)
    assert message.begin(content, head, b"") == content
    assert message.begin(content, head, b"", part=1000) == content.replace(b"\tb \r\n", b"\tb/1000\r\n")


def test_a_key_as_long_as_may_be_tells_the_part_and_is_one_still() -> None:
    """A key of 200 characters is taken; longer the relay would refuse the second transaction (554)."""

    def second(key: bytes) -> bytes:
        content = b"Backstamp-Idempotency-Key: " + key + b"\r\n\r\n"
        return message.begin(content, message.head(content), b"", part=1000)[27:].partition(b"\r\n")[0]

    assert second(b"k" * 195) == b"k" * 195 + b"/1000"
    long = [second(b"k" * 199 + last) for last in (b"a", b"b")]
    assert max(map(len, long)) <= 200
    assert len({*long}) == 2
    assert all(one.endswith(b"/1000") for one in long)


def test_who_is_named_in_the_header() -> None:
    assert lists(b"To: a,\n b\nSubject: x\ncc: c\nBcc: d\n\nTo: no\n") == ["a, b", "c", "d"]
    assert lists("To: \u00fc@x".encode()) == ["\u00fc@x"]
    assert lists(b"Subject: x\n\n") == []


def test_mail_that_is_sent_again_goes_to_those_it_is_sent_again_to() -> None:
    """RFC 5322 §3.6.6: the Resent fields are of the last sending."""
    assert lists(b"To: a\nResent-To: b\nBcc: c\nResent-Bcc: d\n\n") == ["b", "d"]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", "From: a@x\r\n"),
        ("Me", "From: Me <a@x>\r\n"),
        ("M. E., Jr", 'From: "M. E., Jr" <a@x>\r\n'),
        ("Gr\u00fcn", "From: =?utf-8?b?R3LDvG4=?= <a@x>\r\n"),
        ("a\r\nBcc: b", "From: "),
    ],
)
def test_a_from_field(name: str, field: str) -> None:
    """RFC 2047 §5: a name beyond ASCII is encoded; Security 4: no name makes a second field."""
    made = message.from_field(name, "a@x").decode()
    assert made.startswith(field)
    assert made.count("\n") == 1
    assert made.endswith("\r\n")


def test_a_long_name_is_words_of_75_octets() -> None:
    """RFC 2047 §2: a reader may take a longer one for text."""
    name = "\u041a\u043e\u043d\u0441\u0442\u0430\u043d\u0442\u0438\u043d " * 8
    made = message.from_field(name, "a@x")
    assert all(len(word) <= 75 for word in made.split())
    assert message.head(made).end == len(made)
    words, address = email.message_from_bytes(made)["From"].rsplit(" ", 1)
    read = email.header.make_header(email.header.decode_header(words))
    assert (str(read).strip(), address) == (name.strip(), "<a@x>")


def test_a_from_field_keeps_an_address_beyond_ascii() -> None:
    assert message.from_field("Me", "\u00fc@x").decode() == "From: Me <\u00fc@x>\r\n"
