"""Mailboxes and header texts: who is meant, and no text of a stranger costs more than reading it."""

import pytest

from backstamp.inject import mailbox
from backstamp.inject.mailbox import WORD, Mailbox

MANY = 100_000
"""What takes the square, or more, of so many characters does not end."""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b@y.example", Mailbox(b"b@y.example")),
        ("  b@y.example ", Mailbox(b"b@y.example")),
        ("<b@y.example>", Mailbox(b"b@y.example")),
        ("Bea B. <b@y.example>", Mailbox(b"b@y.example", "Bea B.")),
        (" Bea   <b@y.example> ", Mailbox(b"b@y.example", "Bea")),
        ('"Bea \\"B\\" <x>"  <b@y.example>', Mailbox(b"b@y.example", 'Bea "B" <x>')),
        ('""<b@y.example>', Mailbox(b"b@y.example")),
    ],
)
def test_who_is_meant(text: str, found: Mailbox) -> None:
    assert mailbox.mailbox(text) == found


@pytest.mark.parametrize(
    "text",
    [
        " " * MANY,
        " " * MANY + "> <jo@example.org>",
        "<" * MANY,
        '"' + "\\" * MANY,
        '"' + "a" * MANY,
        "x <" + " " * MANY,
        '"a"' + " " * MANY + "<",
    ],
)
def test_a_name_a_stranger_chose_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        mailbox.mailbox(text)


def test_a_long_text_of_long_words_is_read_once() -> None:
    text = " ".join(["x" * (WORD - 1)] * 3000)
    assert mailbox.one_line(text) is text
    with pytest.raises(ValueError, match=f"more than {WORD}"):
        mailbox.one_line(text + "xxx")
