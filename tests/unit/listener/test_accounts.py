"""The users file as text."""

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from backstamp.listener import accounts
from backstamp.listener.accounts import Account, UsersError
from backstamp.listener.passwords import account
from backstamp.policy.user import User

CHEAP = PasswordHasher(1, 8, 1)


def entropy(count: int) -> bytes:
    return b"e" * count


def made(name: str, *, scram: bool = True, senders: tuple[str, ...] = (), tenant: str = "") -> Account:
    user = User(name, senders, tenant)
    return account(user, "s3cret", entropy, scram=scram, hasher=CHEAP, iterations=4096)


ANN, BOB = made("ann", senders=("example.org", "*.example.org"), tenant="shop"), made("bob", scram=False)


def test_what_is_written_is_read_again() -> None:
    content = accounts.changed(accounts.changed(b"", "ann", ANN), "bob", BOB)
    assert accounts.read(content) == {"ann": ANN, "bob": BOB}
    assert len(content.splitlines()) == 2
    assert b"s3cret" not in content


def test_a_change_leaves_comments_order_and_other_lines_alone() -> None:
    lines = accounts.changed(b"", "ann", ANN), accounts.changed(b"", "bob", BOB)
    content = b"# the shop\n" + lines[0] + b"\n  # others\r\n" + lines[1].rstrip()
    other = made("ann", senders=("a.example",))
    changed = accounts.changed(content, "ann", other)
    assert changed == content.replace(lines[0], accounts.changed(b"", "ann", other))
    assert accounts.changed(content, "ann", None) == content.replace(lines[0], b"")
    assert accounts.changed(content, "nobody", None) == content + b"\n"
    added = accounts.changed(content, "eve", made("eve"))
    assert added.startswith(content + b"\n")
    assert list(accounts.read(added)) == ["ann", "bob", "eve"]


HASH = ANN.hash.encode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"ann:secret", "not a JSON object of a user"),
        (b'{"name": "\xff"}', "not a JSON object of a user"),
        (b'{"name": "a"}', "not a JSON object of a user"),
        (b'{"name": "a", "password": "%b", "admin": true}' % HASH, "not a JSON object of a user"),
        (b'{"name": "a", "password": "hunter2"}', "password is no argon2id hash"),
        (b'{"name": "a", "password": "%b"}' % HASH.replace(b"argon2id", b"argon2i"), "no argon2id hash"),
        (b'{"name": "", "password": "%b"}' % HASH, "a name is printable"),
        (b'{"name": "a\\nb", "password": "%b"}' % HASH, "a name is printable"),
        (b'{"name": "\xe2\x85\xa8", "password": "%b"}' % HASH, "the name is not prepared"),
        (b'{"name": "a", "password": "%b", "senders": ["*"]}' % HASH, "one of senders is not a sender"),
        (b'{"name": "a", "password": "%b", "tenant": "a b"}' % HASH, "tenant is not a name"),
        (b'{"name": "a", "password": "%b", "scram": "md5"}' % HASH, "no SCRAM-SHA-256 verifier"),
        (b'{"name": "a", "password": "%b", "scram": "SCRAM-SHA-256$4096:!!$AA==:AA=="}' % HASH, "no SCRAM"),
        (b'{"name": "a", "password": "%b", "scram": "SCRAM-SHA-256$1:AA==$AA==:AA=="}' % HASH, "no SCRAM"),
        (accounts.changed(b"", "ann", ANN), "a user of that name stands above"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_without_its_secrets(line: bytes, why: str) -> None:
    with pytest.raises(UsersError, match=why) as caught:
        accounts.read(accounts.changed(b"# users\n", "ann", ANN) + line)
    text = str(caught.value)
    assert text.startswith("line 3: ")
    assert "hunter2" not in text
    assert HASH.decode()[-20:] not in text


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("ann", "ann"),
        ("Ann@example.org", "Ann@example.org"),
        ("a b", "a b"),
        ("\u2168", "IX"),
        ("a\u00adb", "ab"),
    ],
)
def test_names_are_kept_prepared(name: str, kept: str) -> None:
    """RFC 4616: the user name is prepared with SASLprep."""
    assert accounts.user_name(name) == kept


@pytest.mark.parametrize(
    "name", ["", " ann", "ann ", "a\nb", "a\0b", "a\x7fb", "x" * 256, "\ud800", "\u200e", "\U0001f600"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsersError, match="a name is printable"):
        accounts.user_name(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "nothing"), ("a\tb", "control"), ("x" * 1025, "more than 1024"), ("\U0001f600pass", "RFC 4013")],
)
def test_what_is_no_password_is_refused_and_not_repeated(text: str, why: str) -> None:
    with pytest.raises(UsersError, match=why) as caught:
        accounts.password(text)
    assert not text or text not in str(caught.value)
    assert accounts.password("p\u00e4ss w\u00f6rd") == "p\u00e4ss w\u00f6rd"


def test_no_account_shows_its_hash_or_its_keys() -> None:
    """Security 11: log redaction."""
    assert ANN.scram is not None
    text = f"{ANN!r} {ANN.scram!r}"
    assert "argon2" not in text
    assert repr(ANN.scram.stored_key) not in text


@given(st.binary(max_size=80))
def test_any_octets_are_a_users_file_or_a_sentence(content: bytes) -> None:
    try:
        accounts.read(content)
    except UsersError as error:
        assert str(error).startswith("line ")
