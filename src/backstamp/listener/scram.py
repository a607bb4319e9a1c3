"""SCRAM-SHA-256 (RFC 5802, 7677) as one of the mechanisms, on scramp's machine. Pure.

A module of its own, so that only who is asked for it pays for the library (3 MB).
"""

import re
from collections.abc import Callable
from typing import Final

from scramp import ScramException, ScramMechanism
from scramp.utils import ServerError

from backstamp.listener.accounts import LONGEST_NAME, prepared
from backstamp.listener.mechanisms import MALFORMED, Challenge, Check, Failed, Proof, Short, Step, Verifier

_IDENTITY: Final = re.compile(r"([ny]),a=([^,]+),")


class _Header:
    """A GS2 header in the place of scramp's, which has no room for an authorization identity."""

    def __init__(self, said: str) -> None:
        self._said = said.encode()

    def make_cbind_input(self, _: object) -> bytes:
        """Return what the client's last message must repeat (RFC 5802 §7)."""
        return self._said


class ScramExchange(Short):
    """Client-first, client-final, then what comes with a success.

    That is said only after the judgement: who is locked out must not learn from it that a guess was right.
    """

    def __init__(self, verifier: Verifier, nonce: Callable[[], str]) -> None:
        """`verifier` and `nonce` are those of `mechanisms.start`."""
        self._name = ""
        self._verifier = verifier
        self._server = ScramMechanism("SCRAM-SHA-256").make_server(self._keys, s_nonce=nonce())
        self._proceed = self._first

    def step(self, response: bytes) -> Step:
        """Take the client's next response, decoded."""
        try:
            return self._proceed(response)
        except (ScramException, UnicodeDecodeError):
            # What scramp says of it may cite what the client sent.
            return Failed(MALFORMED)

    def _first(self, response: bytes) -> Step:
        text = response.decode("utf-8")
        identity = _IDENTITY.match(text)
        if identity is not None:
            text = f"{identity[1]},,{text[identity.end() :]}"
        self._server.set_client_first(text)
        if identity is not None:
            name = identity[2].replace("=2C", ",").replace("=3D", "=")
            if prepared(name, LONGEST_NAME) != self._name:
                return Failed(MALFORMED)
            self._server.gs2_header = _Header(identity[0])
        self._proceed = self._final
        return Challenge(self._server.get_server_first().encode())

    def _final(self, response: bytes) -> Step:
        try:
            self._server.set_client_final(response.decode("utf-8"))
        except ScramException as error:
            if error.server_error is ServerError.INVALID_PROOF:
                return Check(Proof(self._name, good=False))
            raise
        return Check(Proof(self._name, good=True))

    def accepted(self) -> bytes | None:
        """Return the server's own proof."""
        return str(self._server.get_server_final()).encode()

    def _keys(self, name: str) -> tuple[bytes, bytes, bytes, int]:
        # The library has prepared the name; its length is ours to bound.
        if len(name) > LONGEST_NAME:
            raise ScramException("a name too long")
        self._name = name
        keys = self._verifier(name)
        return keys.salt, keys.stored_key, keys.server_key, keys.iterations
