"""What an attempt came to, for one recipient, and how far it reaches.

A failure is a value with a scope, decided in `policy.classify` and nowhere else:
the scope says who else is concerned (compare Postfix `smtp/smtp_trouble.c`).
"""

import enum

import msgspec

from backstamp.mail.reply import Reply


class Verdict(enum.Enum):
    """How an attempt ended for a recipient."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


class Scope(enum.IntEnum):
    """How far an outcome reaches; a larger scope includes the smaller ones."""

    RECIPIENT = 1
    MESSAGE = 2
    HOST = 3
    DESTINATION = 4


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Verdict, the reply behind it (ours where no peer spoke), the remote host, and the scope."""

    verdict: Verdict
    reply: Reply
    scope: Scope = Scope.RECIPIENT
    host: str = ""
