"""The envelope: reverse-path, recipients and ESMTP parameters (RFC 5321 §2.3.1).

Addresses are bytes as they came, without the angle brackets; the null reverse-path is
empty. Parameters are bytes as in the command (`BODY=8BITMIME SMTPUTF8`), because the
case of ENVID and ORCPT must survive (RFC 3461 §5.2.1).
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec


class Recipient(msgspec.Struct, frozen=True, gc=False):
    """One RCPT: the address and its parameters (NOTIFY, ORCPT)."""

    address: bytes
    parameters: bytes = b""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One transaction's envelope. Recipients stand ordered by domain (`ordered`)."""

    sender: bytes
    recipients: tuple[Recipient, ...]
    parameters: bytes = b""


class DomainRun(msgspec.Struct, frozen=True, gc=False):
    """Neighbouring recipients of one domain: ordinals `first` up to, not including, `first + count`."""

    domain: bytes
    first: int
    count: int


def domain_of(address: bytes) -> bytes:
    """Return the domain of an address in lower case (ASCII letters only); empty for `postmaster`."""
    return address.rpartition(b"@")[2].lower() if b"@" in address else b""


def same(address: bytes) -> bytes:
    """Return what is equal for two ways to write one mailbox: its domain in lower case."""
    local, at, domain = address.rpartition(b"@")
    return local + at + domain.lower() if at else address


def ordered(recipients: Iterable[Recipient]) -> tuple[Recipient, ...]:
    """Return the recipients ordered by domain, otherwise as they came; repetitions are dropped.

    A repeated RCPT is one recipient: a second copy is what nobody wants (RFC 5321 §4.1.1.3
    lets the server treat it so). A domain is the same in any case, a local part is not (§2.4).
    """
    several = tuple(recipients)
    if len(several) == 1:
        return several
    unique: dict[tuple[bytes, bytes], Recipient] = {}
    for one in several:
        unique.setdefault((same(one.address), one.parameters), one)
    return tuple(sorted(unique.values(), key=lambda one: domain_of(one.address)))


def domain_runs(recipients: Sequence[Recipient]) -> list[DomainRun]:
    """Return the runs of equal domains among ordered recipients."""
    if len(recipients) == 1:
        return [DomainRun(domain_of(recipients[0].address), 0, 1)]
    runs = []
    first = 0
    for domain, members in groupby(recipients, key=lambda recipient: domain_of(recipient.address)):
        count = sum(1 for _ in members)
        runs.append(DomainRun(domain, first, count))
        first += count
    return runs


def parameter(parameters: bytes, keyword: bytes) -> bytes | None:
    """Return the value of an ESMTP parameter (empty where it has none), None where it is absent.

    The keyword is given in upper case and matches in any case (RFC 5321 §4.1.2).
    """
    for item in parameters.split():
        name, _, value = item.partition(b"=")
        if name.upper() == keyword:
            return value
    return None


def replaced(parameters: bytes, keyword: bytes, value: bytes) -> bytes:
    """Return parameters in which a keyword (upper case) has this value and no other."""
    others = [item for item in parameters.split() if item.partition(b"=")[0].upper() != keyword]
    return b" ".join([*others, b"%b=%b" % (keyword, value)])


def notifies(parameters: bytes, condition: bytes) -> bool:
    """Tell whether a recipient's NOTIFY asks for a report on a condition (SUCCESS, FAILURE, DELAY).

    Who says nothing is told of failures, and not of successes (RFC 3461 §4.1); a delay is the
    relay's to choose then.
    """
    notify = parameter(parameters, b"NOTIFY") if parameters else None
    if notify is None:
        return condition != b"SUCCESS"
    return condition in notify.upper().split(b",")


class Flow(msgspec.Struct, frozen=True):
    """Whose mail it is, for taking turns, and how urgent.

    `tenant` is who was authenticated or named (MAIL's internal parameter `TENANT`), else the sender's
    domain; `priority` is from -9 to 9 (RFC 6710), None where nobody said any.
    """

    tenant: bytes
    priority: int | None = None


_PRIORITY = re.compile(rb"[+-]?[0-9]")


def flow(envelope: Envelope) -> Flow:
    """Return the flow of a message. Whatever stands in its parameters gives one."""
    parameters = envelope.parameters
    tenant = priority = None
    if b"=" in parameters:
        tenant = parameter(parameters, b"TENANT")
        priority = parameter(parameters, b"MT-PRIORITY")
    return Flow(
        tenant or domain_of(envelope.sender),
        int(priority) if priority is not None and _PRIORITY.fullmatch(priority) else None,
    )
