"""ESMTP parameters of MAIL and RCPT, on raw bytes, case kept (RFC 5321 §4.1.2).

What was not advertised is refused (555); what is malformed or said twice is a syntax
error (501). Values pass through as they came.
"""

import re
from typing import Final

_PARAMETER: Final = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_SIZE: Final = re.compile(rb"[0-9]{1,20}")


class ParameterError(ValueError):
    """A parameter that cannot be taken; `code` and the text make the reply."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(text: bytes) -> dict[bytes, bytes | None]:
    """Return parameters by keyword in upper case; the value is None where there is none.

    Raises:
        ParameterError: 501, it is not the grammar or a keyword comes twice.
    """
    found: dict[bytes, bytes | None] = {}
    for item in text.split(b" "):
        if not item:
            continue
        match = _PARAMETER.fullmatch(item)
        if match is None:
            raise ParameterError(501, "5.5.4 Not a parameter")
        keyword = match[1].upper()
        if keyword in found:
            raise ParameterError(501, f"5.5.4 {keyword.decode()} is given twice")
        found[keyword] = match[2]
    return found


def mail(text: bytes, *, message_size: int) -> bytes:
    """Check MAIL's parameters; return those that go with the message (BODY, SMTPUTF8).

    Raises:
        ParameterError: 501 or 555; 552 where SIZE is more than `message_size` (RFC 1870 §6.1).
    """
    if not text:
        return b""
    kept = []
    for keyword, value in parse(text).items():
        if keyword == b"SIZE":
            if value is None or _SIZE.fullmatch(value) is None:
                raise ParameterError(501, "5.5.4 SIZE wants a number")
            if int(value) > message_size:
                raise ParameterError(552, f"5.3.4 Message size exceeds the limit of {message_size} octets")
        elif keyword == b"BODY":
            if value is None or value.upper() not in {b"7BIT", b"8BITMIME"}:
                raise ParameterError(501, "5.5.4 BODY is 7BIT or 8BITMIME")
            kept.append(b"BODY=" + value.upper())
        elif keyword == b"SMTPUTF8":
            if value is not None:
                raise ParameterError(501, "5.5.4 SMTPUTF8 takes no value")
            kept.append(b"SMTPUTF8")
        else:
            raise ParameterError(555, f"5.5.4 {keyword.decode()} is not known here")
    return b" ".join(kept)


def rcpt(text: bytes) -> None:
    """Check RCPT's parameters: none is offered yet.

    Raises:
        ParameterError: 501 or 555.
    """
    for keyword in parse(text):
        raise ParameterError(555, f"5.5.4 {keyword.decode()} is not known here")
