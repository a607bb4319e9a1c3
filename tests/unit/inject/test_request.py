"""What a request says: any JSON is an order, or named mistakes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from yarl import URL

from backstamp.inject import order as orders
from backstamp.inject import query, request
from backstamp.inject.mailbox import Mailbox
from backstamp.inject.order import Order
from backstamp.inject.shape import MISTAKES, MistakenError
from backstamp.inject.wishes import Wishes

MINIMAL = {"from": "a@x.example", "to": ["b@y.example"], "text": "hello"}
EACH = {
    "from": "a@x.example",
    "subject": "Hello {{name}}",
    "text": "Dear {{name}}",
    "html": "<p title='{{ name }}'>{{ name }}</p>",
    "headers": {"X-Of": "{{ number }}"},
    "recipients": [
        {"address": "One <one@y.example>", "substitutions": {"name": "<b>'1'</b>", "number": "1"}},
        {"address": "two@y.example", "substitutions": {"name": "{{number}}", "number": "2"}},
    ],
}


def read(body: object, **wishes: Any) -> Order:
    return request.read(json.dumps(body).encode(), Wishes(**wishes))


def wrong(body: object, **wishes: Any) -> dict[str, str]:
    with pytest.raises(MistakenError) as caught:
        read(body, **wishes)
    return {one.path: one.problem for one in caught.value.mistakes}


def test_of_a_key_given_twice_the_last_counts() -> None:
    """docs/http.md says so."""
    body = b'{"from": "a@x.example", "to": ["no"], "to": ["b@y.example"], "text": ""}'
    assert request.read(body, Wishes()).recipients == (b"b@y.example",)


def test_one_message_to_everybody_named() -> None:
    order = read(
        {
            **MINIMAL,
            "cc": ["C <c@bücher.example>"],
            "bcc": ["d@y.example", "b@y.example"],
            "priority": 9,
            "notify": ["failure", "delay"],
        },
        tenant="shop",
        priority_limit=4,
    )
    assert order.sender == b"a@x.example"
    assert order.recipients == (b"b@y.example", b"c@xn--bcher-kva.example", b"d@y.example")
    assert order.parameters == b"TENANT=shop MT-PRIORITY=4"
    assert order.notify == b"NOTIFY=FAILURE,DELAY"
    assert read({**MINIMAL, "notify": "never"}).notify == b"NOTIFY=NEVER"
    assert read(MINIMAL, priority=2).parameters == b"MT-PRIORITY=2"
    assert read({**MINIMAL, "tenant": "mine"}).parameters == b"TENANT=mine"


def test_the_envelope_has_precedence_over_the_header() -> None:
    order = read({**MINIMAL, "envelope": {"sender": "", "recipients": ["z@y.example"]}})
    assert (order.sender, order.recipients) == (b"", (b"z@y.example",))
    assert read({**MINIMAL, "envelope": {}}).recipients == (b"b@y.example",)


def test_raw_is_taken_as_it_is() -> None:
    order = read({"raw": "QQ0K", "envelope": {"sender": "a@x.example", "recipients": ["b@y.example"]}})
    assert order.letter == b"A\r\n"
    assert [item.letter for item in orders.items(order)] == [b"A\r\n"]


def test_one_message_for_each() -> None:
    one, two = orders.items(read(EACH))
    assert (one.recipients, two.recipients) == ((b"one@y.example",), (b"two@y.example",))
    first, second = one.letter, two.letter
    assert not isinstance(first, bytes)
    assert not isinstance(second, bytes)
    assert first.to == (Mailbox(b"one@y.example", "One"),)
    assert (first.subject, first.text) == ("Hello <b>'1'</b>", "Dear <b>'1'</b>")
    escaped = "&lt;b&gt;&#x27;1&#x27;&lt;/b&gt;"
    assert first.html == f"<p title='{escaped}'>{escaped}</p>"
    assert second.text == "Dear {{number}}", "a value is not looked at again"
    assert second.headers == {"X-Of": "2"}


def test_placeholders_mean_nothing_where_everybody_gets_the_same() -> None:
    [item] = orders.items(read({**MINIMAL, "text": "{{name}}"}))
    assert not isinstance(item.letter, bytes)
    assert item.letter.text == "{{name}}"


def test_an_unknown_placeholder_is_named() -> None:
    people = [{"address": "one@y.example"}, {"address": "two@y.example", "substitutions": {"name": "x"}}]
    assert wrong({"from": "a@x.example", "text": "", "html": "{{name}}{{no}}", "recipients": people}) == {
        "recipients[0].substitutions": "has no no, which html asks for",
        "recipients[1].substitutions": "has no no, which html asks for",
    }


@pytest.mark.parametrize(
    "value",
    ["a\r\nBcc: x@y.example", "a\nb", "a\rb", "a\0", "a\x85b", "a\u2028b", "x" * 901, "x" * 901 + "\u2003"],
)
def test_a_value_cannot_smuggle_a_line_into_a_header(value: str) -> None:
    """Security 4: what a client says stays inside the field it stands in."""
    people = [{"address": "one@y.example", "substitutions": {"name": value, "number": "1"}}]
    assert list(wrong({**EACH, "recipients": people})) == ["recipients[0].substitutions.name"]
    assert list(wrong({**MINIMAL, "subject": value})) == ["subject"]
    assert list(wrong({**MINIMAL, "headers": {"X-A": value}})) == ["headers.X-A"]
    name = f'"{value}" <b@y.example>'
    assert list(wrong({**MINIMAL, "to": [name]})) == ["to[0]"]
    attachment = {"content": "", "filename": value}
    assert list(wrong({**MINIMAL, "attachments": [attachment]})) == ["attachments[0].filename"]


@pytest.mark.parametrize(
    "value", ["J\u00f6rg", "J\u00f6rg <a@x.example>, b@x.example", "j\u00f6rg@x.example"]
)
def test_what_is_beyond_ascii_among_addresses_is_one_mailbox(value: str) -> None:
    assert list(wrong({**MINIMAL, "headers": {"Sender": value}})) == ["headers.Sender"]
    people = [{"address": "one@y.example", "substitutions": {"who": value}}]
    each = {"from": "a@x.example", "text": "", "headers": {"Sender": "{{who}}"}, "recipients": people}
    assert list(wrong(each)) == ["headers.Sender"]
    read({**MINIMAL, "headers": {"Sender": "J\u00f6rg <a@x.example>", "X-Any": value}})


def test_words_that_are_too_long_only_together() -> None:
    people = [{"address": "one@y.example", "substitutions": {"a": "x" * 500}}]
    found = wrong({"from": "a@x.example", "text": "", "subject": "{{a}}{{a}}", "recipients": people})
    assert list(found) == ["subject"]
    assert found["subject"].endswith("(for recipients[0])")


def test_a_value_of_the_text_may_have_lines() -> None:
    people = [{"address": "one@y.example", "substitutions": {"name": "a\r\nb"}}]
    [item] = orders.items(read({"from": "a@x.example", "text": "{{name}}", "recipients": people}))
    assert not isinstance(item.letter, bytes)
    assert item.letter.text == "a\r\nb"


def test_everything_wrong_is_told_at_once() -> None:
    assert wrong(
        {
            "from": "a",
            "to": ["b@y.example", "<c@y.example> x", "@", 1],
            "subjekt": "",
            "attachments": [{"content": "!"}, {}, 3],
            "recipients": [{"address": 1, "u": 2, "substitutions": {"a b": 3}}],
            "reply_to": [1],
            "notify": ["sometimes"],
            "envelope": {"sender": 1},
        }
    ) == {
        "to[3]": "expected `str`, got `int`",
        "subjekt": "is not known",
        "attachments[0].content": "invalid base64 encoded string",
        "attachments[1].content": "is missing",
        "attachments[2]": "expected `object`, got `int`",
        "recipients[0].address": "expected `str`, got `int`",
        "recipients[0].u": "is not known",
        'recipients[0].substitutions["a b"]': "expected `str`, got `int`",
        "reply_to[0]": "expected `str`, got `int`",
        "notify[0]": "invalid enum value 'sometimes'",
        "envelope.sender": "expected `str | null`, got `int`",
    }
    assert wrong(
        {
            "from": "a",
            "to": ["b@y.example", "<c@y.example> x", "@", "x@y.example, z@y.example"],
            "html": "\0",
            "headers": {"Bcc": "", "A b": "", "Content-Type": "", "X-A": "", "x-a": "", "Received": ""},
            "attachments": [
                {"content": "", "content_type": "pdf", "content_id": "<>", "filename": "x" * 201},
                {"content": "", "content_type": "message/rfc822", "inline": True},
            ],
            "notify": [],
            "tenant": "a b",
            "priority": 10,
        }
    ).keys() == {
        "from",
        "to[1]",
        "to[2]",
        "to[3]",
        "html",
        "headers.Bcc",
        'headers["A b"]',
        "headers.Content-Type",
        "headers.x-a",
        "headers.Received",
        "attachments[0].content_type",
        "attachments[0].content_id",
        "attachments[0].filename",
        "attachments[1].content_type",
        "attachments[1].inline",
        "notify",
        "tenant",
        "priority",
    }


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, {"from", "text", "to"}),
        ({**MINIMAL, "to": []}, {"to"}),
        ({**MINIMAL, "to": ["b@y.example"] * 4}, {"to"}),
        ({**MINIMAL, "envelope": {"recipients": []}}, {"envelope.recipients"}),
        (
            {**MINIMAL, "envelope": {"sender": "x", "recipients": ["y"]}},
            {"envelope.sender", "envelope.recipients[0]"},
        ),
        (
            {**MINIMAL, "bcc": ["z@y.example"], "envelope": {"recipients": ["b@y.example"]}},
            {"bcc"},
        ),
        ({**MINIMAL, "raw": ""}, {"from", "to", "text", "envelope.sender"}),
        ({"raw": "", "envelope": {"sender": ""}}, {"envelope.recipients"}),
        ({**EACH, "recipients": []}, {"recipients"}),
        (
            {**EACH, "to": ["b@y.example"], "raw": "QQ=="},
            {"to", "raw", "from", "subject", "text", "html", "headers", "envelope.sender"},
        ),
        ({**MINIMAL, "tenant": "other", "to": ["b@y.example"]}, {"tenant"}),
        (
            {
                **EACH,
                "recipients": [
                    {"address": "a@y.example", "substitutions": {"name": "", "number": "", "a b": ""}}
                ],
            },
            {'recipients[0].substitutions["a b"]'},
        ),
        ({**MINIMAL, "to": ['"' + "x " * 300 + '" <b@y.example>']}, {"to[0]"}),
    ],
)
def test_what_does_not_go_together(body: object, paths: set[str]) -> None:
    assert wrong(body, recipients=3, tenant_named=False).keys() == paths


@pytest.mark.parametrize(
    "text", ["b@y.example> X", "=?x?q?y?=@y.example", "b@1.2.3.4", "N <b@y.example> <c@y>"]
)
def test_what_is_no_address(text: str) -> None:
    """Security 4: an address is what RCPT would take, and nothing beside it."""
    assert list(wrong({**MINIMAL, "to": [text]})) == ["to[0]"]
    assert list(wrong({**MINIMAL, "envelope": {"recipients": [text]}})) == ["envelope.recipients[0]"]
    assert list(wrong({**MINIMAL, "envelope": {"sender": text}})) == ["envelope.sender"]


def test_mistakes_beyond_count_are_left_out() -> None:
    with pytest.raises(MistakenError) as caught:
        read({**MINIMAL, "to": [1] * 1000})
    assert len(caught.value.mistakes) == MISTAKES
    with pytest.raises(MistakenError) as caught:
        read({**MINIMAL, "to": [""] * 1000})
    assert len(caught.value.mistakes) == MISTAKES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{",
        b"\xff",
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"from": NaN}',
    ],
)
def test_what_is_no_json_object_is_told_so(body: bytes) -> None:
    with pytest.raises(MistakenError) as caught:
        request.read(body, Wishes())
    assert str(caught.value).startswith(("body: ", "from: "))


KEYS = st.sampled_from(
    [
        "from",
        "to",
        "cc",
        "bcc",
        "reply_to",
        "subject",
        "text",
        "html",
        "headers",
        "attachments",
        "envelope",
        "recipients",
        "raw",
        "tenant",
        "priority",
        "notify",
        "sender",
        "address",
        "substitutions",
        "content",
        "filename",
        "inline",
        "content_id",
        "X-A",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["a@x.example", "N <b@y.example>", "never", "failure", "QQ==", "{{a}}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


@given(VALUES)
def test_any_json_is_an_order_or_named_mistakes(value: object) -> None:
    try:
        order = read(value)
    except MistakenError as error:
        assert 1 <= len(error.mistakes) <= MISTAKES
        assert all(one.problem for one in error.mistakes)
    else:
        assert all(item.recipients for item in orders.items(order))


@given(st.binary(max_size=60))
def test_so_are_any_octets(body: bytes) -> None:
    with pytest.raises(MistakenError):
        request.read(body, Wishes())


def test_a_query_is_an_envelope() -> None:
    said = MultiDict(
        [
            ("from", ""),
            ("to", "a@y.example"),
            ("to", "b@y.example"),
            ("notify", "success,failure"),
            ("priority", "-3"),
        ]
    )
    order = query.read(said, b"raw", Wishes(tenant="t"))
    assert (order.sender, order.recipients, order.letter) == (b"", (b"a@y.example", b"b@y.example"), b"raw")
    assert (order.parameters, order.notify) == (b"TENANT=t MT-PRIORITY=-3", b"NOTIFY=SUCCESS,FAILURE")
    said = MultiDict([("from", "a@x.example"), ("to", "a@y.example"), ("notify", "never"), ("tenant", "o")])
    assert query.read(said, b"", Wishes()).notify == b"NOTIFY=NEVER"


@pytest.mark.parametrize(
    ("said", "paths"),
    [
        ("", {"from"}),
        ("from=a@x.example", {"to"}),
        ("from=a@x.example&from=&bcc=x&tenant=a&tenant=b", {"from", "bcc", "tenant"}),
        ("from=a&to=b&to=c@y.example", {"from", "to[0]"}),
        ("from=&to=b@y.example&priority=high", {"priority"}),
        ("from=&to=b@y.example&notify=now", {"notify"}),
        ("from=&to=b@y.example&to=%ffb@y.example", {"to"}),
        ("from=%c3@y.example&to=b@y.example", {"from"}),
        ("from=&to=b@y.example&tenant=a%20b&priority=1", {"tenant"}),
    ],
)
def test_what_is_wrong_with_a_query_is_named(said: str, paths: set[str]) -> None:
    with pytest.raises(MistakenError) as caught:
        query.read(URL(f"http://relay.example/?{said}").query, b"", Wishes())
    assert {one.path for one in caught.value.mistakes} == paths
