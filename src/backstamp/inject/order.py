"""What was ordered, once it is known to be right: one message, or one for each of many. Pure."""

from collections.abc import Iterator

import msgspec

from backstamp.inject import substitute
from backstamp.inject.body import Attachment
from backstamp.inject.mailbox import Mailbox


class Letter(msgspec.Struct, frozen=True):
    """A message to be built."""

    sender: Mailbox
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    reply_to: tuple[Mailbox, ...]
    subject: str | None
    text: str | None
    html: str | None
    headers: dict[str, str]
    attachments: tuple[Attachment, ...]


class Order(msgspec.Struct, frozen=True):
    """What is to be sent: one message to `recipients`, or one to each of `persons`, filled in."""

    sender: bytes
    parameters: bytes
    notify: bytes
    letter: Letter | bytes
    recipients: tuple[bytes, ...] = ()
    persons: tuple[tuple[Mailbox, dict[str, str]], ...] | None = None


class Item(msgspec.Struct, frozen=True):
    """One message of an order."""

    recipients: tuple[bytes, ...]
    letter: Letter | bytes


def items(order: Order) -> Iterator[Item]:
    """Yield the messages of an order, in its order."""
    if order.persons is None:
        yield Item(order.recipients, order.letter)
        return
    assert isinstance(order.letter, Letter)
    for person, values in order.persons:
        yield Item((person.address,), _filled(order.letter, person, values))


def _filled(letter: Letter, person: Mailbox, values: dict[str, str]) -> Letter:
    def text(template: str | None) -> str | None:
        return None if template is None else substitute.fill(template, values)

    return msgspec.structs.replace(
        letter,
        to=(person,),
        subject=text(letter.subject),
        text=text(letter.text),
        html=None if letter.html is None else substitute.fill_html(letter.html, values),
        headers={name: substitute.fill(value, values) for name, value in letter.headers.items()},
    )
