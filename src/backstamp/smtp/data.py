"""The content on the wire: where it ends, dot-stuffing, line ends (RFC 5321 §4.5.2, §2.3.8).

Only CRLF.CRLF ends a content, and only CRLF ends a line. A bare CR or LF is what message
smuggling is made of (CVE-2023-51764 and its kin), so it is found here; the listener refuses
it, or has it made a CRLF after the end was found. Everything works on whole buffers; nothing
looks at lines.
"""

import re
from typing import Final

_END: Final = re.compile(rb"\.(?<=\r\n\.)(?=\r\n)")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")


def find_end(buffer: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """Return where the content in a buffer ends and where the next command begins, None if not yet.

    The buffer begins with the content's first octet. `start` is how far an earlier look came;
    it need not be exact, but everything before it less four octets must have been looked at.
    """
    if buffer.startswith(b".\r\n"):
        return 0, 3
    found = _END.search(buffer, max(0, start - 4))
    return None if found is None else (found.start(), found.end() + 2)


def unstuff(raw: bytes) -> bytes:
    """Remove the dot that the client put before lines that begin with one."""
    if raw.startswith(b"."):
        raw = raw[1:]
    return raw.replace(b"\r\n.", b"\r\n")


class Unstuffer:
    """Removes doubled dots from a content that comes piece by piece, however it is cut."""

    def __init__(self) -> None:
        self._held = b"\r\n"
        self._before = 2
        """Octets held that stand before the content and are not part of it."""

    def feed(self, raw: bytes) -> bytes:
        """Return the next piece of content; its end is held back while a dot might follow.

        No piece but the last ends inside a CRLF, so that `bare` sees each line end whole.
        """
        data = self._held + raw
        keep = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        self._held = data[len(data) - keep :]
        return self._take(data[: len(data) - keep])

    def end(self) -> bytes:
        """Return what was held back."""
        return self._take(self._held)

    def _take(self, data: bytes) -> bytes:
        if not data:
            return b""
        data = data.replace(b"\r\n.", b"\r\n")
        before, self._before = self._before, 0
        return data[before:]


def stuff(content: bytes) -> bytes:
    """Return content as it goes out before the final dot: dots doubled, ended by CRLF."""
    if not content.endswith(b"\r\n") and content:
        content += b"\r\n"
    if content.startswith(b"."):
        content = b"." + content
    return _doubled(content)


class Stuffer:
    """Doubles the dots of a content that comes piece by piece, however it is cut."""

    def __init__(self) -> None:
        self._before = b"\r\n"
        """The last two octets of what came, before the first piece those that begin a line."""

    def feed(self, piece: bytes) -> bytes:
        """Return the next piece as it goes out."""
        before = self._before
        self._before = piece[-2:] if len(piece) > 1 else (before + piece)[-2:]
        out = _doubled(piece)
        if before == b"\r\n" and piece.startswith(b"."):
            return b"." + out
        if before.endswith(b"\r") and piece.startswith(b"\n."):
            return b"\n." + out[1:]
        return out

    def end(self) -> bytes:
        """Return the CRLF that is missing at the end, empty if none is; the final dot may follow."""
        return b"" if self._before == b"\r\n" else b"\r\n"


def _doubled(octets: bytes) -> bytes:
    """Double the dots behind each CRLF that stands in these octets."""
    return octets.replace(b"\r\n.", b"\r\n..")


def bare(content: bytes) -> str | None:
    """Return what a content must not have and has (a bare CR, a bare LF, NUL), None if it is clean."""
    # Every line ends by CRLF exactly if the content comes back when its CRs are taken out and one is put
    # before each LF. Both go from one line end to the next (memchr); no other way takes half as long.
    if content.replace(b"\r", b"").replace(b"\n", b"\r\n") == content:
        return "NUL" if b"\0" in content else None
    return "bare LF" if _BARE_CR.search(content) is None else "bare CR"


def normalized(content: bytes) -> bytes:
    """Return a content whose bare CRs and bare LFs are CRLFs; the same object if it has none.

    For contents without their doubled dots, whose end was found: a dot that comes to begin a line is
    content and doubled when it goes out. Of a large one each piece can be given alone, if none ends inside
    a CRLF (`Unstuffer` sees to it). A NUL stays. At most twice as long.
    """
    if content.replace(b"\r", b"").replace(b"\n", b"\r\n") == content:  # as in `bare`
        return content
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class LineLength:
    """Looks for a line longer than a limit in a content that comes piece by piece, however it is cut."""

    def __init__(self, limit: int) -> None:
        """Take the octets a line may have without its CRLF (RFC 5321 §4.5.3.1.6: 998); 0: any number."""
        self._limit = limit
        self._open = 0
        """Octets of the line the last piece ended in."""

    def exceeded(self, piece: bytes) -> bool:
        """Tell whether a line is too long by now; the content's line ends must be CRLF."""
        if not self._limit or not piece:
            return False
        # From each line end to the last one within reach of it: a look every limit's worth of octets.
        reach = self._limit + 2
        at, behind = 0, reach - self._open
        while behind < len(piece):
            found = piece.rfind(b"\n", at, behind)
            if found < 0:
                return True
            at = found + 1
            behind = at + reach
        at = max(at, piece.rfind(b"\n", at) + 1)
        self._open = len(piece) - at + (0 if at else self._open)
        # A CR at the end may be half of a line's CRLF.
        return self._open > self._limit + piece.endswith(b"\r")
