"""A host that may do anything: at every reply it rolls dice whether it does what it should.

It keeps book of what it took: a whole content to whose final dot it wrote a 2yz that can be read.
Where it said more than it was asked, what it meant and what was understood may differ: `confused`.
"""

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import cast

EXTENSIONS = (
    *("PIPELINING", "SIZE 1000000", "SIZE", "8BITMIME", "SMTPUTF8", "DSN"),
    *("ENHANCEDSTATUSCODES", "STARTTLS"),
)
CODES = (200, 211, 220, 250, 251, 354, 421, 450, 451, 452, 454, 499, 500, 503, 530, 550, 552, 554, 571)
ESTABLISHED = 1
"""A state of TCP, as tcp(7) numbers them."""
_ID = re.compile(rb"\bid ([0-9A-Za-z]+)")
_PATH = re.compile(rb"[^<]*<([^>]*)>")


class Host:
    """Books of all sessions, and the `most` there were at a time.

    `wild` is the share of replies that are not what they should be.
    """

    def __init__(self, random: Random, context: ssl.SSLContext) -> None:
        self.random = random
        self.context = context
        self.wild = 0.3
        self.took: Counter[tuple[str, bytes]] = Counter()
        """Queue id and recipient, and how often."""
        self.confused: set[str] = set()
        self.deeds: Counter[str] = Counter()
        self.all: set[Session] = set()
        self.most = 0
        self.address = ("", 0)
        self._server: asyncio.Server

    async def __aenter__(self) -> "Host":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Session(self), "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.calm()
        self._server.close()
        await asyncio.sleep(0)

    def calm(self) -> None:
        """Behave from now on; who was treated otherwise is hung up on."""
        self.wild = 0.0
        for session in list(self.all):
            session.transport.abort()


