"""What is sent: messages whose octets a careless program would change."""

import msgspec

HEADER = (
    "From: Ann <{sender}>\r\nTo: <r@one.test>\r\nSubject: {subject}\r\n"
    "Date: Fri, 02 Jan 2026 10:00:00 +0000\r\nMessage-ID: <{name}@shop.test>\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
DOTS = ".\r\n..\r\n.hidden\r\n...\r\n\r\n.\r\n"
EIGHT_BIT = "Grüße aus Zürich, 日本語, € 5,– \r\n"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message and its envelope. `notify`, `ret` and `envid` are of RFC 3461, empty: not said."""

    sender: str = "ann@shop.test"
    recipients: tuple[str, ...] = ("r@one.test",)
    header: bytes
    """With its empty line."""
    body: bytes
    notify: str = ""
    ret: str = ""
    envid: str = ""

    @property
    def content(self) -> bytes:
        """All of it, as it goes over the wire but for doubled dots."""
        return self.header + self.body

    @property
    def utf8(self) -> bool:
        """Whether it needs SMTPUTF8."""
        return not (self.header.isascii() and self.sender.isascii() and "".join(self.recipients).isascii())


def letter(
    body: str = DOTS + EIGHT_BIT + DOTS, *, name: str = "one", subject: str = "hello", **fields: object
) -> Letter:
    """Return a letter, by default one of dots and 8-bit octets, the last line a dot."""
    sender = str(fields.get("sender", "ann@shop.test"))
    header = HEADER.format(sender=sender, subject=subject, name=name).encode()
    return msgspec.convert({"header": header, "body": body.encode(), **fields}, Letter)


def large(size: int) -> Letter:
    """Return a letter of about so many octets, dots at the beginnings of lines all through it."""
    line = f".{EIGHT_BIT}{'x' * 60}\r\n"
    return letter(line * (size // len(line.encode())), name="large")


def many(count: int) -> Letter:
    """Return a letter to so many recipients of three domains."""
    return letter(name="many", recipients=tuple(f"r{number}@d{number % 3}.test" for number in range(count)))
