"""What a sink answers: rules by verb, the first that fits and is not used up. Pure.

A rule can answer with another reply, with any octets, with silence, late, byte by byte,
or by closing the connection before or after it spoke: what peers do on bad days.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

VERBS: Final = (
    *("CONNECT", "EHLO", "HELO", "STARTTLS", "TLS", "AUTH"),
    *("MAIL", "RCPT", "DATA", "DOT", "RSET", "NOOP", "VRFY", "QUIT"),
)
"""What a rule can be about: the commands, the connection itself, the final dot, and TLS: what is
said instead of the handshake that the client begins behind STARTTLS."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What happens instead of the usual reply. Without `octets` nothing is said."""

    octets: bytes = b""
    delay: float = 0.0
    close: bool = False
    bytewise: bool = False


class Rule(msgspec.Struct):
    """`times` counts down; None: always. `address` narrows MAIL and RCPT to one address."""

    verb: str
    step: Step
    address: bytes | None = None
    times: int | None = None


def reply(code: int, text: str = "") -> bytes:
    """Return a reply's octets; lines of the text become lines of the reply (RFC 5321 §4.2.1)."""
    lines = text.split("\n")
    rows = [f"{code}-{line}\r\n" for line in lines[:-1]]
    return "".join([*rows, f"{code} {lines[-1]}\r\n"]).encode()


class Script:
    """The rules of a sink, in the order they were given."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = list(rules)

    def answer(self, verb: str, address: bytes | None = None) -> Step | None:
        """Return the step for a command, None for the usual reply; a rule with `times` is used up by it."""
        for rule in self.rules:
            if rule.verb != verb or rule.times == 0:
                continue
            if rule.address is not None and rule.address != address:
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule.step
        return None

    def say(
        self, verb: str, code: int, text: str = "", *, address: bytes | None = None, times: int | None = None
    ) -> None:
        """Answer a verb with this reply."""
        self.rules.append(Rule(verb, Step(octets=reply(code, text)), address, times))

    def do(
        self, verb: str, *, times: int | None = None, address: bytes | None = None, **step: object
    ) -> None:
        """Answer a verb with a step given by its fields."""
        self.rules.append(Rule(verb, msgspec.convert(step, Step), address, times))