class Session(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self._host = host
        self._random = host.random
        self._octets = b""
        self._content = False
        self._mute = False
        self._confused = False
        self._mail = False
        self._taken: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeted = False
        self._shaking = False
        """In the handshake: what comes right behind it waits for the transport it is answered on."""

    # ---- the connection ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._greeted:
            return
        self._greeted = True
        self._host.all.add(self)
        self._host.most = max(self._host.most, sum(map(_established, self._host.all)))
        self._answer(b"220 host.test\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.all.discard(self)

    def data_received(self, data: bytes) -> None:
        self._octets += data
        while not (self._mute or self._shaking or self.transport.is_closing()):
            end = self._octets.find(b"\r\n.\r\n" if self._content else b"\r\n")
            if self._content and self._octets.startswith(b".\r\n"):
                end = -2
            elif end < 0:
                return
            piece = self._octets[: max(0, end)]
            self._octets = self._octets[end + (5 if self._content else 2) :]
            if self._content:
                self._whole(piece)
            else:
                self._command(piece)

    async def _protect(self) -> None:
        try:
            self.transport = cast(
                asyncio.Transport,
                await asyncio.get_running_loop().start_tls(
                    self.transport, self, self._host.context, server_side=True, ssl_handshake_timeout=5
                ),
            )
        except (OSError, AttributeError):
            self.transport.abort()
        self._shaking = False
        self.data_received(b"")

    # ---- SMTP ----

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            self._reset()
            offered = [one for one in EXTENSIONS if self._random.random() < 0.7]
            if self.transport.get_extra_info("ssl_object") is not None and "STARTTLS" in offered:
                offered.remove("STARTTLS")
            lines = ["host.test", *offered]
            text = "".join(f"250-{one}\r\n" for one in lines[:-1]) + f"250 {lines[-1]}\r\n"
            self._answer(text.encode())
        elif verb == b"MAIL":
            self._reset()
            self._mail = _positive(self._answer(b"250 2.1.0 ok\r\n"))
        elif verb == b"RCPT":
            found = _PATH.match(line)
            if not self._mail or found is None:
                self._answer(b"503 5.5.1 MAIL first\r\n")
            elif _positive(self._answer(b"250 2.1.5 ok\r\n")):
                self._taken.append(found[1])
        elif verb == b"DATA":
            if not self._taken:
                self._answer(b"554 5.5.1 nobody\r\n")
            else:
                self._content = self._answer(b"354 go\r\n") == 354
        elif line.upper() == b"STARTTLS":
            if self._answer(b"220 2.0.0 go\r\n") == 220 and not (self._mute or self.transport.is_closing()):
                self.transport.pause_reading()
                self._shaking = True
                task = asyncio.ensure_future(self._protect())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        elif verb == b"QUIT":
            self._answer(b"221 2.0.0 bye\r\n")
            self.transport.close()
        else:
            if verb == b"RSET":
                self._reset()
            self._answer(b"250 2.0.0 ok\r\n")

    def _whole(self, content: bytes) -> None:
        self._content = False
        found = _ID.search(content)
        name = found[1].decode() if found is not None and content.startswith(b"Received:") else ""
        taken = list(self._taken)
        self._reset()
        code = self._answer(b"250 2.0.0 taken\r\n")
        if self._confused:
            self._host.confused.add(name)
        if _positive(code):
            self._host.took.update((name, one) for one in taken)

    def _reset(self) -> None:
        self._mail = False
        self._taken.clear()

    # ---- replies ----

    def _answer(self, right: bytes) -> int:
        """Answer, well or not; return the code that was said, 0 if none that can be read."""
        if self._random.random() >= self._host.wild:
            self.transport.write(right)
            return int(right[:3])
        deed = self._random.choice(DEEDS)
        self._host.deeds[deed.__name__] += 1
        return deed(self, right)

    def other_code(self, right: bytes) -> int:
        code = self._random.choice(CODES)
        text = self._random.choice([b"no", b"4.7.1 later", b"5.7.1 never", b""])
        self.transport.write(b"%d %b\r\n" % (code, text))
        return code

    def many_lines(self, right: bytes) -> int:
        self.transport.write(b"%b-a\r\n%b-\xff\xfe\r\n%b" % (right[:3], right[:3], right))
        return int(right[:3])

    def bare_line_feed(self, right: bytes) -> int:
        self.transport.write(right.replace(b"\r\n", b"\n"))
        return int(right[:3])

    def pieces(self, right: bytes) -> int:
        for octet in right:
            self.transport.write(bytes([octet]))
        return int(right[:3])

    def twice(self, right: bytes) -> int:
        self._confused = True
        self.transport.write(right + right)
        return int(right[:3])

    def more_than_asked(self, right: bytes) -> int:
        self._confused = True
        more = [b"250 ok\r\n", b"354 go\r\n", b"550 no\r\n", b"421 bye\r\n", b"250-", b"?"]
        self.transport.write(right + self._random.choice(more))
        return int(right[:3])

    def nonsense(self, right: bytes) -> int:
        self.transport.write(self._random.randbytes(self._random.randint(1, 300)) + b"\r\n")
        return 0

    def two_codes(self, right: bytes) -> int:
        self.transport.write(b"250-a\r\n451 b\r\n")
        return 0

    def a_line_without_an_end(self, right: bytes) -> int:
        self.transport.write(b"250 " + b"x" * 20_000)
        return 0

    def lines_without_an_end(self, right: bytes) -> int:
        self.transport.write(b"250-x\r\n" * 20_000)
        return 0

    def part_of_a_reply(self, right: bytes) -> int:
        self.transport.write(right[: self._random.randint(0, len(right) - 1)])
        return self._silent()

    def silence(self, right: bytes) -> int:
        return self._silent()

    def reads_no_more(self, right: bytes) -> int:
        self.transport.pause_reading()
        return self._silent()

    def end(self, right: bytes) -> int:
        self.transport.close()
        return 0

    def answer_and_end(self, right: bytes) -> int:
        self.transport.write(right)
        self.transport.close()
        return int(right[:3])

    def half_an_end(self, right: bytes) -> int:
        if self.transport.can_write_eof():
            self.transport.write(right)
            self.transport.write_eof()
            self._mute = True
            return int(right[:3])
        self.transport.close()
        return 0

    def reset(self, right: bytes) -> int:
        self.transport.abort()
        return 0

    def answer_and_reset(self, right: bytes) -> int:
        self.transport.write(right)
        self.transport.abort()
        return int(right[:3])

    def closing_down(self, right: bytes) -> int:
        self.transport.write(b"421 4.3.2 closing down\r\n")
        self.transport.close()
        return 421

    def _silent(self) -> int:
        self._mute = True
        return 0


DEEDS: tuple[Callable[[Session, bytes], int], ...] = (
    *[Session.other_code] * 6,
    Session.many_lines, Session.bare_line_feed, Session.pieces, Session.twice, Session.more_than_asked,
    Session.nonsense, Session.two_codes, Session.a_line_without_an_end, Session.lines_without_an_end,
    Session.part_of_a_reply, Session.silence, Session.reads_no_more, Session.end, Session.answer_and_end,
    Session.half_an_end, Session.reset, Session.answer_and_reset, Session.closing_down,
)  # fmt: skip


def _established(session: Session) -> bool:
    """Ask the system whether the other side still has the connection: its end may not have been read yet."""
    sock = session.transport.get_extra_info("socket")
    if session.transport.is_closing() or sock is None or sock.fileno() < 0:
        return False
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED)


def _positive(code: int) -> bool:
    return 200 <= code < 300
