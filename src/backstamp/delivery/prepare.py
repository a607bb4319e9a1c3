"""What a message becomes for one peer: MAIL parameters, or the reason it cannot go there. Pure.

Mail is never changed on the way: what a peer does not take is not converted but refused,
with the status RFC 6152 §3, RFC 1870 §6.1 and RFC 6531 §3.5 ask for.
"""

from collections.abc import Collection, Mapping

from backstamp.mail import content
from backstamp.mail.envelope import Recipient, parameter
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify
from backstamp.queue.port import Load


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


def mail_parameters(
    load: Load, *, host: str, extensions: Collection[str], size_limit: int | None
) -> bytes | Outcome:
    """Return the MAIL parameters for a peer, or why it cannot have the mail. The client adds SIZE.

    `extensions` are the peer's EHLO keywords in upper case; `size_limit` is None where it named none.
    """
    if size_limit and (size := content.size(load.content)) > size_limit:
        return classify.too_big(host, size, size_limit)
    parameters = []
    eight_bit = not content.is_ascii(load.content)
    if eight_bit or (parameter(load.parameters, b"BODY") or b"").upper() == b"8BITMIME":
        if "8BITMIME" in extensions:
            parameters.append(b"BODY=8BITMIME")
        elif eight_bit:
            return classify.no_8bitmime(host)
    if parameter(load.parameters, b"SMTPUTF8") is not None:
        if "SMTPUTF8" in extensions:
            parameters.append(b"SMTPUTF8")
        elif not load.sender.isascii():
            return classify.no_smtputf8(host, address=True)
        elif eight_bit and not content.header(load.content).isascii():
            return classify.no_smtputf8(host, address=False)
        # A declaration alone, on mail that is ASCII where it counts, needs nothing of the peer.
    return b" ".join(parameters)
