"""The framing of an AUTH exchange (RFC 4954 §4): base64 on lines, `*` to cancel, `=` for nothing. Pure."""

import binascii
from base64 import b64encode
from typing import Final

LONGEST_LINE: Final = 12_288
"""Octets of a line of an exchange, without its line end (RFC 4954 §4)."""

TOO_LONG: Final = b"500 5.5.6 Authentication exchange line is too long\r\n"
NOT_BASE64: Final = b"501 5.5.2 This is not base64\r\n"
CANCELLED: Final = b"501 5.7.0 Authentication cancelled\r\n"


class FramingError(ValueError):
    """A line ends the exchange; `reply` is what its sender is told."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply[:3].decode())
        self.reply = reply


def response(line: bytes) -> bytes:
    """Return what a client's line (without its CRLF) says.

    Raises:
        FramingError: it is too long, no base64, or cancels the exchange.
    """
    if len(line) > LONGEST_LINE:
        raise FramingError(TOO_LONG)
    if line == b"*":
        raise FramingError(CANCELLED)
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except ValueError:
        raise FramingError(NOT_BASE64) from None


def initial(argument: bytes) -> bytes:
    """Return what an initial response says; `=` is an empty one.

    Raises:
        FramingError: as for `response`; nothing can be cancelled before it began.
    """
    if argument == b"=":
        return b""
    if not argument or argument == b"*":
        raise FramingError(NOT_BASE64)
    return response(argument)


def challenge(text: bytes) -> bytes:
    """Return the reply that asks for the next line."""
    return b"334 " + b64encode(text) + b"\r\n"
