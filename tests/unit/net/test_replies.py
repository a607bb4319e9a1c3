"""Lines in, replies out: whatever comes, a value or a named error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.reply import Reply
from backstamp.net.replies import LINE, REPLY, NonsenseError, ReplyLines
from backstamp.sink.script import reply


def read(octets: bytes) -> list[Reply]:
    lines = ReplyLines()
    return [found for line in octets.splitlines() if (found := lines.take(line)) is not None]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"250 ok\r\n", Reply(250, "ok")),
        (b"250\r\n", Reply(250, "")),
        (b"250 \r\n", Reply(250, "")),
        (b"250 ok\n", Reply(250, "ok")),
        (b"250-a\r\n250-\r\n250 c\r\n", Reply(250, "a\n\nc")),
        (b"250-a\r\n250\r\n", Reply(250, "a\n")),
        (b"354 \xc3\xa4 \xff \x1b[31m\r\n", Reply(354, "ä \\xff \x1b[31m")),
    ],
)
def test_replies(octets: bytes, expected: Reply) -> None:
    assert read(octets) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"2",
        b"25",
        b"25 ok",
        b"2500",
        b"250x",
        b"-50 ok",
        b"+50 ok",
        b"1_0 ok",
        b"150 ok",
        b"600 ok",
        b" 250 ok",
        b"\xb2\xb2\xb2 ok",
        b"\0\0\0\0",
        b"EHLO x",
        b"250 " + b"x" * LINE,
    ],
)
def test_what_is_no_reply(line: bytes) -> None:
    """Security 18."""
    with pytest.raises(NonsenseError):
        ReplyLines().take(line)


def test_two_codes_in_one_reply() -> None:
    with pytest.raises(NonsenseError, match="two codes"):
        read(b"250-a\r\n550 b\r\n")


def test_a_reply_has_an_end() -> None:
    """Security 18."""
    lines = ReplyLines()
    with pytest.raises(NonsenseError, match="too many lines"):
        for _ in range(REPLY):
            lines.take(b"250-")


def test_the_bound_is_for_each_reply() -> None:
    lines = ReplyLines()
    for _ in range(3 * REPLY // LINE):
        assert lines.take(b"250 " + b"x" * (LINE - 4)) is not None


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b""))))
def test_any_octets_are_a_value_or_the_named_error(given_lines: list[bytes]) -> None:
    """Security 18."""
    lines = ReplyLines()
    try:
        for line in given_lines:
            found = lines.take(line)
            assert found is None or 200 <= found.code <= 599
    except NonsenseError as error:
        assert str(error).isascii()
        assert str(error).isprintable()


@given(
    st.integers(200, 599),
    st.lists(st.text(st.characters(exclude_categories=("C", "Z")), max_size=60), min_size=1, max_size=5),
)
def test_what_a_server_writes_is_what_is_read(code: int, text: list[str]) -> None:
    lines = ReplyLines()
    found = [lines.take(line) for line in reply(code, "\n".join(text)).split(b"\n")[:-1]]
    assert found[:-1] == [None] * (len(text) - 1)
    assert found[-1] == Reply(code, "\n".join(text))
