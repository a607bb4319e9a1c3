"""What a route's keys must keep between them."""

import pytest

from backstamp.config.address import Address
from backstamp.config.smarthosts import mistakes, on_this_machine

AUTH = {"via": "smtp.example.net:587", "username": "u", "password": "p"}


@pytest.mark.parametrize(
    "route",
    [
        {"via": "mx", "tls": "none", "source": "x", "priority": 3, "from": "<>"},
        AUTH,
        {**AUTH, "tls": "encrypt"},
        {**AUTH, "tls": "verify", "implicit_tls": True, "auth": "plain"},
        {**AUTH, "via": ["127.0.0.1:25", "[::1]:25", "localhost:25"], "tls": "none"},
        {"via": "smtp.example.net:25", "tls": "none"},
        {"via": "smtp.example.net:465", "implicit_tls": True},
        {"via": "smtp.example.net:465", "implicit_tls": False, "tls": "may"},
        {**AUTH, "via": "cannot be read", "tls": "none"},
        {"via": [], "tls": []},
    ],
)
def test_good_routes(route):
    assert mistakes({"route": [route]}) == []


@pytest.mark.parametrize(
    ("route", "found"),
    [
        (
            {**AUTH, "tls": "may"},
            {"tls": "may would send the password in clear text; write encrypt or verify"},
        ),
        (
            {**AUTH, "via": ["127.0.0.1:25", "192.0.2.1:25"], "tls": "none"},
            {"tls": "none would send the password in clear text; write encrypt or verify"},
        ),
        (
            {"via": "a:465", "implicit_tls": True, "tls": "may"},
            {"tls": "may cannot be with implicit_tls; write encrypt or verify"},
        ),
        ({"via": "a:25", "username": "u"}, {"username": "has no password; write password_file or password"}),
        ({**AUTH, "password_file": "f"}, {"password_file": "stands beside password; write one of them"}),
        (
            {"via": "a:25", "password": "p", "password_file": "f", "auth": "plain"},
            dict.fromkeys(("password", "password_file", "auth"), "means nothing without username"),
        ),
        (
            {**AUTH, "via": "mx", "password_file": "f", "implicit_tls": False, "auth": "plain"},
            dict.fromkeys(
                ("implicit_tls", "username", "password", "password_file", "auth"),
                "means nothing with via = mx; it is about a smarthost",
            ),
        ),
    ],
)
def test_bad_routes(route, found):
    assert mistakes({"route": [{}, route]}) == [(("route", 1, key), text) for key, text in found.items()]


def test_on_this_machine():
    assert on_this_machine([Address("127.1.2.3", 25), Address("::1", 25), Address("localhost", 25)])
    assert not on_this_machine([Address("127.0.0.1", 25), Address("192.0.2.1", 25)])
    assert not on_this_machine([Address("localhost.example.org", 25)])


@pytest.mark.parametrize("strange", [None, 5, "x", [], [5], {}])
def test_what_cannot_be_read_is_passed_over(strange):
    assert mistakes({"route": strange}) == []
