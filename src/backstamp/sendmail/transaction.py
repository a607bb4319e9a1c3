"""One message to the relay: as many transactions as its recipients need, and what came of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from backstamp.sendmail.client import Client
from backstamp.sendmail.failure import DATA, TEMPORARY, SendmailError, code_of, code_of_all


class Envelope(NamedTuple):
    """Who sends what to whom; `sender` is empty for the null path, `envelope_id` is xtext already."""

    sender: str
    recipients: Sequence[str]
    size: int
    eight_bit: bool = False
    notify: str = ""
    ret: str = ""
    envelope_id: str = ""


class Refused(NamedTuple):
    """A recipient and the reply that refused it."""

    recipient: str
    reply: str


class Outcome(NamedTuple):
    """The replies that took the message, and who was refused."""

    taken: list[str]
    refused: list[Refused]

    @property
    def code(self) -> int:
        """The exit code."""
        if not self.refused:
            return 0
        return code_of_all([one.reply for one in self.refused], some_taken=bool(self.taken))


Content = Callable[[int], Iterable[bytes]]
"""From the place of a transaction's first recipient among all of them to the pieces of its content."""


def send(client: Client, envelope: Envelope, content: Content) -> Outcome:
    """Hand a message to the relay; `content` is asked anew for each transaction.

    Whom the relay has no room for in one transaction (452 4.5.3) goes in the next (RFC 5321 §4.5.3.1.10).

    Raises:
        SendmailError: nothing was taken, and it was not for the recipients.
    """
    outcome = Outcome([], [])
    waiting = list(envelope.recipients)
    while waiting:
        try:
            waiting = _transaction(client, envelope, waiting, content, outcome)
        except SendmailError as error:
            if not outcome.taken:
                raise
            outcome.refused.extend(Refused(one, str(error)) for one in waiting)
            break
    return outcome


def _transaction(
    client: Client,
    envelope: Envelope,
    recipients: Sequence[str],
    content: Content,
    outcome: Outcome,
) -> list[str]:
    """Run one transaction, note its outcome, and return who is left for the next."""
    notify = f" NOTIFY={envelope.notify}" if envelope.notify and "DSN" in client.keywords else ""
    _expect("2", client.command(_mail(client, envelope)))
    taken = 0
    later: list[str] = []
    refused: list[Refused] = []
    for recipient in recipients:
        reply = client.command(f"RCPT TO:<{recipient}>{notify}")
        if reply.startswith("421"):
            raise SendmailError(code_of(reply), reply)
        if reply[0] == "2":
            taken += 1
        elif taken and reply.startswith("452 4.5.3"):
            later.append(recipient)
        else:
            refused.append(Refused(recipient, reply))
    if taken:
        _expect("3", client.command("DATA"))
        place = envelope.recipients.index(recipients[0])
        outcome.taken.append(_expect("2", client.content(content(place))))
    outcome.refused.extend(refused)
    return later


def _expect(kind: str, reply: str) -> str:
    """Return a reply of this kind; anything else is the relay's refusal of the message."""
    if reply[0] != kind:
        raise SendmailError(code_of(reply) if reply[0] in "45" else TEMPORARY, reply)
    return reply


def _mail(client: Client, envelope: Envelope) -> str:
    parts = [f"MAIL FROM:<{envelope.sender}>"]
    if "SIZE" in client.keywords:
        parts.append(f"SIZE={envelope.size}")
    if envelope.eight_bit and "8BITMIME" in client.keywords:
        parts.append("BODY=8BITMIME")
    if not all(one.isascii() for one in (envelope.sender, *envelope.recipients)):
        if "SMTPUTF8" not in client.keywords:
            raise SendmailError(DATA, "an address beyond ASCII, and the relay does not offer SMTPUTF8")
        parts.append("SMTPUTF8")
    if "DSN" in client.keywords:
        parts += [f"RET={envelope.ret}"] if envelope.ret else []
        parts += [f"ENVID={envelope.envelope_id}"] if envelope.envelope_id else []
    return " ".join(parts)
