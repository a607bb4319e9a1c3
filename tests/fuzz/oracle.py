"""What a client may conclude from what it said and heard, by the RFCs and nothing of the relay's code.

It reads both streams side by side: one reply for each command, in order, each after the grammar; what
was taken (354, a BDAT of so many octets, 334) tells what the next octets are. At the end it knows which
messages were accepted, for whom, and with which content.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LINE = re.compile(rb"([2-5][0-5][0-9])([ -])([\t -~]*)\r\n")
STATUS = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)")
QUEUED = re.compile(rb"2\.0\.0 Ok: queued as ([0-9A-Za-z]+)")
SIZE = re.compile(rb" *([0-9]{1,10})( +LAST)? *", re.IGNORECASE)
BDAT = re.compile(rb"BDAT " + SIZE.pattern + rb"\r\n", re.IGNORECASE)
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

LONGEST_REPLY = 512
"""Octets of a reply line (RFC 5321 §4.5.3.1.5)."""
LONGEST_CHALLENGE = 12_288
"""Octets of a line of AUTH (RFC 4954 §4)."""
LONGEST_COMMAND = 2048

GOOD = {
    b"EHLO": {250}, b"HELO": {250}, b"MAIL": {250}, b"RCPT": {250}, b"DATA": {354}, b"BDAT": {250},
    b"RSET": {250}, b"NOOP": {250}, b"QUIT": {221}, b"VRFY": {252}, b"HELP": {214}, b"STARTTLS": {220},
    b"AUTH": {235, 334},
}  # fmt: skip
UNMARKED = {b"EHLO", b"HELO"}
"""Whose good replies have no enhanced status (RFC 2034 §4)."""


class BrokenError(AssertionError):
    """What was heard cannot be the answer to what was said."""


@dataclass
class Accepted:
    """A message that was answered 250."""

    queue_id: str
    sender: bytes
    recipients: list[bytes]
    content: bytes


@dataclass
class Story:
    """What came of a session."""

    accepted: list[Accepted] = field(default_factory=list)
    replies: int = 0
    closed: bool = False
    """The relay said that it closes, or may close."""
    lacking: str = ""
    """What no reply came to, though it was whole; empty: all was answered."""
    open: bytes = b""
    """Octets that would complete what was begun."""
    encrypted: bool = False
    """What follows is TLS, or no SMTP at least."""


@dataclass
class Reply:
    code: int
    lines: list[bytes]

    @property
    def text(self) -> bytes:
        return self.lines[-1]


def replies(heard: bytes) -> Iterator[Reply | bytes]:
    """Yield replies one by one; at last what is left, where that is no whole reply."""
    at = 0
    while at < len(heard):
        start, lines, code = at, [], 0
        while True:
            end = heard.find(b"\r\n", at)
            if end < 0:
                yield heard[start:]
                return
            found = LINE.fullmatch(heard, at, end + 2)
            if found is None:
                raise BrokenError(f"no reply line: {heard[at : end + 2]!r}")
            if lines and int(found[1]) != code:
                raise BrokenError(f"two codes in one reply: {heard[start : end + 2]!r}")
            code = int(found[1])
            longest = LONGEST_CHALLENGE if code == 334 else LONGEST_REPLY
            if end + 2 - at > longest:
                raise BrokenError(f"a reply line of {end + 2 - at} octets")
            lines.append(found[3])
            at = end + 2
            if found[2] == b" ":
                break
        yield Reply(code, lines)


class Walk:
    """One session, or the rest of it from where TLS began."""

    def __init__(
        self, said: bytes, heard: bytes, *, size: int, qualify: bytes = b"", greeted: bool = True
    ) -> None:
        """`size` is the limit of a message, `qualify` the domain of addresses that have none."""
        self._said = said
        self._replies = replies(heard)
        self._size = size
        self._qualify = qualify
        self._at = 0
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._chunks: list[bytes] | None = None
        self.story = Story()
        if greeted:
            self._greeting()
        if not self._over:
            self._walk()

    @property
    def _over(self) -> bool:
        return self.story.closed or bool(self.story.lacking)

    def _greeting(self) -> None:
        reply = self._take("the connection")
        if reply is not None and reply.code not in (220, 421):
            raise BrokenError(f"greeted by {reply}")

    def _take(self, what: object) -> Reply | None:
        reply = next(self._replies, b"")
        if isinstance(reply, bytes):
            self.story.lacking = f"{what!r}, but {reply!r}"
            return None
        self.story.replies += 1
        if reply.code == 421:
            self._marked(reply)
            self._last(reply)
        return reply

    def _last(self, reply: Reply) -> None:
        self.story.closed = True
        more = next(self._replies, None)
        if more is not None:
            raise BrokenError(f"{more!r} after {reply}")

    def _marked(self, reply: Reply) -> None:
        for line in reply.lines:
            found = STATUS.match(line)
            if found is None or int(found[1]) != reply.code // 100:
                raise BrokenError(f"no enhanced status of its class: {reply}")

    def _walk(self) -> None:
        said, story = self._said, self.story
        asking = False
        while not self._over and not story.encrypted:
            end = said.find(b"\n", self._at) + 1
            if not end:
                story.open = b"\r\n" if self._at < len(said) else b"*\r\n" if asking else b""
                break
            line, self._at = said[self._at : end], end
            if not asking and (wanted := self._wanted(line)):
                story.open = bytes(wanted)
            if (reply := self._take(line[:200])) is None or story.closed:
                if story.open:
                    story.lacking = ""  # a chunk is answered when it is there, or when it is refused
                return
            if asking:
                asking = self._exchange(reply, {235, 334})
            elif not line.endswith(b"\r\n") or CONTROL.search(line[:-2]):
                self._refusal(line, reply)
                if line[:4].upper() == b"BDAT" and len(line) <= LONGEST_COMMAND:
                    raise BrokenError(f"{line!r}, {reply}, and what follows it?")
            else:
                asking = self._command(line, reply)
                if story.open:
                    break
        if not self._over and not story.encrypted:
            more = next(self._replies, None)
            if isinstance(more, Reply) and more.code == 421:
                self._last(more)
            elif more is not None:
                raise BrokenError(f"{more!r} to nothing")

    def _refusal(self, line: bytes, reply: Reply) -> None:
        if reply.code < 400:
            raise BrokenError(f"{reply} to {line[:200]!r}")
        self._marked(reply)

    def _exchange(self, reply: Reply, good: set[int]) -> bool:
        if reply.code not in good:
            self._refusal(b"AUTH", reply)
        elif reply.code != 334:
            self._marked(reply)
        return reply.code == 334

    def _command(self, line: bytes, reply: Reply) -> bool:
        verb, _, argument = line[:-2].partition(b" ")
        verb = verb.upper()
        good = GOOD.get(verb, set())
        if reply.code not in good:
            self._refusal(line, reply)
        elif verb not in UNMARKED and reply.code < 300:
            self._marked(reply)
        if len(line) > LONGEST_COMMAND and verb != b"AUTH":
            if reply.code in good:
                raise BrokenError(f"a command of {len(line)} octets was taken")
            return False
        taken = reply.code in good
        if verb == b"BDAT":
            self._chunk(line, argument, reply)
        elif verb == b"AUTH":
            return reply.code == 334
        elif taken:
            self._state(verb, argument, line)
        return False

    def _state(self, verb: bytes, argument: bytes, line: bytes) -> None:
        if verb == b"MAIL":
            if self._sender is not None:
                raise BrokenError("MAIL in a transaction")
            self._sender = self._address(argument, b"FROM:")
        elif verb == b"RCPT":
            if self._sender is None or self._chunks is not None:
                raise BrokenError("RCPT was taken out of turn")
            self._recipients.append(self._address(argument, b"TO:"))
        elif verb == b"DATA":
            self._data()
        elif verb in (b"EHLO", b"HELO", b"RSET"):
            self._forget()
        elif verb == b"QUIT":
            self.story.closed = True
            if (more := next(self._replies, None)) is not None:
                raise BrokenError(f"{more!r} after QUIT")
        elif verb == b"STARTTLS":
            self.story.encrypted = True

    def _forget(self) -> None:
        self._sender, self._recipients, self._chunks = None, [], None

    def _address(self, argument: bytes, begin: bytes) -> bytes:
        argument = argument.strip(b" ")
        if argument[: len(begin)].upper() != begin:
            raise BrokenError(f"{argument!r} was taken")
        path = argument[len(begin) :].lstrip(b" ")
        quoted = False
        at = 1
        while path[at : at + 1] != b">" or quoted:
            if at >= len(path):
                raise BrokenError(f"{path!r} was taken")
            if quoted and path[at : at + 1] == b"\\":
                at += 1
            elif path[at : at + 1] == b'"':
                quoted = not quoted
            at += 1
        address = path[1:at]
        if begin == b"TO:" and address.lower() == b"postmaster":
            address += b"@relay.example.org"
        if address and self._qualify and b"@" not in address:
            address += b"@" + self._qualify
        return address

    def _data(self) -> None:
        if not self._recipients or self._chunks is not None:
            raise BrokenError("DATA was taken out of turn")
        said = self._said
        if said.startswith(b".\r\n", self._at):
            content, behind = b"", self._at + 3
        else:
            end = said.find(b"\r\n.\r\n", self._at)
            if end < 0:
                rest = said[self._at :]
                self.story.open = b".\r\n" if not rest or rest.endswith(b"\r\n") else b"\r\n.\r\n"
                self._far(len(rest))
                self._at = len(said)
                return
            content, behind = said[self._at : end + 2], end + 5
        self._at = behind
        if (reply := self._take("a content")) is None or self.story.closed:
            return
        lines = [line[1:] if line.startswith(b".") else line for line in content.split(b"\r\n")]
        self._content(reply, b"\r\n".join(lines))
        self._far(len(content))

    def _far(self, octets: int) -> None:
        # What is far beyond the limit need not be read to its end.
        if octets > 3 * self._size:
            self.story.closed = True

    def _wanted(self, line: bytes) -> int:
        """Return how many octets of a chunk are still to come."""
        found = BDAT.fullmatch(line) if len(line) <= LONGEST_COMMAND else None
        if found is None or int(found[1]) > 3 * self._size:  # far beyond the limit: refused at once
            return 0
        return max(0, int(found[1]) - (len(self._said) - self._at))

    def _chunk(self, line: bytes, argument: bytes, reply: Reply) -> None:
        found = SIZE.fullmatch(argument)
        if found is None:
            raise BrokenError(f"{line!r} was answered {reply}, and where does the next command begin?")
        # The reply to a chunk that is taken is due behind its octets, and here it is.
        said, size = self._said, int(found[1])
        octets = said[self._at : self._at + size]
        self._at += len(octets)
        if len(octets) < size:
            # RFC 3030 §2: a refusal stands behind the octets, too; only an end does not wait for them.
            if reply.code not in {421, 552}:
                raise BrokenError(f"half a chunk was answered {reply}")
            return
        last = found[2] is not None
        if reply.code != 250 and self._chunks is None and (self._sender is None or not self._recipients):
            return
        if self._sender is None or not self._recipients:
            raise BrokenError("BDAT was taken out of turn")
        self._chunks = [*(self._chunks or []), octets]
        if last:
            self._content(reply, b"".join(self._chunks))
        elif reply.code != 250:
            raise BrokenError(f"a chunk that is not the last was answered {reply}")

    def _content(self, reply: Reply, content: bytes) -> None:
        if reply.code == 250:
            found = QUEUED.fullmatch(reply.text)
            if found is None:
                raise BrokenError(f"a content was answered {reply}")
            assert self._sender is not None
            self.story.accepted.append(Accepted(found[1].decode(), self._sender, self._recipients, content))
        else:
            self._refusal(b"a content", reply)
        self._forget()
