"""What the relay lets a request say of its mail, and MAIL's parameters from what it says. Pure."""

import re
from typing import Final

import msgspec

from backstamp.inject.shape import Mistake, MistakenError

_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Wishes(msgspec.Struct, frozen=True):
    """The bounds of a request: recipients, its tenant if it may not name one, the highest priority."""

    recipients: int = 1000
    tenant: str = ""
    tenant_named: bool = True
    priority: int | None = None
    priority_limit: int = 9


def parameters(wishes: Wishes, tenant: str | None, priority: int | None) -> bytes:
    """Return the parameters of MAIL that a tenant and a priority make (`TENANT` is the queue's own).

    A priority above the limit is lowered to it, as for SMTP (RFC 6710 §4.1).

    Raises:
        MistakenError: one of them is nothing that can be said.
    """
    mistakes = []
    whose = wishes.tenant
    if tenant is not None:
        whose = tenant
        if not wishes.tenant_named:
            why = "may not be named here (tenant_header = false, or the user has one)"
            mistakes.append(Mistake("tenant", why))
        elif _TENANT.fullmatch(tenant) is None:
            mistakes.append(Mistake("tenant", "is not one name of at most 64 letters, digits, dots, - and _"))
    if priority is not None and not -9 <= priority <= 9:
        mistakes.append(Mistake("priority", "is not a number from -9 to 9"))
    if mistakes:
        raise MistakenError(mistakes)
    urgent = wishes.priority if priority is None else min(priority, wishes.priority_limit)
    said = [b"TENANT=" + whose.encode("ascii")] if whose else []
    if urgent is not None:
        said.append(b"MT-PRIORITY=%d" % urgent)
    return b" ".join(said)
