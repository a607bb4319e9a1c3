"""The shape of a request's JSON: every key and its type. What they mean together is `request`'s. Pure."""

from typing import Literal

import msgspec

Notify = Literal["never"] | tuple[Literal["success", "failure", "delay"], ...]


class Attachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that goes with a message; with `inline` it is part of the HTML, which names `content_id`."""

    content: bytes
    filename: str = ""
    content_type: str = "application/octet-stream"
    content_id: str | None = None
    inline: bool = False


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who gets a message of their own, and what its placeholders become."""

    address: str
    substitutions: dict[str, str] = {}


class EnvelopeSaid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The SMTP envelope, where the header is not to tell it."""

    sender: str | None = None
    recipients: tuple[str, ...] | None = None


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request's JSON."""

    sender: str | None = msgspec.field(default=None, name="from")
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | tuple[str, ...] = ()
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = {}
    attachments: tuple[Attachment, ...] = ()
    envelope: EnvelopeSaid | None = None
    recipients: tuple[Person, ...] | None = None
    raw: bytes | None = None
    tenant: str | None = None
    priority: int | None = None
    notify: Notify | None = None
