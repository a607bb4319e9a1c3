"""What a message becomes for one peer: MAIL's and RCPT's parameters, or the reason it cannot go there. Pure.

Mail is never changed on the way: what a peer does not take is not converted but refused,
with the status RFC 6152 §3, RFC 1870 §6.1 and RFC 6531 §3.5 ask for. What is only asked for
goes on where it is understood, octet for octet (RFC 3461 §5.2.1, RFC 6710), and is left
out elsewhere.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from backstamp.mail import content, xtext
from backstamp.mail.envelope import Recipient, notifies, parameter
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.policy import classify
from backstamp.queue.port import Load

_PASSED: Final = (("DSN", b"RET"), ("DSN", b"ENVID"), ("MT-PRIORITY", b"MT-PRIORITY"))
"""MAIL parameters that go on as they came, each with the extension a peer must offer."""


class Prepared(msgspec.Struct, frozen=True):
    """What a peer is told: MAIL's parameters, and the recipients with RCPT's."""

    parameters: bytes
    recipients: Sequence[Recipient]


def left_out(
    recipients: Mapping[int, Recipient], *, host: str, extensions: Collection[str]
) -> dict[int, Outcome]:
    """Return the recipients a peer's lack of SMTPUTF8 leaves out; the others need not suffer for them."""
    if "SMTPUTF8" in extensions:
        return {}
    return {
        ordinal: classify.no_smtputf8(host, address=True)
        for ordinal, recipient in recipients.items()
        if not recipient.address.isascii()
    }


def for_peer(
    load: Load,
    recipients: Sequence[Recipient],
    *,
    host: str,
    extensions: Collection[str],
    size_limit: int | None,
    verified: bool = False,
) -> Prepared | Outcome:
    """Return what a peer is told of the mail and of these recipients, or why it cannot have it.

    `extensions` are the peer's EHLO keywords in upper case; `size_limit` is None where it named
    none; `verified` tells that the session has TLS with a certificate for the host's name. The client
    adds SIZE. The outcome is for all these recipients.
    """
    if b"REQUIRETLS" in load.parameters and parameter(load.parameters, b"REQUIRETLS") is not None:
        # RFC 8689 §4.2.1: TLS, verified, and a peer that promises the same; else it must not go.
        if not verified:
            return classify.unverified(host)
        if "REQUIRETLS" not in extensions:
            return classify.no_requiretls(host)
    parameters = _mail(load, host=host, extensions=extensions, size_limit=size_limit)
    if isinstance(parameters, Outcome):
        return parameters
    return Prepared(parameters, _addressed(recipients, extensions))


def relayed(load: Load, outcomes: Mapping[int, Outcome], *, extensions: Collection[str]) -> tuple[int, ...]:
    """Return whose sender is owed a "relayed" report for what a peer took (RFC 3461 §5.2.2).

    A peer with DSN has taken over the promise to report a success; one without it never will, so
    the relay says how far it knows. The null reverse-path gets none.
    """
    if "DSN" in extensions or not load.sender:
        return ()
    recipients = load.recipients
    return tuple(
        [
            ordinal
            for ordinal, outcome in outcomes.items()
            if (parameters := recipients[ordinal].parameters)
            and outcome.verdict is Verdict.DELIVERED
            and notifies(parameters, b"SUCCESS")
        ]
    )


def _mail(load: Load, *, host: str, extensions: Collection[str], size_limit: int | None) -> bytes | Outcome:
    """Return the MAIL parameters; of those in the queue only what is known here, never the queue's own."""
    size = content.size(load.content)
    if size_limit and size > size_limit:
        return classify.too_big(host, size, size_limit)
    eight_bit = not content.is_ascii(load.content)
    said = load.parameters
    if not said and not eight_bit:
        return b""
    parameters = []
    if eight_bit or (parameter(said, b"BODY") or b"").upper() == b"8BITMIME":
        if "8BITMIME" in extensions:
            parameters.append(b"BODY=8BITMIME")
        elif eight_bit:
            return classify.no_8bitmime(host)
    if parameter(said, b"SMTPUTF8") is not None:
        if "SMTPUTF8" in extensions:
            parameters.append(b"SMTPUTF8")
        elif not load.sender.isascii():
            return classify.no_smtputf8(host, address=True)
        elif eight_bit and not content.header(load.content).isascii():
            return classify.no_smtputf8(host, address=False)
        # A declaration alone, on mail that is ASCII where it counts, needs nothing of the peer.
    if parameter(said, b"REQUIRETLS") is not None:
        parameters.append(b"REQUIRETLS")
    for extension, keyword in _PASSED:
        if extension in extensions and (value := parameter(said, keyword)) is not None:
            parameters.append(b"%b=%b" % (keyword, value))
    return b" ".join(parameters)


def _addressed(recipients: Sequence[Recipient], extensions: Collection[str]) -> Sequence[Recipient]:
    """Return recipients with the parameters a peer understands; the same sequence where those are all."""
    if not any(recipient.parameters for recipient in recipients):
        return recipients
    if "DSN" not in extensions:
        return [Recipient(recipient.address) for recipient in recipients]
    if "SMTPUTF8" in extensions:
        return recipients
    return [
        recipient
        if recipient.parameters.isascii()
        else Recipient(recipient.address, xtext.embed(recipient.parameters))
        for recipient in recipients
    ]
