"""AUTH as a sink asks for it: PLAIN, LOGIN and XOAUTH2 for one user (RFC 4954). Pure."""

from base64 import b64encode
from collections.abc import Generator
from typing import Final

MECHANISMS: Final = ("PLAIN", "LOGIN", "XOAUTH2")

Dialogue = Generator[bytes, bytes, bool]
"""Yields what is asked (behind `334 `), takes each answer, returns whether it is the user."""


def dialogue(mechanism: str, initial: bytes, user: str, password: str) -> Dialogue:
    """Ask for one user's credentials; `initial` is what the AUTH command brought along."""
    name, secret = user.encode(), password.encode()
    if mechanism == "PLAIN":
        # Jakarta Mail says for whom it is, too: itself.
        known = {b64encode(b"\0".join((whom, name, secret))) for whom in (b"", name)}
        return (initial or (yield b"")) in known
    if mechanism == "LOGIN":
        given = initial or (yield b64encode(b"Username:"))
        return (given, (yield b64encode(b"Password:"))) == (b64encode(name), b64encode(secret))
    given = initial or (yield b"")
    if given == b64encode(b"user=" + name + b"\1auth=Bearer " + secret + b"\1\1"):
        return True
    yield b64encode(b'{"status":"401"}')
    return False
