"""A small SMTP client on one socket: a command, its reply. Synchronous, for one message and its end.

Not smtplib: it would cost sixty milliseconds of every start, and it mends line ends and dots on its own.
"""

import contextlib
import re
import socket
from collections.abc import Iterable
from typing import Final

from backstamp.sendmail.failure import NOT_PERMITTED, TEMPORARY, SendmailError
from backstamp.sendmail.where import Where
from backstamp.smtp.data import Stuffer

CONNECT: Final = 30.0
COMMAND: Final = 300.0
"""Seconds to wait for a reply (RFC 5321 §4.5.3.2)."""
END: Final = 600.0
"""Seconds to wait for the reply to a content (RFC 5321 §4.5.3.2.6)."""

_LINE: Final = 4096
_LINES: Final = 100
_REPLY: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?\r?\n")


def connect(where: Where) -> socket.socket:
    """Return a connection to the relay.

    Raises:
        SendmailError: nobody answers (EX_TEMPFAIL), or the caller may not ask (EX_NOPERM).
    """
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    sock = socket.socket(family if where.port else socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT)
    try:
        sock.connect((where.host, where.port) if where.port else where.host)
    except OSError as error:
        sock.close()
        reason = (error.strerror or str(error)).lower()
        code = NOT_PERMITTED if isinstance(error, PermissionError) else TEMPORARY
        raise SendmailError(code, f"no relay answers at {where}: {reason}") from None
    return sock


class Client:
    """One session. Every reply is one line of text, a long one's lines joined by a space.

    Raises:
        SendmailError: from every method, with EX_TEMPFAIL: the connection broke, or it is no SMTP.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self.keywords: frozenset[str] = frozenset()

    def open(self) -> str:
        """Read the greeting and say EHLO; return the last reply, good or bad."""
        self._sock.settimeout(COMMAND)
        greeting = self._reply()
        if greeting[:1] != "2":
            return greeting
        lines = self._ask("EHLO localhost")
        self.keywords = frozenset(line[4:].partition(" ")[0].upper() for line in lines[1:])
        return _joined(lines)

    def command(self, command: str) -> str:
        """Return the reply to a command."""
        return _joined(self._ask(command))

    def content(self, pieces: Iterable[bytes]) -> str:
        """Send a content and its final dot; return the reply."""
        stuffer = Stuffer()
        try:
            for piece in pieces:
                self._sock.sendall(stuffer.feed(piece))
            self._sock.sendall(stuffer.end() + b".\r\n")
        except OSError as error:
            raise SendmailError(TEMPORARY, f"the relay went away: {error.strerror or error}") from None
        self._sock.settimeout(END)
        reply = self._reply()
        self._sock.settimeout(COMMAND)
        return reply

    def quit(self) -> None:
        """Leave; what is done is done, so nothing here is an error."""
        try:
            self._sock.sendall(b"QUIT\r\n")
        except OSError:
            pass
        finally:
            self._file.close()
            self._sock.close()

    def _ask(self, command: str) -> list[str]:
        # What was not printable was refused before; a command must stay one, whoever forgets that.
        assert command.isprintable()
        with contextlib.suppress(OSError):  # it may have said why it went: the reply tells, or its absence
            self._sock.sendall(command.encode() + b"\r\n")
        return self._lines()

    def _reply(self) -> str:
        return _joined(self._lines())

    def _lines(self) -> list[str]:
        lines: list[str] = []
        while len(lines) < _LINES:
            try:
                line = self._file.readline(_LINE)
            except OSError as error:
                raise SendmailError(
                    TEMPORARY, f"the relay does not answer: {error.strerror or error}"
                ) from None
            if not line:
                raise SendmailError(TEMPORARY, "the relay closed the connection before it answered")
            found = _REPLY.fullmatch(line)
            if found is None:
                break
            text = (found[3] or b"").decode("utf-8", "replace")
            lines.append(f"{found[1].decode()} {''.join(one for one in text if one.isprintable())}")
            if found[2] != b"-":
                return lines
        raise SendmailError(TEMPORARY, "what answers is no SMTP server")


def _joined(lines: list[str]) -> str:
    return " ".join([lines[0], *(line[4:] for line in lines[1:])])
