"""AUTH without a server: which mechanism, and what is said."""

from base64 import b64decode, b64encode

import pytest

from backstamp.mail.reply import Reply
from backstamp.net.auth import CANCEL, Exchange, choose
from backstamp.policy.route import Credentials

ME = Credentials("me@example.org", "hunter two")


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (("LOGIN", "PLAIN"), "", "PLAIN"),
        (("CRAM-MD5", "LOGIN"), "", "LOGIN"),
        (("XOAUTH2",), "", None),
        (("XOAUTH2", "PLAIN"), "xoauth2", "XOAUTH2"),
        (("PLAIN", "LOGIN"), "LOGIN", "LOGIN"),
        (("PLAIN",), "LOGIN", None),
        (("CRAM-MD5",), "CRAM-MD5", None),
        ((), "", None),
    ],
)
def test_the_best_mechanism_offered_or_the_one_that_is_named(
    offered: tuple[str, ...], wanted: str, chosen: str | None
) -> None:
    assert choose(offered, Credentials("me", "secret", wanted)) == chosen


def test_plain() -> None:
    exchange = Exchange("PLAIN", ME)
    word, name, initial = exchange.first.split(b" ")
    assert (word, name) == (b"AUTH", b"PLAIN")
    assert b64decode(initial) == b"\0me@example.org\0hunter two"
    assert exchange.answers == (initial, CANCEL)


def test_login() -> None:
    exchange = Exchange("LOGIN", ME)
    assert exchange.first == b"AUTH LOGIN"
    assert exchange.answers == (b64encode(b"me@example.org"), b64encode(b"hunter two"), CANCEL)


def test_xoauth2() -> None:
    exchange = Exchange("XOAUTH2", ME)
    initial = exchange.first.removeprefix(b"AUTH XOAUTH2 ")
    assert b64decode(initial) == b"user=me@example.org\1auth=Bearer hunter two\1\1"
    assert exchange.answers == (b"", CANCEL)


def test_a_nul_would_say_something_else() -> None:
    with pytest.raises(ValueError, match="NUL in credentials") as caught:
        Exchange("PLAIN", Credentials("me", "hun\0ter"))
    assert "ter" not in str(caught.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
def test_no_secret_is_shown_though_the_server_repeats_it(mechanism: str) -> None:
    exchange = Exchange(mechanism, ME)
    said = b" ".join([exchange.first, *exchange.answers]).decode()
    shown = exchange.shown(Reply(500, f"5.5.1 what is {said}, {ME.secret}?"))
    assert shown.code == 500
    assert shown.text.startswith("5.5.1 what is AUTH ")
    for secret in (ME.secret, b64encode(ME.secret.encode()).decode(), exchange.first.decode()[11:]):
        assert not secret or secret not in shown.text
    assert exchange.shown(Reply(535, "5.7.8 no password")) == Reply(535, "5.7.8 no password")
    cut = f"500 {exchange.first.decode()[5:-6]}..."
    assert exchange.first.decode()[-14:-6] not in exchange.shown(Reply(500, cut)).text
    assert ME.secret not in repr(exchange) + repr(ME)
