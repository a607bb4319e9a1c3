"""Names people write, as values; what they must not write, with the sentence they read."""

import pytest

from backstamp.config import names, words


@pytest.mark.parametrize(
    "text", ["a", "relay.example.org", "RELAY.Example.ORG", "xn--bcher-kva.example", "1.a"]
)
def test_domains(text):
    assert names.domain(text) == text.lower()


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a.org",
        "a-.org",
        "a_b.org",
        "a b",
        "192.0.2.1",
        "[::1]",
        "a" * 64,
        "a." * 127,
        5,
    ],
)
def test_bad_domains(value):
    with pytest.raises(ValueError, match=r"is not a domain name; write relay\.example\.org"):
        names.domain(value)


def test_a_domain_is_not_translated_to_a_labels():
    with pytest.raises(ValueError, match=r'"bücher.example" is not ASCII; write its A-labels \(xn--…\)'):
        names.domain("bücher.example")


@pytest.mark.parametrize("text", ["*", "*.example.org", "example.org", "*.Example.ORG"])
def test_matches(text):
    assert names.match(text) == text.lower()


@pytest.mark.parametrize("value", ["", "**", "*.", "a.*", "*example.org", "user@example.org", "*.*.org", 5])
def test_bad_matches(value):
    with pytest.raises(ValueError, match=r"is not a destination; write example.org, \*.example.org or \*"):
        names.match(value)


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ("<>", "<>"),
        ("Shop.Example", "shop.example"),
        ("*.Shop.example", "*.shop.example"),
        ("A.B+c@Shop.example", "a.b+c@shop.example"),
        ('"a b"@shop.example', '"a b"@shop.example'),
        ("jürgen@shop.example", "jürgen@shop.example"),
    ],
)
def test_senders(text, whose):
    assert names.sender(text) == whose


@pytest.mark.parametrize(
    "value",
    ["*", "", "@shop.example", "a@", "a@*.example", "a b@c.example", "a@b.example SIZE=1", 5, None,
     "a@[192.0.2.1]", "a@b@c.example",
     "a@bücher.example", "@a.example:b@c.example", "\ud800@b.example", "a>@b.example"],
)  # fmt: skip
def test_what_is_no_sender(value):
    with pytest.raises(ValueError) as raised:
        names.sender(value)
    wanted = "is not a sender; write shop.example, *.shop.example, a@b.example or <>"
    assert str(raised.value) == f"{words.shown(value)} {wanted}"


def test_names_of_mail_exchangers():
    assert names.below("MX.example.net") == "mx.example.net"
    assert names.below("*.Example.net") == "*.example.net"
    with pytest.raises(ValueError, match="covers every mail exchanger"):
        names.below("*")
    for value in ("192.0.2.1", "mx*.example.net", 5):
        with pytest.raises(ValueError, match="is not the name of a mail exchanger"):
            names.below(value)


def test_names_of_things():
    assert names.name("bulk-1.a_B") == "bulk-1.a_B"
    assert names.name_or_none("") == ""
    assert names.name_or_none("bulk") == "bulk"
    assert names.provider_name("*") == "*"
    assert names.provider_name("google") == "google"
    for value in ("", "*", "-a", "a b", "ü", "a" * 65, "a\n", 5):
        with pytest.raises(ValueError, match="is not a name; write letters, digits"):
            names.name(value)
