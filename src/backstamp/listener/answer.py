"""What a command comes to: a reply, and what the session does next. Pure."""

import enum
from typing import Final


class Action(enum.Enum):
    """What the session does after sending the reply."""

    NEXT = "read the next command"
    CONTENT = "find room for a content, then reply and read it"
    TAKE = "hand on what came of a content"
    GROW = "find more room for a content"
    ABANDON = "forget a content that was begun"
    SKIP = "read the octets of a chunk and drop them"
    JUDGE = "have the claim judged"
    PROTECT = "shake hands for TLS"
    CLOSE = "close the connection"


Answer = tuple[bytes, Action]

OK: Final = b"250 2.0.0 Ok\r\n"
SYNTAX: Final = b"500 5.5.2 Syntax error: a command is one line of ASCII ended by CRLF\r\n"
TOO_LONG: Final = b"500 5.5.2 Command line too long\r\n"
UNKNOWN: Final = b"500 5.5.2 Command not known\r\n"
NOT_NOW: Final = b"503 5.5.1 Bad sequence of commands\r\n"
NO_ARGUMENT: Final = b"501 5.5.4 No argument is allowed\r\n"
