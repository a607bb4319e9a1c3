"""Passwords from the files a configuration names, each file read once at every load.

With `certificates` the only place of this room, besides the file itself, that looks at the machine.
What a file says is never told, only what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any

from backstamp.config import words
from backstamp.config.between import Mistakes, rows
from backstamp.config.lines import Path

_LONGEST = 16_384
"""Octets of a password file: tokens are a few thousand, a larger file is another one by mistake."""


def read(document: Mapping[str, Any]) -> tuple[dict[int, str], Mistakes]:
    """Return the passwords of routes with a `password_file`, by their index, and what is wrong with files.

    A password is a file's only line; a line end behind it is no part of it.
    """
    found: dict[int, str] = {}
    wrong: Mistakes = []
    for index, table in rows(document, "route"):
        name = table.get("password_file")
        if not isinstance(name, str) or not name:
            continue
        secret, mistakes = _told(("route", index, "password_file"), name)
        wrong += mistakes
        if not mistakes:
            found[index] = secret
    return found, wrong


def token_secret(document: Mapping[str, Any]) -> tuple[str, Mistakes]:
    """Return the secret of `[auth] token_secret_file`, empty without one, and what is wrong with the file."""
    table = document.get("auth")
    name = table.get("token_secret_file") if isinstance(table, dict) else None
    if not isinstance(name, str) or not name:
        return "", []
    return _told(("auth", "token_secret_file"), name)


def _told(path: Path, name: str) -> tuple[str, Mistakes]:
    """Return what a file says, or what is wrong with it."""
    try:
        return _password(name), []
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return "", [(path, f"{words.shown(name, 1000)} cannot be read: {reason}")]
    except ValueError as error:
        return "", [(path, f"{words.shown(name, 1000)} is {error}")]


def _password(name: str) -> str:
    """Return what a file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no password.
    """
    try:
        with open(name, "rb") as stream:
            content = stream.read(_LONGEST + 1)
    except ValueError:
        raise ValueError("not the name of a file") from None
    if len(content) > _LONGEST:
        raise ValueError(f"not a password: it has more than {_LONGEST} octets")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("not a password: it is not UTF-8") from None
    return words.secret(text.removesuffix("\n").removesuffix("\r"))
