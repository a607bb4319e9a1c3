"""What was answered to each delivery so far, in this process: for people who ask. Pure.

One delivery has the last few different answers, each with how often and since when it came. It
is forgotten when nobody of it waits and nobody failed; beyond the bound the one that was
heard of longest ago is. Nothing is kept over a restart, and nothing depends on it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from backstamp.mail.envelope import Recipient, domain_of
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy import bounce
from backstamp.text import printable

SIZE: Final = 20_000
"""Deliveries remembered, some hundred octets each."""

ANSWERS: Final = 3
"""Different answers kept of a delivery."""

LENGTH: Final = 400
"""Characters kept of a reply's text."""


class Heard(msgspec.Struct, frozen=True):
    """One answer and how often it came; times are seconds since the epoch.

    `host` is empty where no host spoke (DNS, this relay itself). `recipients` are those of the last
    time, `attempt` is its number. An attempt of several transactions counts once.
    """

    reply: Reply
    host: str
    bounce_class: str
    failed: bool
    recipients: int
    first: float
    last: float
    attempt: int
    times: int = 1


class Past(msgspec.Struct, frozen=True):
    """What is known of a delivery's attempts, the last answer first."""

    first: float
    last: float
    heard: tuple[Heard, ...]


class Claimed(Protocol):
    """What is asked of a delivery (`queue.port.Delivery`)."""

    @property
    def queue_id(self) -> bytes:
        """The message's id."""
        ...

    @property
    def domain(self) -> bytes:
        """The destination domain in lower case."""
        ...

    @property
    def waiting(self) -> int:
        """How many recipients are to be delivered still."""
        ...


class History:
    """The pasts of deliveries, by queue id and domain."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._pasts: OrderedDict[tuple[bytes, bytes], Past] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pasts)

    def get(self, queue_id: bytes, domain: bytes) -> Past | None:
        """Return what is known of a delivery's attempts, None if nothing is."""
        return self._pasts.get((queue_id, domain))

    def note(
        self,
        queue_id: bytes,
        recipients: Mapping[int, Recipient],
        outcomes: Mapping[int, Outcome],
        *,
        attempt: int,
        now: float,
    ) -> None:
        """Note how an attempt, or a transaction of it, ended for those who were not delivered, by ordinal."""
        by_domain: dict[bytes, dict[Outcome, int]] = {}
        for ordinal, outcome in outcomes.items():
            counts = by_domain.setdefault(domain_of(recipients[ordinal].address), {})
            counts[outcome] = counts.get(outcome, 0) + 1
        for domain, counts in by_domain.items():
            key = (queue_id, domain)
            past = self._pasts.pop(key, None)
            self._pasts[key] = _after(past, counts, attempt, now)
            if len(self._pasts) > self._size:
                self._pasts.popitem(last=False)

    def ended(self, delivery: Claimed) -> None:
        """A claim is over: forget what came to its end well. Who failed is asked about still."""
        if not self._pasts or delivery.waiting:
            return
        key = (delivery.queue_id, delivery.domain)
        past = self._pasts.get(key)
        if past is not None and not any(one.failed for one in past.heard):
            del self._pasts[key]


def _after(past: Past | None, counts: Mapping[Outcome, int], attempt: int, now: float) -> Past:
    """Return a past with what was heard now."""
    before = () if past is None else past.heard
    fresh = [_heard(outcome, count, attempt, now) for outcome, count in counts.items()]
    # Most recipients first; of many different answers to one attempt the rest is lost.
    fresh.sort(key=_recipients, reverse=True)
    new = [_joined(one, before) for one in fresh[:ANSWERS]]
    same = {(one.reply, one.host, one.failed) for one in new}
    old = [one for one in before if (one.reply, one.host, one.failed) not in same]
    return Past(now if past is None else past.first, now, (*new, *old)[:ANSWERS])


def _recipients(heard: Heard) -> int:
    return heard.recipients


def _heard(outcome: Outcome, count: int, attempt: int, now: float) -> Heard:
    reply = Reply(outcome.reply.code, printable(outcome.reply.text, LENGTH))
    failed = outcome.verdict is Verdict.FAILED
    return Heard(reply, outcome.host, bounce.of(outcome).value, failed, count, now, now, attempt)


def _joined(new: Heard, before: tuple[Heard, ...]) -> Heard:
    """Return an answer, counted together with the same one of earlier attempts."""
    for one in before:
        if (one.reply, one.host, one.failed) == (new.reply, new.host, new.failed):
            same = one.attempt == new.attempt
            return msgspec.structs.replace(
                new,
                first=one.first,
                times=one.times + (not same),
                recipients=new.recipients + (one.recipients if same else 0),
            )
    return new
