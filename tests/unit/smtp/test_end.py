"""The end of a content: on any octets, however they are cut, as the simple definition has it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backstamp.smtp.data import unstuff
from backstamp.smtp.end import KEPT, EndOfData

END = b"\r\n.\r\n"
pieces = [b"\r\n", b"\r", b"\n", b".", b"\r\n.", END, b"\n.\n", b"\r.\r", b"x", b"\0"]
wires = st.lists(st.sampled_from(pieces), max_size=25).map(b"".join)
cuts = st.lists(st.integers(1, 9), min_size=1)


def simple(raw: bytes) -> tuple[int, int] | None:
    """Say it as the RFC does: the first CRLF.CRLF, the DATA command's own CRLF included."""
    at = (b"\r\n" + raw).find(END)
    return None if at < 0 else (at, at + 3)


@given(wires | st.binary(max_size=100), cuts)
@example(b"..\r\n.\r\n", [1])
@example(b"a\r\n.\rb\r\n.\r\n", [1])
@example(b"\r\n.\r\n", [4])
def test_the_end_is_that_of_the_simple_definition_however_the_input_is_cut(
    raw: bytes, sizes: list[int]
) -> None:
    end = EndOfData()
    buffer = bytearray()
    found = None
    at = step = 0
    while found is None and at < len(raw):
        size = sizes[step % len(sizes)]
        buffer += raw[at : at + size]
        at += size
        step += 1
        found = end.find(buffer)
        assert found == simple(bytes(buffer))
    if not end.stuffed and found is not None:
        content = raw[: found[0]]
        assert b"\r\n." not in b"\r\n" + content
        assert unstuff(content) == content


@given(wires | st.binary(max_size=100), cuts)
def test_the_end_is_the_same_where_octets_are_taken_meanwhile(raw: bytes, sizes: list[int]) -> None:
    end = EndOfData()
    buffer = bytearray()
    found = None
    at = step = taken = 0
    while found is None and at < len(raw):
        size = sizes[step % len(sizes)]
        buffer += raw[at : at + size]
        at += size
        step += 1
        found = end.find(buffer)
        if found is None:
            count = max(0, len(buffer) - KEPT) if step % 2 else max(0, len(buffer) - KEPT) // 2
            del buffer[:count]
            end.drop(count)
            taken += count
    expected = simple(raw)
    assert (found and (found[0] + taken, found[1] + taken)) == expected


@pytest.mark.parametrize(
    ("content", "stuffed"),
    [
        (b"", False),
        (b"a.b\r\n. \r\n", True),
        (b".", True),
        (b"a.\r\nb.c\r\n", False),
        (b"a\n.\nb\r.\rc\r\n", False),
    ],
)
def test_a_content_without_a_dot_to_take_away_is_known_as_one(content: bytes, stuffed: bool) -> None:
    end = EndOfData()
    wire = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    assert end.find(wire + (b".\r\n" if wire.endswith(b"\r\n") or not wire else END)) is not None
    assert end.stuffed is stuffed
