"""End of data, dot-stuffing, line ends: on any octets, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.smtp.data import LineLength, Stuffer, Unstuffer, bare, find_end, normalized, stuff, unstuff

pieces = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r\n.", b"x", b"..", b" ", b"\xff", b"line"]), max_size=30
)
contents = pieces.map(b"".join)
octets = st.binary(max_size=200)


@given(contents)
def test_what_is_stuffed_and_sent_arrives(content: bytes) -> None:
    wire = stuff(content) + b".\r\nNEXT"
    found = find_end(wire)
    assert found is not None
    end, behind = found
    assert wire[behind:] == b"NEXT"
    expected = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert unstuff(wire[:end]) == expected


@given(contents, st.lists(st.integers(1, 9), min_size=1))
def test_the_end_is_found_however_the_input_is_cut(content: bytes, cuts: list[int]) -> None:
    wire = stuff(content) + b".\r\n"
    buffer = bytearray()
    scanned = at = step = 0
    found = None
    while found is None and at < len(wire):
        size = cuts[step % len(cuts)]
        buffer += wire[at : at + size]
        at += size
        step += 1
        found = find_end(buffer, scanned)
        scanned = len(buffer)
    assert found == (len(wire) - 3, len(wire))


@given(octets)
def test_nothing_but_crlf_dot_crlf_ends(raw: bytes) -> None:
    found = find_end(raw)
    if found is None:
        assert b"\r\n.\r\n" not in b"\r\n" + raw
    else:
        end, behind = found
        assert (b"\r\n" + raw)[end : behind + 2] == b"\r\n.\r\n"
        assert b"\r\n.\r\n" not in (b"\r\n" + raw)[: behind + 1]


@given(octets | contents)
def test_stuffed_content_never_ends_early_and_always_ends(content: bytes) -> None:
    wire = stuff(content) + b".\r\n"
    assert find_end(wire) == (len(wire) - 3, len(wire))
    assert find_end(wire[:-3]) is None


def test_a_content_that_needs_no_change_is_not_copied() -> None:
    content = b"Subject: x\r\n\r\na.b\r\n"
    assert stuff(content) is content


@given(octets | contents, st.lists(st.integers(0, 9), min_size=1))
def test_stuffing_is_the_same_however_the_content_is_cut(content: bytes, cuts: list[int]) -> None:
    stuffer = Stuffer()
    out = []
    at = step = 0
    while at < len(content):
        # A cut of nothing is a piece without octets; one at least keeps it going.
        size = cuts[step % len(cuts)] if step % 2 else max(1, cuts[step % len(cuts)])
        out.append(stuffer.feed(content[at : at + size]))
        at += size
        step += 1
    assert b"".join([*out, stuffer.end()]) == stuff(content)


def test_every_cut_of_a_content_with_dots_everywhere() -> None:
    content = b".\r\n..\r\n.a\r\n\r\n.\r.\n.\r\r\n.x"
    for first in range(len(content) + 1):
        for second in range(first, len(content) + 1):
            stuffer = Stuffer()
            parts = (content[:first], content[first:second], content[second:])
            wire = b"".join(stuffer.feed(part) for part in parts) + stuffer.end()
            assert wire == stuff(content), (first, second)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", None),
        (b"a\r\nb\r\n", None),
        (b"a\nb", "bare LF"),
        (b"a\rb", "bare CR"),
        (b"a\r\r\n", "bare CR"),
        (b"a\n\r\n", "bare LF"),
        (b"a\0b", "NUL"),
        (b"\r", "bare CR"),
        (b"\n", "bare LF"),
        (b"a\nb\r\n\rc", "bare CR"),
    ],
)
def test_bare_line_ends(content: bytes, what: str | None) -> None:
    assert bare(content) == what


def simple(content: bytes) -> str | None:
    """Say it octet by octet."""
    for at, octet in enumerate(content):
        if octet == 0x0D and content[at + 1 : at + 2] != b"\n":
            return "bare CR"
    for at, octet in enumerate(content):
        if octet == 0x0A and content[max(0, at - 1) : at] != b"\r":
            return "bare LF"
    return "NUL" if 0 in content else None


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"x", b"."]), max_size=12).map(b"".join) | octets
)
def test_bare_line_ends_are_those_of_the_simple_definition(content: bytes) -> None:
    assert bare(content) == simple(content)


messy = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"x", b".", b"\r\n.", b"\n.", b"\r.\r"]), max_size=14
).map(b"".join)


@given(messy | octets)
def test_normalized_content_has_no_bare_line_end_and_everything_else_as_it_was(content: bytes) -> None:
    """Security 2: each bare CR or LF is one CRLF, no octet is lost."""
    out = normalized(content)
    assert bare(out) in {None, "NUL"}
    one_each = content.replace(b"\r\n", b"N").replace(b"\r", b"N").replace(b"\n", b"N")
    assert out.replace(b"\r\n", b"N") == one_each
    assert normalized(out) is out


@given(messy)
def test_normalized_content_goes_out_as_one_and_arrives_as_it_was_queued(content: bytes) -> None:
    """Security 2: a dot that comes to begin a line is doubled on its way out."""
    queued = normalized(content)
    wire = stuff(queued) + b".\r\n"
    assert find_end(wire) == (len(wire) - 3, len(wire))
    arrived = unstuff(wire[:-3])
    assert arrived == queued or arrived == queued + b"\r\n"


@given(messy, st.lists(st.integers(1, 9), min_size=1))
def test_a_content_is_normalized_alike_however_it_is_cut(raw: bytes, cuts: list[int]) -> None:
    unstuffer = Unstuffer()
    out = []
    at = step = 0
    while at < len(raw):
        size = cuts[step % len(cuts)]
        out.append(normalized(unstuffer.feed(raw[at : at + size])))
        at += size
        step += 1
    out.append(normalized(unstuffer.end()))
    assert b"".join(out) == normalized(unstuff(raw))


def test_a_clean_content_is_not_copied_to_be_normalized() -> None:
    content = b"Subject: x\r\n\r\na\r\n"
    assert normalized(content) is content


@given(
    st.lists(st.integers(0, 13), max_size=8),
    st.booleans(),
    st.lists(st.integers(1, 30), min_size=1),
    st.integers(1, 12),
)
def test_a_long_line_is_found_however_the_content_is_cut(
    lines: list[int], open_end: bool, cuts: list[int], limit: int
) -> None:
    content = b"".join(b"x" * length + b"\r\n" for length in lines)
    if open_end:
        content = content[:-2]
    looking = LineLength(limit)
    found = False
    at = step = 0
    while at < len(content):
        size = cuts[step % len(cuts)]
        found = looking.exceeded(content[at : at + size]) or found
        at += size
        step += 1
    assert found == any(length > limit for length in lines)


def test_a_line_of_any_length_where_there_is_no_limit() -> None:
    assert not LineLength(0).exceeded(b"x" * 100_000)
