"""What a request says: its shape, and what its parts must keep between them. Pure.

The shape is judged first, then every value; all mistakes of a stage are told together, each with its
path. What comes out (`Order`) is right: addresses are octets of RCPT's grammar, and what stands in
a header is one line.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from backstamp.inject import mailbox, media, substitute
from backstamp.inject.body import Attachment, Body, EnvelopeSaid, Person
from backstamp.inject.mailbox import Mailbox
from backstamp.inject.order import Letter, Order
from backstamp.inject.shape import Mistake, MistakenError, decode, joined
from backstamp.inject.wishes import Wishes, parameters
from backstamp.mail.envelope import same

_FIELD: Final = re.compile(r"[!-9;-~]{1,76}")
_CONTENT_ID: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,250}")
_OWN: Final = {
    "from": "from",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "subject": "subject",
    "backstamp-tenant": "tenant",
    "backstamp-idempotency-key": "the request header Idempotency-Key",
}
"""Header fields that are said elsewhere."""

_WRITTEN: Final = (
    "sender",
    "to",
    "cc",
    "bcc",
    "reply_to",
    "subject",
    "text",
    "html",
    "headers",
    "attachments",
)
"""Fields of a body that a message is written from."""

_REFUSED: Final = frozenset({"received", "return-path", "resent-bcc", "mime-version"})

V = TypeVar("V")


def read(body: bytes, wishes: Wishes) -> Order:
    """Return what a body of JSON orders.

    Raises:
        MistakenError: what is wrong with it.
    """
    return order(decode(body, Body), wishes)


def order(body: Body, wishes: Wishes) -> Order:
    """Return what a body orders that has the right shape.

    Raises:
        MistakenError: what is wrong with it.
    """
    return _Reader(body, wishes).order()


class _Reader:
    """One body, and the mistakes in it."""

    def __init__(self, body: Body, wishes: Wishes) -> None:
        self._body = body
        self._wishes = wishes
        self._mistakes: list[Mistake] = []

    def order(self) -> Order:
        body = self._body
        said = body.envelope or EnvelopeSaid()
        kept = self._value("", lambda: parameters(self._wishes, body.tenant, body.priority)) or b""
        notify = self._notify()
        letter = self._raw(body.raw) if body.raw is not None else self._letter()
        sender = b""
        if said.sender is not None:
            text = said.sender
            sender = self._value("envelope.sender", lambda: mailbox.address(text, null=True)) or b""
        elif isinstance(letter, Letter):
            sender = letter.sender.address
        persons = None if body.recipients is None else self._persons(body.recipients)
        whom = self._whom(said, letter)
        if self._mistakes:
            raise MistakenError(self._mistakes)
        assert letter is not None
        return Order(sender, kept, notify, letter, whom, persons)

    # ---- who ----

    def _whom(self, said: EnvelopeSaid, letter: Letter | bytes | None) -> tuple[bytes, ...]:
        """Return the recipients of the one message; nobody if there is one message for each."""
        body = self._body
        if body.recipients is not None:
            for name, there in (
                ("to", body.to),
                ("cc", body.cc),
                ("bcc", body.bcc),
                ("raw", body.raw),
                ("envelope.recipients", said.recipients),
            ):
                if there:
                    self._wrong(name, "does not go with recipients, each of whom gets a message of their own")
            return ()
        bcc = self._mailboxes("bcc", body.bcc)
        if said.recipients is not None:
            place = "envelope.recipients"
            found = self._each(place, said.recipients, mailbox.address)
            count = len(said.recipients)
            if bcc:
                self._wrong("bcc", "does not go with envelope.recipients, which name all who get the message")
        else:
            place = "to" if body.raw is None else "envelope.recipients"
            found = [one.address for one in bcc]
            if isinstance(letter, Letter):
                found = [*(one.address for one in (*letter.to, *letter.cc)), *found]
            count = len(body.to) + len(body.cc) + len(body.bcc)
        self._counted(place, count)
        distinct: dict[bytes, bytes] = {}
        for one in found:
            distinct.setdefault(same(one), one)
        return (*distinct.values(),)

    def _persons(self, persons: Sequence[Person]) -> tuple[tuple[Mailbox, dict[str, str]], ...]:
        body = self._body
        self._counted("recipients", len(persons))
        header = substitute.names(body.subject, *body.headers.values())
        wanted = header | substitute.names(body.text, body.html)
        found: list[tuple[Mailbox, dict[str, str]]] = []
        for index, person in enumerate(persons[: self._wishes.recipients]):
            path = f"recipients[{index}]"
            whom = self._value(f"{path}.address", lambda one=person: mailbox.mailbox(one.address))  # type: ignore[misc]
            place = f"{path}.substitutions"
            for name in sorted(wanted - person.substitutions.keys()):
                self._wrong(place, f"has no {name}, which {self._where(name)} asks for")
            for name, value in person.substitutions.items():
                if substitute.NAME.fullmatch(name) is None:
                    self._wrong(joined(place, name), "is no name; letters, digits, dots, - and _ are")
                elif name in header:
                    self._value(joined(place, name), lambda text=value: mailbox.one_line(text))  # type: ignore[misc]
            found.append((whom or Mailbox(b""), person.substitutions))
        if not self._mistakes:
            self._fitting(found)
        return tuple(found)

    def _fitting(self, persons: Sequence[tuple[Mailbox, dict[str, str]]]) -> None:
        """Check header values once more, filled in: words that are fine alone may be too long together."""
        body = self._body
        for path, name, template in (
            ("subject", "subject", body.subject or ""),
            *((joined("headers", name), name, value) for name, value in body.headers.items()),
        ):
            if substitute.names(template):
                for index, (_, values) in enumerate(persons):
                    try:
                        mailbox.value(name, substitute.fill(template, values))
                    except ValueError as error:
                        self._wrong(path, f"{error} (for recipients[{index}])")

    def _where(self, name: str) -> str:
        """Return where a placeholder stands."""
        body = self._body
        places: list[tuple[str, str | None]] = [("subject", body.subject), ("text", body.text)]
        places += [("html", body.html)]
        places += [(joined("headers", field), value) for field, value in body.headers.items()]
        return next(path for path, text in places if name in substitute.names(text))

    def _counted(self, path: str, count: int) -> None:
        if not count:
            self._wrong(path, "names nobody")
        elif count > self._wishes.recipients:
            self._wrong(path, f"names {count}; at most {self._wishes.recipients} are taken in a request")

    # ---- what ----

    def _raw(self, raw: bytes) -> bytes:
        body = self._body
        for name in _WRITTEN:
            if getattr(body, name) not in (None, (), {}):
                path = "from" if name == "sender" else name
                self._wrong(path, "does not go with raw, which is a whole message")
        if body.envelope is None or body.envelope.sender is None:
            self._wrong("envelope.sender", "is missing; raw goes with an envelope")
        return raw

    def _letter(self) -> Letter | None:
        body = self._body
        sender = None
        if body.sender is None:
            self._wrong("from", "is missing")
        else:
            text = body.sender
            sender = self._value("from", lambda: mailbox.mailbox(text))
        if body.text is None and body.html is None:
            self._wrong("text", "is missing; a message has text or html or both")
        for path, content in (("text", body.text), ("html", body.html)):
            if content is not None and "\0" in content:
                self._wrong(path, "has a NUL")
        if body.subject is not None:
            subject = body.subject
            self._value("subject", lambda: mailbox.one_line(subject))
        self._headers()
        for index, one in enumerate(body.attachments):
            self._attachment(f"attachments[{index}]", one)
        reply_to = (body.reply_to,) if isinstance(body.reply_to, str) else body.reply_to
        to, cc = self._mailboxes("to", body.to), self._mailboxes("cc", body.cc)
        answers = self._mailboxes("reply_to", reply_to)
        if sender is None:
            return None
        return Letter(
            sender, to, cc, answers, body.subject, body.text, body.html, body.headers, body.attachments
        )

    def _headers(self) -> None:
        seen: set[str] = set()
        for name, value in self._body.headers.items():
            path, lower = joined("headers", name), name.lower()
            if _FIELD.fullmatch(name) is None:
                self._wrong(path, "is no name of a header field")
            elif lower in _OWN:
                self._wrong(path, f"is said by {_OWN[lower]}")
            elif lower in _REFUSED or lower.startswith("content-"):
                self._wrong(path, "is not a client's to say")
            elif lower in seen:
                self._wrong(path, "is given twice, in other letters")
            seen.add(lower)
            self._value(path, lambda name=name, text=value: mailbox.value(name, text))  # type: ignore[misc]

    def _attachment(self, path: str, one: Attachment) -> None:
        kind = self._value(f"{path}.content_type", lambda: media.parse(one.content_type))
        if kind is not None and kind.main in {"multipart", "message"}:
            self._wrong(f"{path}.content_type", "cannot be attached; send it as application/octet-stream")
        if len(one.filename) > 200:
            self._wrong(f"{path}.filename", "has more than 200 characters")
        self._value(f"{path}.filename", lambda: mailbox.one_line(one.filename))
        if one.content_id is not None and _CONTENT_ID.fullmatch(one.content_id) is None:
            self._wrong(f"{path}.content_id", "is not letters, digits and marks, without < and >")
        if one.inline and (one.content_id is None or self._body.html is None):
            self._wrong(f"{path}.inline", "is for a part of the html, and needs html and a content_id")

    def _notify(self) -> bytes:
        """Return the parameter NOTIFY (RFC 3461 §4.1), empty where nothing is said."""
        said = self._body.notify
        if said is None:
            return b""
        if said == "never":
            return b"NOTIFY=NEVER"
        if not said or len(set(said)) < len(said):
            self._wrong("notify", "is never, or some of success, failure and delay, each once")
        return b"NOTIFY=" + ",".join(said).upper().encode("ascii")

    # ---- mistakes ----

    def _mailboxes(self, path: str, said: Sequence[str]) -> tuple[Mailbox, ...]:
        return tuple(self._each(path, said, mailbox.mailbox))

    def _each(self, path: str, said: Sequence[str], parse: Callable[[str], V]) -> list[V]:
        found = [
            self._value(f"{path}[{index}]", lambda text=text: parse(text))  # type: ignore[misc]
            for index, text in enumerate(said[: self._wishes.recipients])
        ]
        return [one for one in found if one is not None]

    def _value(self, path: str, parse: Callable[[], V]) -> V | None:
        try:
            return parse()
        except MistakenError as error:
            self._mistakes += error.mistakes
        except ValueError as error:
            self._wrong(path, str(error))
        return None

    def _wrong(self, path: str, problem: str) -> None:
        self._mistakes.append(Mistake(path, problem))
