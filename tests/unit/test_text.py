"""What strangers say, made fit to be shown."""

from hypothesis import given
from hypothesis import strategies as st

from backstamp.text import printable, reason


def test_controls_become_one_space() -> None:
    assert printable("a\r\n\x1b[31mb\x00\x7f\x9bc ") == "a [31mb c"


def test_what_the_system_says_comes_in_plain_words() -> None:
    denied = PermissionError(13, "Permission denied", "/var/Queue")
    assert reason(denied) == "permission denied (/var/Queue)"
    assert reason(denied, place=False) == "permission denied"
    assert reason(OSError("the Text is ours")) == reason(ValueError("the Text is ours")) == "the Text is ours"


def test_nothing_turns_the_direction_of_a_line() -> None:
    assert printable("a\u202eevil\u2066b") == "a evil b"


def test_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * 600) == "x" * 499 + "…"
    assert printable("xyz", 3) == "xyz"


@given(st.text(), st.integers(1, 50))
def test_any_text_can_be_written_on_one_line(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
