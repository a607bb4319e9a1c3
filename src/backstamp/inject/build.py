"""A message from what a request says of it: header, MIME parts, octets with CRLF (RFC 5322, RFC 2045). Pure.

The header fields are made by `mailbox`, the parts by the standard library. All of it is ASCII, lines
of at most 998 octets, so that any host takes it; only an address beyond ASCII makes a header of UTF-8
(RFC 6532). Bcc stands nowhere. Date and Message-ID are added by the intake, as for SMTP submission.
"""

from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final

from backstamp.inject import mailbox, media
from backstamp.inject.body import Attachment
from backstamp.inject.order import Item, Letter, Order
from backstamp.mail.envelope import Envelope, Recipient, ordered
from backstamp.mail.headers import separator

_POLICY: Final = SMTP.clone(cte_type="7bit")


def content(letter: Letter, boundary: str) -> bytes:
    """Return the content of a letter; `boundary` is a word nobody can foresee, of letters and digits."""
    fields = [
        mailbox.people("From", (letter.sender,)),
        mailbox.people("Reply-To", letter.reply_to),
        mailbox.people("To", letter.to),
        mailbox.people("Cc", letter.cc),
    ]
    if letter.subject is not None:
        fields.append(mailbox.field("Subject", letter.subject))
    fields += [mailbox.said(name, value) for name, value in letter.headers.items()]
    return b"".join(fields) + _parts(letter, boundary).as_bytes()


def envelope(order: Order, item: Item, written: bytes) -> Envelope:
    """Return the envelope of a content: SMTPUTF8 where an address needs it, 8BITMIME where an octet does."""
    kept = [order.parameters] if order.parameters else []
    if not written.isascii():
        kept.append(b"BODY=8BITMIME")
    addresses = [order.sender, *item.recipients]
    if isinstance(item.letter, Letter):
        letter = item.letter
        addresses += [one.address for one in (letter.sender, *letter.to, *letter.cc, *letter.reply_to)]
    if not all(one.isascii() for one in addresses):
        kept.append(b"SMTPUTF8")
    whom = ordered([Recipient(one, order.notify) for one in item.recipients])
    return Envelope(order.sender, whom, b" ".join(kept))


def keyed(written: bytes, key: str) -> bytes:
    """Return a content that says its idempotency key, in the field that the intake takes out again."""
    # A content without a header must not become part of ours.
    return f"Backstamp-Idempotency-Key: {key}\r\n".encode("ascii") + separator(written) + written


def _parts(letter: Letter, boundary: str) -> EmailMessage:
    message = EmailMessage(_POLICY)
    html: EmailMessage | None = None
    if letter.text is not None:
        message.set_content(letter.text)
    if letter.html is not None:
        if letter.text is None:
            message.set_content(letter.html, subtype="html")
            html = message
        else:
            message.add_alternative(letter.html, subtype="html")
            html = message.get_payload(1)  # type: ignore[assignment]  # a part, as it is multipart
    for one in letter.attachments:
        if one.inline and html is not None:
            html.add_related(one.content, **_how(one, "inline"))
    for one in letter.attachments:
        if not one.inline:
            message.add_attachment(one.content, **_how(one, "attachment"))
    number = 0
    for part in message.walk():
        if part.is_multipart():
            # Neither quoted-printable nor base64 can contain `=_`.
            part.set_boundary(f"=_{boundary}_{number}")
            number += 1
    return message


def _how(one: Attachment, disposition: str) -> dict[str, Any]:
    kind = media.parse(one.content_type)
    how = {"maintype": kind.main, "subtype": kind.sub, "disposition": disposition, "params": kind.parameters}
    if one.filename:
        how["filename"] = one.filename
    if one.content_id is not None:
        how["cid"] = f"<{one.content_id}>"
    return how
