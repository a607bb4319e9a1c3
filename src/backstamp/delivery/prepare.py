"""What a message becomes for one peer: MAIL parameters, or the reason it cannot go there. Pure.

Mail is never changed on the way: what a peer does not take is not converted but refused,
with the status RFC 6152 §3, RFC 1870 §6.1 and RFC 6531 §3.5 ask for.
"""

from collections.abc import Collection, Iterable

from backstamp.mail import headers
from backstamp.mail.envelope import parameter
from backstamp.mail.outcome import Outcome
from backstamp.policy import classify
from backstamp.queue.port import Load


def mail_parameters(
    load: Load, recipients: Iterable[bytes], *, host: str, extensions: Collection[str], size_limit: int | None
) -> bytes | Outcome:
    """Return the MAIL parameters for a peer, or why it cannot have the mail. The client adds SIZE.

    `extensions` are the peer's EHLO keywords in upper case; `size_limit` is None where it named none.
    """
    if size_limit and len(load.content) > size_limit:
        return classify.too_big(host, len(load.content), size_limit)
    parameters = []
    eight_bit = not load.content.isascii()
    if eight_bit or (parameter(load.parameters, b"BODY") or b"").upper() == b"8BITMIME":
        if "8BITMIME" in extensions:
            parameters.append(b"BODY=8BITMIME")
        elif eight_bit:
            return classify.no_8bitmime(host)
    if parameter(load.parameters, b"SMTPUTF8") is not None:
        if "SMTPUTF8" in extensions:
            parameters.append(b"SMTPUTF8")
        elif not (load.sender.isascii() and all(recipient.isascii() for recipient in recipients)):
            return classify.no_smtputf8(host, address=True)
        elif eight_bit and not headers.block(load.content).isascii():
            return classify.no_smtputf8(host, address=False)
        # A declaration alone, on mail that is ASCII where it counts, needs nothing of the peer.
    return b" ".join(parameters)
