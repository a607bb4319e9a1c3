"""AUTH, the client's part (RFC 4954): which mechanism, and what to say to each 334. Pure.

PLAIN (RFC 4616) and LOGIN are taken where no mechanism is named; XOAUTH2 needs a token for a
secret, so it is taken only by name. The secret leaves this module in what is said to the
server and nowhere else: a reply that repeats it is shown without it.
"""

import re
from base64 import b64encode
from collections.abc import Collection
from typing import Final

from backstamp.mail.reply import Reply
from backstamp.policy.route import Credentials

PREFERRED: Final = ("PLAIN", "LOGIN")
NAMED: Final = (*PREFERRED, "XOAUTH2")

CANCEL: Final = b"*"
"""Ends an exchange in which the server asks for more than there is to say (RFC 4954 §4)."""

_HIDDEN: Final = "…"
_WORD: Final = re.compile("[A-Za-z0-9+/=]{8,}")
"""What may be a piece of base64 of ours."""


def choose(offered: Collection[str], credentials: Credentials) -> str | None:
    """Return the mechanism to use, None where the server offers (upper case) none that will do."""
    wanted = credentials.mechanism.upper()
    acceptable = PREFERRED if not wanted else tuple(one for one in NAMED if one == wanted)
    return next((one for one in acceptable if one in offered), None)


class Exchange:
    """What is said: `first`, then each of `answers` for as long as the server says 334."""

    def __init__(self, mechanism: str, credentials: Credentials) -> None:
        name, secret = credentials.username.encode(), credentials.secret.encode()
        if b"\0" in name + secret:
            raise ValueError("a NUL in credentials")
        self.first = b"AUTH " + mechanism.encode()
        if mechanism == "PLAIN":
            initial = b64encode(b"\0" + name + b"\0" + secret)
            said = [initial]
        elif mechanism == "LOGIN":
            initial = b""
            said = [b64encode(name), b64encode(secret)]
        else:
            initial = b64encode(b"user=" + name + b"\1auth=Bearer " + secret + b"\1\1")
            # The server's 334 tells why it refuses; an empty line asks for the refusal itself.
            said = [b""]
        if initial:
            self.first += b" " + initial
        self.answers = (*said, CANCEL)
        self._secret = credentials.secret
        self._said = [one.decode() for one in (initial, *said, b64encode(secret))]

    def shown(self, reply: Reply) -> Reply:
        """Return a reply without what it repeats of the secret, whole or cut short."""
        text = reply.text.replace(self._secret, _HIDDEN) if self._secret else reply.text
        return Reply(reply.code, _WORD.sub(self._hide, text))

    def _hide(self, word: re.Match[str]) -> str:
        return _HIDDEN if any(word[0] in one for one in self._said) else word[0]
