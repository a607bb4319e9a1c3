"""Smuggling, bare line ends, long lines and headers: whatever comes makes one message or none."""

import pytest
from tests.support.door import door

from backstamp.listener.settings import Limits

START = b"EHLO client.test\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
AGAIN = b"MAIL FROM:<smuggled@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\n"
FALSE_ENDS = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n.\0\r\n", b"\n\n.\r\n", b"\r\n..\n.\r\n",
]  # fmt: skip
MIB = 1024 * 1024


def content_of(raw: bytes) -> bytes:
    """Return what stands below the Received field."""
    return raw.partition(b"+0000\r\n")[2]


def lines_of(raw: bytes) -> bytes:
    """Say it simply: every CR, LF or CRLF is a line end, and only behind a CRLF a doubled dot is one dot."""
    unstuffed = raw.replace(b"\r\n.", b"\r\n")
    return unstuffed.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.parametrize("before", [0, 100_000, 2 * MIB], ids=["small", "gathered", "large"])
@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
async def test_a_false_end_ends_nothing_where_line_ends_are_made_good(end: bytes, before: int) -> None:
    """Security 1: one message or none, never two, with `normalize` as well."""
    first = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + (b"z" * 70 + b"\r\n") * (before // 72) + b"first"
    inside = first + end + AGAIN + b"Subject: y\r\n\r\nsecond\r\n"
    async with door(line_endings="normalize") as opened:
        replies = (await opened.talk(START + inside + b".\r\nQUIT\r\n")).decode()
        assert replies.count("\r\n250 2.1.0") == 1
        assert replies.count("\r\n354 ") == 1
        if b"\0" in end:
            assert "550 5.6.0 The message has a NUL" in replies
            assert not opened.queue.messages
        else:
            [message] = opened.queue.messages
            assert message.envelope.sender == b"a@b.example"
            assert content_of(message.content) == lines_of(inside)


@pytest.mark.parametrize("before", [0, 2 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
async def test_a_false_end_refuses_the_message_where_they_are_not(end: bytes, before: int) -> None:
    """Security 1: none, and never two, by default."""
    first = b"Subject: x\r\n\r\n" + (b"z" * 70 + b"\r\n") * (before // 72) + b"first"
    inside = first + end + AGAIN + b"Subject: y\r\n\r\nsecond\r\n"
    async with door() as opened:
        replies = (await opened.talk(START + inside + b".\r\nQUIT\r\n")).decode()
        assert replies.count("\r\n250 2.1.0") == 1
        assert "550 5.6.0 The message has a " in replies
        assert not opened.queue.messages


@pytest.mark.parametrize("piece", [1, 3, None])
async def test_line_ends_are_made_good_however_the_content_is_cut(piece: int | None) -> None:
    raw = b"Subject: x\r\n\r\na\rb\nc\r\r\n.d\r\n..e\n.f\r\n"
    async with door(line_endings="normalize") as opened:
        await opened.talk(START + raw + b".\r\nQUIT\r\n", piece=piece)
        [message] = opened.queue.messages
        wanted = b"Subject: x\r\n\r\na\r\nb\r\nc\r\n\r\nd\r\n.e\r\n.f\r\n"
        assert content_of(message.content) == wanted


async def test_a_message_that_grows_beyond_the_limit_is_refused() -> None:
    async with door(Limits(message_size=1000), line_endings="normalize") as opened:
        replies = await opened.talk(START + b"\n" * 600 + b"\r\n.\r\nQUIT\r\n")
        assert b"\r\n552 5.3.4 " in replies
        assert not opened.queue.messages


@pytest.mark.parametrize("size", [0, 100_000, 2 * MIB])
async def test_a_line_longer_than_the_limit(size: int) -> None:
    filler = b"Subject: x\r\n\r\n" + (b"z" * 998 + b"\r\n") * (size // 1000)
    async with door(Limits(line_length=998)) as opened:
        replies = await opened.talk(START + filler + b"y" * 999 + b"\r\n" + filler + b".\r\nQUIT\r\n")
        assert b"\r\n554 5.6.0 The message has a line longer than the limit\r\n" in replies
        assert not opened.queue.messages
        await opened.talk(START + filler + b".." + b"y" * 997 + b"\r\n.\r\nQUIT\r\n")
        assert len(opened.queue.messages) == 1


async def test_long_lines_pass_where_there_is_no_limit() -> None:
    """Security 15: an endless line is a content like another."""
    async with door() as opened:
        await opened.talk(START + b"Subject: x\r\n\r\n" + b"y" * 3 * MIB + b"\r\n.\r\nQUIT\r\n")
        [message] = opened.queue.messages
        assert content_of(message.content) == b"Subject: x\r\n\r\n" + b"y" * 3 * MIB + b"\r\n"


FIELD = b"X: " + b"y" * 95 + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "body", "taken"),
    [
        (100, b"\r\nz\r\n", True),
        (101, b"\r\nz\r\n", False),
        (101, b"", False),
        (101, b"\r\n" + b"z" * 2 * MIB + b"\r\n", False),
        (100, b"\r\n" + b"z" * 2 * MIB + b"\r\n", True),
    ],
)
async def test_a_header_longer_than_the_limit(fields: int, body: bytes, taken: bool) -> None:
    """Security 15: the header is bounded."""
    async with door(Limits(header_size=10_000)) as opened:
        replies = await opened.talk(START + FIELD * fields + body + b".\r\nQUIT\r\n")
        assert len(opened.queue.messages) == taken
        assert (b"\r\n552 5.3.4 The message header exceeds the limit\r\n" in replies) != taken


async def test_a_header_that_is_not_in_the_first_piece_of_a_large_message() -> None:
    """Security 15: no Received line, and no tenant, is overlooked because it stands far below."""
    dots = b"..: y\r\n" * (MIB // 6)
    async with door(Limits(header_size=1_000_000)) as opened:
        replies = await opened.talk(START + dots + b"\r\nbody\r\n.\r\nQUIT\r\n")
        assert b"\r\n552 5.3.4 The message header exceeds the limit\r\n" in replies
        assert not opened.queue.messages
