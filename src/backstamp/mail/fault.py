"""A session that broke: no reply, or none that could be read, and where it stood."""

import enum

import msgspec


class Phase(enum.Enum):
    """What the client was waiting for (RFC 5321 §4.5.3.2 names the waits)."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    TLS = "TLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    FINAL = "final dot"


class Fault(msgspec.Struct, frozen=True, gc=False):
    """`problem` is one of a few words, `text` is for people.

    The words: timeout, disconnected, refused, protocol, resources (this machine has none for it); of TLS
    and AUTH also handshake (it failed, or the certificate is not what was demanded), not offered, clear
    text (so nothing secret is said).
    """

    phase: Phase
    problem: str
    text: str
