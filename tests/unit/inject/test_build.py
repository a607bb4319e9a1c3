"""Mail that is built: clean lines, and read back as it was written."""

import email
import email.policy
import json
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.inject import build, mailbox, request
from backstamp.inject import order as orders
from backstamp.inject.mailbox import Mailbox
from backstamp.inject.wishes import Wishes
from backstamp.mail.envelope import Recipient
from backstamp.smtp.data import bare

BASE = {"from": "a@x.example", "to": ["b@y.example"], "text": "hello"}


def built(**changes: Any) -> tuple[bytes, EmailMessage]:
    order = request.read(json.dumps({**BASE, **changes}).encode(), Wishes())
    [item] = orders.items(order)
    assert not isinstance(item.letter, bytes)
    content = build.content(item.letter, "0f")
    assert bare(content) is None
    assert max(map(len, content.split(b"\r\n"))) <= 998
    return content, email.message_from_bytes(content, policy=email.policy.SMTP)


def lines(text: str) -> str:
    """Return a text as mail has it: lines ended by one sort of line end, the last one too."""
    normal = text.replace("\r\n", "\n").replace("\r", "\n")
    return normal if normal.endswith("\n") else normal + "\n"


def test_a_whole_message() -> None:
    content, message = built(
        **{
            "from": "Jörg <a@x.example>",
            "to": ['"Last, First" <b@y.example>', "c@y.example"],
            "cc": ["d@y.example"],
            "bcc": ["secret@y.example"],
            "reply_to": "r@x.example",
            "subject": "Grüße",
            "html": "<p>hé</p>",
            "headers": {"List-Unsubscribe": f"<https://x.example/{'u' * 200}>", "X-Name": "é"},
            "attachments": [
                {"filename": "ü.pdf", "content_type": "application/pdf", "content": "JVBERg=="},
                {"content_type": "image/png", "content": "iVBO", "content_id": "logo", "inline": True},
            ],
        }
    )
    assert content.isascii()
    assert b"secret" not in content
    assert str(message["From"]) == "Jörg <a@x.example>"
    assert str(message["To"]) == '"Last, First" <b@y.example>, c@y.example'
    assert (message["Cc"], message["Reply-To"]) == ("d@y.example", "r@x.example")
    assert (message["Subject"], message["X-Name"]) == ("Grüße", "é")
    assert f"List-Unsubscribe: <https://x.example/{'u' * 200}>\r\n".encode() in content
    assert message.get_content_type() == "multipart/mixed"
    text, html = message.get_body(("plain",)), message.get_body(("related", "html"))
    assert text is not None
    assert text.get_content() == "hello\r\n"
    assert html is not None
    page, logo = html.iter_parts()
    assert page.get_content().rstrip() == "<p>hé</p>"
    assert (logo["Content-ID"], logo.get_content(), logo.get_content_disposition()) == (
        "<logo>",
        b"\x89PN",
        "inline",
    )
    [paper] = message.iter_attachments()
    assert (paper.get_filename(), paper.get_content()) == ("ü.pdf", b"%PDF")
    boundaries = [part.get_boundary() for part in message.walk() if part.is_multipart()]
    assert boundaries == ["=_0f_0", "=_0f_1", "=_0f_2"]


def test_an_attachment_keeps_the_parameters_of_its_type() -> None:
    """RFC 6047 §2.4: an invitation is one by its method."""
    attachment = {"content": "QkVHSU4=", "content_type": "text/calendar; method=REQUEST; charset=utf-8"}
    content, _ = built(attachments=[attachment])
    part = email.message_from_bytes(content, policy=email.policy.SMTP).get_payload(1)
    assert part["Content-Type"].content_type == "text/calendar"
    assert dict(part["Content-Type"].params) == {"method": "REQUEST", "charset": "utf-8"}


def test_html_alone() -> None:
    _, message = built(
        text=None, html="<p>", attachments=[{"content": "", "content_id": "i", "inline": True}]
    )
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/related",
        "text/html",
        "application/octet-stream",
    ]
    _, message = built(text="", subject="")
    assert (message.get_content(), message["Subject"]) == ("\r\n", "")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.booleans())
def test_texts_come_back(text: str, both: bool) -> None:
    _, message = built(text=text, html=text) if both else built(text=text)
    for kind in ("plain", "html") if both else ("plain",):
        body = message.get_body((kind,))
        assert body is not None
        payload = body.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert lines(payload.decode()) == lines(text)


PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)


@given(PRINTABLE, st.sampled_from(["Subject", "X-Custom"]))
def test_header_values_come_back_in_their_one_field(value: str, name: str) -> None:
    """Security 4: nothing printable makes another field of a header."""
    changes = {"subject": value} if name == "Subject" else {"headers": {name: value}}
    content, _ = built(**changes)
    header = email.message_from_bytes(content)
    assert set(header.keys()) == {
        "From",
        "To",
        name,
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    }
    raw = str(header[name])
    decoded = str(email.header.make_header(email.header.decode_header(raw))) if "=?" in raw else raw
    if name == "Subject" or "=?" not in value:
        assert " ".join(decoded.split()) == " ".join(value.split())


@given(st.lists(PRINTABLE.map(lambda name: name.replace("\\", "").replace('"', "")), min_size=1, max_size=5))
def test_names_come_back(names: list[str]) -> None:
    people = [Mailbox(b"u%d@y.example" % index, name.strip()) for index, name in enumerate(names)]
    field = mailbox.people("To", people)
    assert field.isascii()
    assert field.endswith(b"\r\n")
    assert bare(field) is None
    assert max(map(len, field.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(field + b"\r\n")
    assert list(message.keys()) == ["To"]
    read = email.utils.getaddresses([message["To"]])
    assert [address for _, address in read] == [one.address.decode() for one in people]


@pytest.mark.parametrize("name", ["Sender", "disposition-notification-to"])
def test_an_address_is_in_no_encoded_word(name: str) -> None:
    """RFC 2047 §5: or nobody who reads it finds the address."""
    content, _ = built(headers={name: "J\u00f6rg, X <s@x.example>"})
    field = email.message_from_bytes(content)[name]
    assert field == "=?utf-8?q?J=C3=B6rg=2C_X?= <s@x.example>"
    content, _ = built(headers={name: "A <a@x.example>, b@x.example"})
    assert email.message_from_bytes(content)[name] == "A <a@x.example>, b@x.example"


def test_quotes_in_a_name() -> None:
    _, message = built(
        to=['"a \\"b\\" \\\\ c" <b@y.example>', "Dr. No <n@y.example>", "=?utf-8?q?x?= <m@y.example>"]
    )
    assert [one.display_name for one in message["To"].addresses] == ['a "b" \\ c', "Dr. No", "=?utf-8?q?x?="]
    assert str(built(subject="=?utf-8?q?x?=")[1]["Subject"]) == "=?utf-8?q?x?="


def test_an_address_beyond_ascii_makes_the_message_international() -> None:
    """RFC 6531: SMTPUTF8 is said where an address needs it, and nowhere else."""
    for changes, parameters in (
        ({"to": ["jörg@y.example"]}, b"BODY=8BITMIME SMTPUTF8"),
        ({"envelope": {"recipients": ["jörg@y.example"]}}, b"SMTPUTF8"),
        ({"to": ["Jörg <j@bücher.example>"], "subject": "ü", "text": "ü"}, b""),
        ({"priority": 1}, b"MT-PRIORITY=1"),
    ):
        order = request.read(json.dumps({**BASE, **changes}).encode(), Wishes())
        [item] = orders.items(order)
        assert not isinstance(item.letter, bytes)
        content = build.content(item.letter, "0")
        assert build.envelope(order, item, content).parameters == parameters


def test_the_envelope_of_a_raw_message() -> None:
    order = request.read(
        json.dumps(
            {
                "raw": "/w0K",
                "notify": "never",
                "envelope": {"sender": "", "recipients": ["b@z.example", "a@y.example"]},
            }
        ).encode(),
        Wishes(),
    )
    [item] = orders.items(order)
    assert isinstance(item.letter, bytes)
    envelope = build.envelope(order, item, item.letter)
    assert envelope.parameters == b"BODY=8BITMIME"
    assert envelope.recipients[0] == Recipient(b"a@y.example", b"NOTIFY=NEVER")


def test_a_key_stands_in_front() -> None:
    assert build.keyed(b"A: b\r\n\r\n", "k/1") == b"Backstamp-Idempotency-Key: k/1\r\nA: b\r\n\r\n"
    assert build.keyed(b"no header\r\n", "k") == b"Backstamp-Idempotency-Key: k\r\n\r\nno header\r\n"
