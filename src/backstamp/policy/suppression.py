"""Who is not to be sent to, and when a hard bounce puts somebody there. Pure.

An address matches whatever its case and quoting, as one or with its whole domain
(`@example.org`). What an operator wrote into the list always holds; what was learned from
bounces holds, and is learned at all, only while the policy says so. Learned entries end by
themselves: mailboxes come back, and a provider's bad day must not cost a customer for ever.
An entry is for one tenant, or for all.
"""

import enum
import re
from collections.abc import Sequence
from typing import Protocol
from unicodedata import normalize

import msgspec

from backstamp.mail.address import parse_written, to_alabel

CLASS = "suppressed"
"""The bounce class of who was not sent to because of the list. It is learned from by nobody."""

DAY = 86400.0

LATEST = 253_402_300_800
"""Seconds since the epoch that no time of an entry reaches: the year 10000. Milliseconds are beyond."""

TENANT = 255
"""Characters of a tenant's name, at most: it may be a domain."""

_ATOMS = re.compile(r"[^\x00-\x20\x7f\"(),.:;<>@\[\\\]]+(?:\.[^\x00-\x20\x7f\"(),.:;<>@\[\\\]]+)*")
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = re.compile(r'(["\\])')
_CLASS = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class Source(enum.Enum):
    """Who put an entry there."""

    BOUNCE = "bounce"
    OPERATOR = "operator"
    IMPORT = "import"


class At(enum.Enum):
    """Where the list says no first; before an attempt it always does, for what was queued earlier."""

    ACCEPT = "accept"
    """RCPT is refused: the client knows at once, and no report has to be sent."""
    SEND = "send"
    """The mail is taken, and the recipient fails with a report or an event."""


class SuppressionPolicy(msgspec.Struct, frozen=True):
    """What is learned from bounces, and where the list is honoured.

    `enabled` is about learned entries only. An address is suppressed for `expiry` seconds (None: until
    it is removed) once `after` hard bounces of these `classes` came within `within` seconds.
    Twice and 30 days are Postal's: one wrong answer of a provider suppresses nobody.
    """

    enabled: bool = False
    classes: frozenset[str] = frozenset({"invalid-recipient", "inactive-mailbox"})
    after: int = 2
    within: float = 30 * DAY
    expiry: float | None = 30 * DAY
    at: At = At.ACCEPT


class Entry(msgspec.Struct, frozen=True):
    """One address that is not to be sent to, as lists, exports and the disk have it.

    `address` is canonical, `tenant` empty for all. Times are whole seconds since the epoch; `expires`
    is None where only an operator ends it. `reply` is what the bounce said, or an operator's note.
    """

    address: str
    tenant: str = ""
    bounce_class: str = ""
    reply: str = ""
    since: int = 0
    expires: int | None = None
    source: Source = Source.IMPORT


class Match(msgspec.Struct, frozen=True):
    """Why an address is not sent to."""

    bounce_class: str
    source: Source
    expires: int | None


class Suppressed(Protocol):
    """The list, as listener and delivery ask it."""

    def match(self, address: bytes, tenant: bytes) -> Match | None:
        """Return what keeps an address from being sent to, None if nothing does."""
        ...


def canonical(address: bytes) -> str:
    """Return an address as the list knows it: domain in A-labels, local part NFC, lower case, least quoting.

    RFC 5321 §2.4 leaves the case of the local part to its host; no host of consequence keeps two
    mailboxes that differ in it, and a list that can be passed by a capital letter is none. Tags
    (`user+tag`) stay: they may be mailboxes of their own. `@domain` is the whole domain.
    """
    local, _, domain = address.rpartition(b"@")
    text = local.decode("utf-8", "backslashreplace")
    if len(text) > 1 and text[0] == '"' == text[-1]:
        text = _PAIR.sub(r"\1", text[1:-1])
        text = text if _ATOMS.fullmatch(text) else '"' + _SPECIAL.sub(r"\\\1", text) + '"'
    if text == "*":
        # A mailbox of that name; without quotes a list of addresses would mean the whole domain.
        text = '"*"'
    # Lower case can undo the normal form: İ becomes two characters.
    return f"{normalize('NFC', normalize('NFC', text).lower())}@{to_alabel(domain).lower()}"


def wanted(text: str) -> str:
    """Return the canonical address of what a person or a file names: `user@domain`, `@domain` or `*@domain`.

    Raises:
        ValueError: it is no address; the text says why.
    """
    address = text.strip(" \t\r\n")
    whole = address.startswith(("@", "*@"))
    if whole:
        address = "x@" + address.partition("@")[2]
    found = parse_written(address)
    return canonical(found[1:] if whole else found)


def tenant_name(text: str) -> str:
    """Return the name of a tenant, empty for all of them.

    Raises:
        ValueError: it is none: too long, or not of printable characters.
    """
    if len(text) > TENANT or not text.isprintable():
        raise ValueError(f"tenant {text[:80]!r}: at most {TENANT} printable characters are wanted")
    return text


def in_time(name: str, seconds: float | None) -> None:
    """Look at a time of an entry. Raises ValueError: it is none, as where it is in milliseconds."""
    if seconds is not None and not 0 <= seconds < LATEST:
        raise ValueError(f"{name} {seconds:.15g}: seconds since 1970 are wanted")


def class_name(text: str) -> str:
    """Return the name of a bounce class, empty for none.

    Raises:
        ValueError: it is none; only names of lower case letters, digits and hyphens stand in replies.
    """
    if text and _CLASS.fullmatch(text) is None:
        raise ValueError("a bounce class is at most 64 lower case letters, digits and hyphens")
    return text


def learn(
    policy: SuppressionPolicy,
    address: bytes,
    tenant: bytes,
    bounce_class: str,
    reply: str,
    *,
    now: float,
    earlier: Sequence[float],
) -> Entry | None:
    """Return the entry a bounce makes, None if it makes none.

    `earlier` are the times of bounces of this address and tenant before this one that `counts` told to
    keep; `now` and they are seconds since the epoch.
    """
    if not counts(policy, bounce_class):
        return None
    recent = sum(1 for time in earlier if now - policy.within < time <= now)
    if recent + 1 < policy.after:
        return None
    return Entry(
        canonical(address),
        tenant.decode("utf-8", "backslashreplace"),
        bounce_class,
        reply,
        int(now),
        None if policy.expiry is None else int(now + policy.expiry),
        Source.BOUNCE,
    )


def counts(policy: SuppressionPolicy, bounce_class: str) -> bool:
    """Tell whether a bounce of this class is one that suppresses, alone or after others."""
    return policy.enabled and bounce_class in policy.classes


def refusal(match: Match) -> str:
    """Return the reply to who is suppressed.

    5.7.1 is what RFC 3463 §3.8 has for filtering by recipient. A 5.1.1 would be a word of the
    recipient's host, which was not asked.
    """
    why = f": {match.bounce_class}" if match.bounce_class else ""
    return f"550 5.7.1 Recipient is on the suppression list{why}"
