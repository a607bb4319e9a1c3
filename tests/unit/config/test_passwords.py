"""Passwords from files, and what is wrong with files."""

import errno
import os

import pytest

from backstamp.config.passwords import read


def routes(*names):
    return {"route": [{"password_file": name} for name in names]}


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"s3cret\n", "s3cret"), (b" p w \r\n", " p w "), (b"p", "p"), ("ü".encode(), "ü")],
)
def test_the_line_is_the_password(tmp_path, content, password):
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert read({"route": [{}, {"password_file": str(path)}]}) == ({1: password}, [])


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "it is empty or has control characters"),
        (b"\n", "it is empty or has control characters"),
        (b"user\ns3cret\n", "it is empty or has control characters"),
        (b"s3cret\0", "it is empty or has control characters"),
        (b"s3cret\xff", "it is not UTF-8"),
        (b"s3cret" * 10_000, "it has more than 16384 octets"),
    ],
)
def test_what_is_no_password(tmp_path, content, wrong):
    path = tmp_path / "secret"
    path.write_bytes(content)
    (found, ((place, text),)) = read(routes(str(path)))
    assert (found, place) == ({}, ("route", 0, "password_file"))
    assert text == f'"{path}" is not a password: {wrong}'


def test_files_that_cannot_be_read(tmp_path):
    missing = os.path.join(tmp_path, "missing")
    assert read(routes(missing, str(tmp_path), "a\0b"))[1] == [
        (("route", 0, "password_file"), f'"{missing}" cannot be read: no such file or directory'),
        (("route", 1, "password_file"), f'"{tmp_path}" cannot be read: is a directory'),
        (("route", 2, "password_file"), '"a\\u0000b" is not the name of a file'),
    ]


def test_a_file_of_somebody_else(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("builtins.open", refuse)  # the superuser, as whom tests may run, is refused nothing
    assert read(routes("secret"))[1] == [
        (("route", 0, "password_file"), '"secret" cannot be read: permission denied')
    ]


@pytest.mark.parametrize("strange", [None, 5, [5], [{"password_file": 5}], [{"password_file": ""}], [{}]])
def test_what_names_no_file_is_passed_over(strange):
    assert read({"route": strange}) == ({}, [])
