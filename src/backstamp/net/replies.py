"""Lines of a peer in, replies out: strict and bounded, whatever the peer sends (RFC 5321 §4.2).

Three digits, a separator, one code in all lines. What is not a reply is an error, never a
guess: a session in which one reply was misread gives every later one to the wrong command.
No waiting, no sockets; which command a reply belongs to is not known here.
"""

from typing import Final

from backstamp.mail.reply import Reply

LINE: Final = 8192
"""Octets of one reply line, at most; RFC 5321 §4.5.3.1.5 asks for 512."""

REPLY: Final = 32768
"""Octets of one reply with all its lines, at most."""

_SEPARATORS: Final = (b" ", b"-", b"")


class NonsenseError(ValueError):
    """What the peer said is no reply; the text tells why, in printable ASCII."""


class ReplyLines:
    """Puts the lines of one reply after the other together."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._length = 0

    def clear(self) -> None:
        """Forget the reply that was begun."""
        self._lines.clear()
        self._length = 0

    def take(self, line: bytes) -> Reply | None:
        """Take one line without its LF; return the reply that it ends, None where more lines follow.

        Raises:
            NonsenseError: not a reply, or above `LINE` or `REPLY`. Nothing can be read after it.
        """
        line = line.removesuffix(b"\r")
        code, separator = line[:3], line[3:4]
        self._length += len(line)
        if not (len(code) == 3 and code.isdigit() and b"2" <= code < b"6" and separator in _SEPARATORS):
            raise NonsenseError(f"not a reply: {line[:80]!r}")
        if self._length > REPLY or len(line) > LINE or (self._lines and self._lines[0][:3] != code):
            raise NonsenseError("a reply of too many lines, or of two codes")
        if separator == b"-":
            self._lines.append(line)
            return None
        text = line[4:]
        if self._lines:
            text = b"\n".join([*(earlier[4:] for earlier in self._lines), text])
            self._lines.clear()
        self._length = 0
        return Reply(int(code), text.decode("utf-8", "backslashreplace"))
