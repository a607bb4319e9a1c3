"""What a refusal is about: a class for every reply, for events, metrics and the suppression list.

Verdict and scope (`policy.classify`) say what is to be done with the mail; the class says why,
in one word a person can count. One ordered table decides, the first row that fits: what the
text says stands before what the enhanced status says, because providers use one status for
many things (5.7.1) or the wrong one; the bare codes stand last. Texts are facts seen in the
field, collected in the test. Pure.
"""

import enum
import re
from functools import lru_cache
from typing import Final, NamedTuple

from backstamp.mail.outcome import Outcome

_LOOKED_AT: Final = 600
"""Characters of a reply that are read; what comes behind is links and advice."""


class BounceClass(enum.Enum):
    """Why a recipient was refused or put off."""

    INVALID_RECIPIENT = "invalid-recipient"
    """No such mailbox."""
    BAD_DOMAIN = "bad-domain"
    """No such domain, or one that takes no mail."""
    INACTIVE_MAILBOX = "inactive-mailbox"
    """The mailbox is closed or disabled."""
    FULL_MAILBOX = "full-mailbox"
    SPAM_BLOCK = "spam-block"
    """The content: spam, a virus, a link."""
    REPUTATION = "reputation"
    """This relay's address or the sender's domain, on a list or of poor reputation."""
    AUTHENTICATION = "authentication"
    """DMARC, SPF, DKIM, or the name of this relay's address."""
    POLICY = "policy"
    """A rule of the other side, of no narrower class."""
    TOO_LARGE = "too-large"
    RELAYING = "relaying"
    """The other side does not take mail for this domain, or not from us."""
    RATE = "rate"
    """Too much or too many at a time."""
    GREYLIST = "greylist"
    DNS = "dns"
    """The destination's names led nowhere this time."""
    CONNECTION = "connection"
    """No session, or one that broke."""
    TLS = "tls"
    LOOP = "loop"
    EXPIRED = "expired"
    """The lifetime is over; the last reply is told in the words."""
    PROTOCOL = "protocol"
    """One side does not understand the other, or the mail's form."""
    SYSTEM = "system"
    """Trouble of the other side's own: storage, load, maintenance."""
    SUPPRESSED = "suppressed"
    """The recipient is on the suppression list; nobody was asked."""
    OTHER = "other"


_HARD: Final = {BounceClass.INVALID_RECIPIENT, BounceClass.BAD_DOMAIN, BounceClass.INACTIVE_MAILBOX}


class _Row(NamedTuple):
    """`code` and `enhanced` (subject.detail) match whole, `text` anywhere in lower case; empty fits all."""

    kind: BounceClass
    code: str = ""
    enhanced: str = ""
    text: str = ""


def of(outcome: Outcome) -> BounceClass:
    """Return the class of an outcome that is no delivery."""
    return _of(outcome.reply.code, outcome.reply.text[:_LOOKED_AT])


def hard(kind: BounceClass) -> bool:
    """Tell whether a class says that the address itself is bad: mail to it will never arrive.

    Only with a failure: a 4yz "user unknown" is a server that does not know its users yet.
    """
    return kind in _HARD


@lru_cache(4096)
def _of(code: int, text: str) -> BounceClass:
    return BounceClass.OTHER
