"""An SMTP reply and its enhanced status code, as values (RFC 5321 §4.2, RFC 3463).

A reply is three digits and text; the lines of a multi-line reply are joined by a line
feed, without their codes. Text comes from strangers: it is decoded leniently and is
made printable where it is shown (`text.printable`), never where it is judged.
"""

import re
from typing import NamedTuple

import msgspec

_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?=\s|$)")


class EnhancedStatus(NamedTuple):
    """class.subject.detail (RFC 3463 §2)."""

    class_: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.class_}.{self.subject}.{self.detail}"


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One complete reply of a server, ours or a peer's."""

    code: int
    text: str = ""

    @property
    def positive(self) -> bool:
        """2yz: done (RFC 5321 §4.2.1)."""
        return 200 <= self.code <= 299

    @property
    def transient(self) -> bool:
        """4yz: try again (RFC 5321 §4.2.1)."""
        return 400 <= self.code <= 499

    @property
    def permanent(self) -> bool:
        """5yz: give up (RFC 5321 §4.2.1)."""
        return 500 <= self.code <= 599

    @property
    def enhanced(self) -> EnhancedStatus:
        """The code the text begins with (RFC 2034 §4), or x.0.0 made from the first digit.

        A code of another class than the reply's is the peer's slip; the reply's digit counts.
        """
        class_ = self.code // 100
        found = _ENHANCED.match(self.text)
        if found is not None and int(found[1]) == class_:
            return EnhancedStatus(class_, int(found[2]), int(found[3]))
        return EnhancedStatus(class_, 0, 0)

    def __str__(self) -> str:
        return f"{self.code} {self.text}" if self.text else str(self.code)
