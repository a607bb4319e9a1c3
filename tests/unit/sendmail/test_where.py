"""Where a configuration takes mail of this machine, and what refusals come to."""

import tomllib

import pytest

from backstamp.sendmail import failure, where
from backstamp.sendmail.where import Where


def find(*listens: str) -> Where:
    tables = "".join(f"[[listen]]\n{one}\n" for one in listens)
    return where.find(tomllib.loads(f'hostname = "relay.example"\n{tables}'), "x.toml")


PORT = 'address = "127.0.0.1:2525"'
FILE = 'address = "unix:/run/x.sock"'


@pytest.mark.parametrize(
    ("listens", "found"),
    [
        ((PORT,), Where("relay.example", "127.0.0.1", 2525)),
        ((PORT, FILE), Where("relay.example", "/run/x.sock")),
        (('address = "[::1]:25"',), Where("relay.example", "::1", 25)),
        (('address = "0.0.0.0:25"',), Where("relay.example", "127.0.0.1", 25)),
        ((f'{PORT}\ntls = "starttls"', 'address = "127.0.0.2:26"'), Where("relay.example", "127.0.0.2", 26)),
        ((f'{PORT}\nauth = "required"', 'address = "[::]:26"'), Where("relay.example", "::1", 26)),
        ((f'{PORT}\nproxies = ["127.0.0.1"]', 'address = "[::]:26"'), Where("relay.example", "::1", 26)),
        ((f'{PORT}\nproxies = ["10.0.0.1", "::1/128"]',), Where("relay.example", "127.0.0.1", 2525)),
    ],
)
def test_the_socket_file_then_plain_loopback(listens: tuple[str, ...], found: Where) -> None:
    assert find(*listens) == found


@pytest.mark.parametrize(
    "listens",
    [
        (),
        ('address = "192.0.2.1:25"',),
        ('address = "127.0.0.1:0"',),
        ("address = 5",),
        ('address = "[::]:25"\nproxies = ["::1"]',),
    ],
)
def test_nothing_for_this_machine_is_ex_config_and_says_what_to_add(listens: tuple[str, ...]) -> None:
    with pytest.raises(failure.SendmailError, match=r"x\.toml: no \[\[listen\]\].*unix:/run") as caught:
        find(*listens)
    assert caught.value.code == failure.CONFIGURATION


def test_a_file_without_a_hostname() -> None:
    with pytest.raises(failure.SendmailError, match="hostname: missing"):
        where.find({"listen": 5}, "x.toml")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("550 5.1.1 No such user", 67),
        ("553 5.1.2 No such host", 68),
        ("553 5.1.3 Not an address", 65),
        ("550 5.6.0 Bare LF", 65),
        ("550 5.7.1 Denied", 69),
        ("554 no", 69),
        ("452 4.3.1 Full", 75),
        ("the relay went away", 75),
    ],
)
def test_a_refusal_is_told_by_its_class(reply: str, code: int) -> None:
    """RFC 3463 §3: the enhanced status says what was wrong."""
    assert failure.code_of(reply) == code


def test_temporary_is_told_only_where_sending_again_hurts_nobody() -> None:
    no, later = "550 5.1.1 No", "450 4.2.0 Later"
    assert failure.code_of_all([no, later], some_taken=False) == failure.TEMPORARY
    assert failure.code_of_all([no], some_taken=False) == failure.NO_USER
    assert failure.code_of_all([later, no], some_taken=True) == failure.NO_USER
    assert failure.code_of_all([later], some_taken=True) == failure.UNAVAILABLE
