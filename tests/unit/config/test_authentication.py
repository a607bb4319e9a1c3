"""`[auth]`, and the listeners that ask for it."""
# ruff: noqa: E501 - tables of whole messages read best with one message a line

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.config import ConfigurationError, Settings, authentication
from backstamp.config.load import parse
from backstamp.listener.settings import Auth, AuthSettings
from backstamp.policy.token import TokenEndpoint

HEAD = """\
hostname = "relay.example.org"
[queue]
directory = "queue"
[[listen]]
address = "127.0.0.1:2525"
"""
URL = "https://id.example.org/introspect"


def settings(text: str) -> Settings:
    return parse(f"{HEAD}{text}\n".encode(), "x.toml")


def problems(text: str, head: str = HEAD) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        parse(f"{head}{text}\n".encode(), "x.toml")
    return [str(problem).removeprefix("x.toml:") for problem in raised.value.problems]


def test_without_anything_nobody_is_asked() -> None:
    found = settings("")
    assert found.auth == AuthSettings()
    assert found.listeners[0].auth is Auth.OFF


def test_users_and_a_token_endpoint(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    found = settings(f"""\
auth = "required"
[auth]
users = "users"
token_endpoint = "{URL}"
token_client = "relay"
token_secret_file = "{tmp_path}/secret"
token_user_key = "email"
mechanisms = ["PLAIN", "XOAUTH2"]
failures = 5
lockout = "1h"
""")
    endpoint = TokenEndpoint(URL, "relay", "s3cret", "email")
    assert found.auth == AuthSettings("users", endpoint, 5, 3600.0, ("PLAIN", "XOAUTH2"))
    assert found.listeners[0].auth is Auth.REQUIRED
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/i", "http://[::1]/i", "http://localhost/i", URL])
def test_tokens_may_go_in_clear_text_on_this_machine_only(url: str) -> None:
    found = settings(f'[auth]\ntoken_endpoint = "{url}"').auth.endpoint
    assert found == TokenEndpoint(url)


def test_an_open_address_needs_tls() -> None:
    """Security 11: no AUTH without TLS."""
    head = HEAD.replace("127.0.0.1", "0.0.0.0")
    why = "without tls would take passwords in clear text; write tls = starttls or implicit, or listen on a loopback address"
    assert problems('auth = "optional"\n[auth]\nusers = "u"', head) == [f"6: listen[0].auth: optional {why}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('auth = "required"', "6: listen[0].auth: required has nobody to ask; write users or token_endpoint in [auth]"),
        ('auth = "required"\n[auth]\nfailures = 5', "6: listen[0].auth: required has nobody to ask; write users or token_endpoint in [auth]"),
        ('auth = "required"\n[auth]\nusers = "u"\nmechanisms = ["OAUTHBEARER"]', "9: auth.mechanisms: none of these is to be had; write SCRAM-SHA-256, PLAIN, LOGIN"),
        (f'auth = "required"\n[auth]\ntoken_endpoint = "{URL}"\nmechanisms = ["PLAIN"]', "9: auth.mechanisms: none of these is to be had; write OAUTHBEARER, XOAUTH2"),
        ('[auth]\nmechanisms = []', "7: auth.mechanisms: is empty; write at least one"),
        ('[auth]\nmechanisms = ["CRAM-MD5"]', '7: auth.mechanisms[0]: "CRAM-MD5" is not one of PLAIN, LOGIN, SCRAM-SHA-256, OAUTHBEARER or XOAUTH2'),
        ('[auth]\nusers = ""', '7: auth.users: "" is empty'),
        ('[auth]\nuser = "u"', "7: auth.user: unknown key; did you mean users?"),
        ('[auth]\ntoken_client = "relay"', "7: auth.token_client: means nothing without token_endpoint"),
        ('[auth]\ntoken_user_key = "sub"', "7: auth.token_user_key: means nothing without token_endpoint"),
        (f'[auth]\ntoken_endpoint = "{URL}"\ntoken_client = "relay"', "8: auth.token_client: stands without token_secret_file; write both"),
        (f'[auth]\ntoken_endpoint = "{URL}"\ntoken_client = "relay"\ntoken_secret_file = "/nowhere/at/all"', '9: auth.token_secret_file: "/nowhere/at/all" cannot be read: no such file or directory'),
        ('[auth]\ntoken_endpoint = "id.example.org"', '7: auth.token_endpoint: "id.example.org" is not the URL of a token endpoint; write https://id.example.org/introspect'),
        ('[auth]\ntoken_endpoint = "https://id.example.org:x/"', '7: auth.token_endpoint: "https://id.example.org:x/" is not the URL of a token endpoint; write https://id.example.org/introspect'),
        ('[auth]\ntoken_endpoint = "https://id.example.org/a b"', '7: auth.token_endpoint: "https://id.example.org/a b" is not the URL of a token endpoint; write https://id.example.org/introspect'),
        ('[auth]\ntoken_endpoint = "http://id.example.org/"', '7: auth.token_endpoint: "http://id.example.org/" would send tokens in clear text; write https'),
        ('[auth]\ntoken_endpoint = "https://me:s3cret@id.example.org/"', "7: auth.token_endpoint: has credentials in it; write token_client and token_secret_file"),
        ('[auth]\nfailures = 2', "7: auth.failures: 2 is too small; write 3 or more"),
        ('[auth]\nlockout = "2d"', "7: auth.lockout: 172800 seconds are out of bounds; write 1s to 1d"),
    ],
)  # fmt: skip
def test_mistakes(text: str, line: str) -> None:
    assert problems(text) == [line]


@given(st.text() | st.builds("http{}://{}".format, st.sampled_from(["", "s"]), st.text()))
def test_any_url_is_taken_or_refused_in_one_line(text: str) -> None:
    try:
        assert authentication.endpoint(text) == text
    except ValueError as error:
        assert "; write " in str(error)
        assert "\n" not in str(error)


def test_whatever_stands_there_is_one_mistake_and_no_accident() -> None:
    assert problems("", f"auth = 5\n{HEAD}") == [
        "1: auth: 5 is not a table; write it as a table of its own, with [ ] around its name"
    ]
    assert problems('auth = "required"\n[auth]\nusers = 5') == [
        "8: auth.users: 5 is not a string; write it in double quotes"
    ]
    odd = HEAD.replace('"127.0.0.1:2525"', "5") + 'auth = "required"\n[auth]\nusers = "u"\nmechanisms = 1'
    assert [one.split(": ")[1] for one in problems("", odd)] == ["listen[0].address", "auth.mechanisms"]
