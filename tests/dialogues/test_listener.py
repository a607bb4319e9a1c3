"""Golden SMTP sessions against the live listener, whole, in one segment, and octet by octet.

In the files `C:` is what the client says, `S:` what the server must answer (`*` stands for
any rest of the line), `Q:` what must stand in the queue in the end, `R:` its recipients with their
parameters (where the file has any). `L:` are settings of the listener.
"""

import asyncio
import fnmatch
from pathlib import Path

import pytest
from tests.support.door import Door, door

FILES = sorted((Path(__file__).parent / "listener").glob("*.txt"))
TOGETHER = [path for path in FILES if "C: HELO " not in path.read_text()]
"""Who says HELO was offered no PIPELINING, and waits for each reply."""


def rows(path: Path) -> list[tuple[str, str]]:
    return [
        (row[0], row[3:]) for row in path.read_text().splitlines() if row[1:2] == ":" and row[0] in "CSQRL"
    ]


def matches(line: str, pattern: str) -> bool:
    literal = pattern.replace("[", "[[]")
    return fnmatch.fnmatchcase(line, literal)


def settings(path: Path) -> dict[str, str | int]:
    """Return the listener's settings of a file; a value that is a number is one."""
    words = [word.partition("=") for who, line in rows(path) if who == "L" for word in line.split()]
    return {key: int(value) if value.lstrip("-").isdecimal() else value for key, _, value in words}


def check_queue(opened: Door, path: Path) -> None:
    found = []
    addressed = []
    for message in opened.queue.messages:
        envelope = message.envelope
        to = b" ".join(recipient.address for recipient in envelope.recipients)
        parts = [envelope.sender + b" -> " + to, envelope.parameters]
        found.append(b" ".join(part for part in parts if part).decode())
        addressed += [b"%b %b" % (one.address, one.parameters) for one in envelope.recipients]
    assert found == [words for who, words in rows(path) if who == "Q"]
    if recipients := [words for who, words in rows(path) if who == "R"]:
        assert [one.decode().rstrip() for one in addressed] == recipients


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_dialogue(path: Path) -> None:
    async with door(None, None, **settings(path)) as opened:
        reader, writer = await opened.connect()
        async with asyncio.timeout(10):
            for who, words in rows(path):
                if who == "C":
                    writer.write(words.encode() + b"\r\n")
                elif who == "S":
                    line = (await reader.readline()).decode()
                    assert line.endswith("\r\n")
                    assert matches(line[:-2], words), f"{line!r} is not {words!r}"
            assert await reader.read() == b""
        writer.close()
        check_queue(opened, path)


@pytest.mark.parametrize("piece", [None, 1, 7])
@pytest.mark.parametrize("path", TOGETHER, ids=lambda path: path.stem)
async def test_dialogue_however_it_is_cut(path: Path, piece: int | None) -> None:
    """RFC 2920: what arrives together is answered in order, one reply a command."""
    said = "".join(f"{words}\r\n" for who, words in rows(path) if who == "C").encode()
    expected = [words for who, words in rows(path) if who == "S"]
    async with door(None, None, **settings(path)) as opened:
        lines = (await opened.talk(said, piece=piece)).decode().split("\r\n")
        assert lines.pop() == ""
        assert len(lines) == len(expected)
        for line, pattern in zip(lines, expected, strict=True):
            assert matches(line, pattern), f"{line!r} is not {pattern!r}"
        check_queue(opened, path)
