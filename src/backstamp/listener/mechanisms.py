"""The SASL mechanisms, each a machine: what the client said in, what to ask or to judge out. Pure.

PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 5802, 7677), OAUTHBEARER (RFC 7628) and XOAUTH2.
A machine finds out what is claimed; whether it is true is judged outside (`Check`), for SCRAM
too, which knows it already, so that failures are counted in one place. Nothing here binds to
the channel: `p=` is refused, `n` and `y` are fine, since no -PLUS is offered (RFC 5802 §6).
No claim shows its secret when it is printed.
"""

import json
import re
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from backstamp.listener.accounts import LONGEST_NAME, Scram, prepared

MALFORMED: Final = b"501 5.5.2 This is not a message of that mechanism\r\n"
REJECTED: Final = b"535 5.7.8 Authentication credentials invalid\r\n"
NOT_ANOTHER: Final = b"535 5.7.8 Nobody acts for somebody else here\r\n"

_BEARER: Final = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*) *")
_GS2: Final = re.compile(rb"[ny],(?:a=([^,]*))?,")


class Password(msgspec.Struct, frozen=True):
    """The claim to be a user, with a password; both as they came."""

    username: str
    password: str
    mechanism: str = "PLAIN"

    def __repr__(self) -> str:
        return f"Password({self.username!r}, …)"


class Token(msgspec.Struct, frozen=True):
    """The claim to be a user, with a bearer token. `username` is empty where only the token says who."""

    username: str
    token: str
    mechanism: str = "OAUTHBEARER"

    def __repr__(self) -> str:
        return f"Token({self.username!r}, …)"


class Proof(msgspec.Struct, frozen=True):
    """The claim to be a user, proved or not: SCRAM needs nobody else for that. `username` is prepared."""

    username: str
    good: bool
    mechanism: str = "SCRAM-SHA-256"


Claim = Password | Token | Proof


class Challenge(msgspec.Struct, frozen=True):
    """Ask for one more response."""

    text: bytes


class Check(msgspec.Struct, frozen=True):
    """Have this judged; if it is not true, `refused` tells what to say."""

    claim: Claim


class Failed(msgspec.Struct, frozen=True):
    """The exchange is over; the reply is a whole line."""

    reply: bytes


Step = Challenge | Check | Failed

Verifier = Callable[[str], Scram]
"""From a prepared name to the keys of its owner; for names nobody has to some that nobody has."""


class Exchange(Protocol):
    """One exchange."""

    def step(self, response: bytes) -> Step:
        """Take the client's next response, decoded."""
        ...

    def refused(self, reply: bytes) -> Challenge | Failed:
        """Return what the client hears when its claim was not found true, or could not be judged."""
        ...

    def accepted(self) -> bytes | None:
        """Return what the client is to hear with a success, and acknowledge; None: nothing."""
        ...


def start(
    mechanism: str, initial: bytes | None, *, verifier: Verifier, nonce: Callable[[], str]
) -> tuple[Exchange, Step]:
    """Begin an exchange of an offered mechanism; `initial` is the initial response, decoded.

    `nonce` gives printable ASCII without commas that nobody can foresee (RFC 5802 §5.1).
    """
    exchange: Exchange
    first = Challenge(b"")
    match mechanism:
        case "PLAIN":
            exchange = _Plain()
        case "LOGIN":
            exchange, first = _Login(), Challenge(b"Username:")
        case "SCRAM-SHA-256":
            from backstamp.listener.scram import ScramExchange  # its library is a part of this one alone

            exchange = ScramExchange(verifier, nonce)
        case _:
            exchange = _Bearer(mechanism)
    return exchange, first if initial is None else exchange.step(initial)


class Short:
    """What most mechanisms have to say after the judgement: nothing."""

    def refused(self, reply: bytes) -> Challenge | Failed:
        """Say it (`Exchange.refused`)."""
        return Failed(reply)

    def accepted(self) -> bytes | None:
        """Say nothing (`Exchange.accepted`)."""
        return None


class _Plain(Short):
    """`authzid NUL authcid NUL passwd`."""

    def step(self, response: bytes) -> Step:
        try:
            authzid, name, password = response.decode("utf-8").split("\0")
        except ValueError:
            return Failed(MALFORMED)
        if not name or not password:
            return Failed(MALFORMED)
        if authzid not in ("", name):
            return Failed(NOT_ANOTHER)
        return Check(Password(name, password, "PLAIN"))


class _Login(Short):
    """A name, then a password; the older one of the two, kept for clients that know no other."""

    def __init__(self) -> None:
        self._name = ""

    def step(self, response: bytes) -> Step:
        try:
            text = response.decode("utf-8")
        except ValueError:
            return Failed(MALFORMED)
        if not text or "\0" in text:
            return Failed(MALFORMED)
        if self._name:
            return Check(Password(self._name, text, "LOGIN"))
        self._name = text
        return Challenge(b"Password:")


class _Bearer(Short):
    """One message with a token; after a refusal the client hears why, and says anything at all."""

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism
        self._reply = b""

    def step(self, response: bytes) -> Step:
        if self._reply:
            return Failed(self._reply)
        message = response
        name = b""
        if self._mechanism == "OAUTHBEARER":
            header = _GS2.match(response)
            if header is None:
                return Failed(MALFORMED)
            name = (header[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
            message = response[header.end() :].removeprefix(b"\1")
        pairs = dict(part.partition(b"=")[::2] for part in message.split(b"\1"))
        found = _BEARER.fullmatch(pairs.get(b"auth", b""))
        name = pairs.get(b"user", name) if self._mechanism == "XOAUTH2" else name
        try:
            text = name.decode("utf-8")
        except ValueError:
            return Failed(MALFORMED)
        user = prepared(text, LONGEST_NAME)
        if found is None or not message.endswith(b"\1\1") or (text and user is None):
            return Failed(MALFORMED)
        return Check(Token(user or "", found[1].decode("ascii"), self._mechanism))

    def refused(self, reply: bytes) -> Challenge | Failed:
        if reply.startswith(b"4"):
            # It is not the token that is wrong (RFC 7628 §3.2.2 has no status for that).
            return Failed(reply)
        self._reply = reply
        status = "invalid_token" if self._mechanism == "OAUTHBEARER" else "401"
        return Challenge(json.dumps({"status": status, "schemes": "bearer"}).encode())
