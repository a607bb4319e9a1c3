"""Who is not sent to because of the suppression list, before anybody is connected to. Pure.

Asked before every attempt and not only at accept: mail that was queued earlier is held to
the list as it stands. Who is suppressed fails, with a report where one is wanted: nothing
ends silently (promise 3).
"""

from collections.abc import Mapping
from typing import Protocol

from backstamp.mail.envelope import Recipient
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply
from backstamp.policy.suppression import Suppressed, refusal


class Suppression(Suppressed, Protocol):
    """The list, which learns from hard bounces."""

    def __len__(self) -> int:
        """Entries of it."""
        ...

    def bounced(self, recipient: bytes, tenant: bytes, bounce_class: str, reply: str) -> None:
        """Learn from a recipient's failure that is durable; never blocks.

        Failures of the class `policy.suppression.CLASS` teach nothing: nobody was asked.
        """
        ...


def suppressed(recipients: Mapping[int, Recipient], tenant: bytes, listed: Suppressed) -> dict[int, Outcome]:
    """Return the outcomes, by ordinal, of the recipients that are on the list; none was sent to."""
    return {
        ordinal: _failed(refusal(found))
        for ordinal, recipient in recipients.items()
        if (found := listed.match(recipient.address, tenant)) is not None
    }


def _failed(words: str) -> Outcome:
    code, _, text = words.partition(" ")
    return Outcome(Verdict.FAILED, Reply(int(code), text))
