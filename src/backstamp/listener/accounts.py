"""The users file: one user a line, as JSON; empty lines and lines that begin with `#` are left alone. Pure.

    {"name": "ann", "password": "$argon2id$…", "scram": "SCRAM-SHA-256$100000:…", "senders": ["example.org"]}

`password` is a PHC string, `scram` a verifier as PostgreSQL writes it (iterations, salt,
StoredKey, ServerKey: RFC 5803); neither says what the password is. A change touches its own
line only, so that a person may keep comments and an order. What is wrong is told with its
line, without what stands there.
"""

import re
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from backstamp.policy.user import User, sender_pattern

LONGEST_NAME: Final = 255
LONGEST_PASSWORD: Final = 1024
"""Characters of a name and of a password, at most: longer ones are never looked at."""

ITERATIONS: Final = 65_536
"""Of SCRAM's verifiers (RFC 7677 asks for 4096 at least). They stand beside argon2id hashes, and whoever
steals the file attacks the cheaper of the two; the client pays for each login with as many. Cyrus SASL
(Postfix and others as clients) computes no more than these: "iteration-count is too big"."""

_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{0,64}")
_SCRAM: Final = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([^$:]+)\$([^$:]+):([^$:]+)")


class UsersError(ValueError):
    """The users file, a name or a password is not what it must be; the text is for the operator."""


class Scram(msgspec.Struct, frozen=True):
    """What proves a SCRAM-SHA-256 exchange (RFC 5802 §3). Who has it can guess at the password offline."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"Scram({self.iterations}, …)"


class Account(msgspec.Struct, frozen=True):
    """A user and how they prove it. `hash` is a PHC string of argon2id."""

    user: User
    hash: str
    scram: Scram | None = None

    def __repr__(self) -> str:
        return f"Account({self.user!r}, …)"


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    name: str
    password: str
    scram: str = ""
    senders: list[str] = []
    tenant: str = ""


Accounts = Mapping[str, Account]


def prepared(text: str, limit: int) -> str | None:
    """Return a name or a password as it is compared (SASLprep, RFC 4013), None where it can be none.

    That is: empty, longer than `limit` characters, or with controls and other characters a string
    prepared so cannot have.
    """
    if not text or len(text) > limit:
        return None
    if text.isascii() and text.isprintable():
        return text  # nothing in it is mapped or prohibited; a large file is read twice as fast
    from scramp import ScramException
    from scramp.utils import saslprep

    try:
        return saslprep(text) or None
    except ScramException:
        return None


def user_name(text: str) -> str:
    """Return the name of a user, prepared.

    Raises:
        UsersError: it cannot be one.
    """
    name = prepared(text, LONGEST_NAME)
    # SASLprep knows Unicode 3.2 only; what was unassigned then it refuses already.
    if name is None or not name.isprintable() or name != name.strip():
        raise UsersError("a name is printable characters, at most 255, without spaces around it")
    return name


def password(text: str) -> str:
    """Return a password, prepared.

    Raises:
        UsersError: it cannot be one; it is not repeated.
    """
    found = prepared(text, LONGEST_PASSWORD)
    if found is None:
        why = "control characters" if any(unicodedata.category(one) == "Cc" for one in text) else ""
        why = why or ("more than 1024 characters" if len(text) > LONGEST_PASSWORD else "")
        why = why or ("characters that RFC 4013 does not allow, as emoji" if text else "nothing in it")
        raise UsersError(f"this cannot be a password: it has {why}")
    return found


def read(content: bytes) -> dict[str, Account]:
    """Return the accounts of a file by their names.

    Raises:
        UsersError: one line is wrong; then none is taken.
    """
    found: dict[str, Account] = {}
    for number, line in _lines(content):
        try:
            account = _account(line)
        except UsersError as error:
            raise UsersError(f"line {number}: {error}") from None
        name = account.user.name
        if name in found:
            raise UsersError(f"line {number}: a user of that name stands above already")
        found[name] = account
    return found


def changed(content: bytes, name: str, account: Account | None) -> bytes:
    """Return a file's content with the account of a name replaced, added at the end, or (None) removed."""
    written = b"" if account is None else _written(account)
    lines = content.splitlines(keepends=True)
    for number, line in _lines(content):
        if _account(line).user.name == name:
            lines[number - 1] = written
            return b"".join(lines)
    return content + (b"" if not content or content.endswith(b"\n") else b"\n") + written


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold users, counted from 1."""
    for number, line in enumerate(content.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            yield number, stripped


def _account(line: bytes) -> Account:
    try:
        row = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        keys = ", ".join(_Line.__struct_fields__)
        raise UsersError(f"not a JSON object of a user; it has {keys}, and nothing else") from None
    if user_name(row.name) != row.name:
        raise UsersError("the name is not prepared (SASLprep); add the user anew")
    import argon2

    try:
        if argon2.extract_parameters(row.password).type is not argon2.Type.ID:
            raise UsersError("password is no argon2id hash; set it with backstamp user passwd")
    except (argon2.exceptions.InvalidHashError, ValueError):
        raise UsersError("password is no argon2id hash; set it with backstamp user passwd") from None
    if not _TENANT.fullmatch(row.tenant):
        raise UsersError("tenant is not a name of at most 64 letters, digits, dots, - and _")
    senders = []
    for one in row.senders:
        try:
            senders.append(sender_pattern(one))
        except ValueError as error:
            raise UsersError(f"one of senders {error}") from None
    return Account(User(row.name, tuple(senders), row.tenant), row.password, _scram(row.scram))


def _scram(text: str) -> Scram | None:
    if not text:
        return None
    wrong = UsersError("scram is no SCRAM-SHA-256 verifier; set it with backstamp user passwd")
    found = _SCRAM.fullmatch(text)
    if found is None:
        raise wrong
    try:
        salt, stored, server = (b64decode(part, validate=True) for part in found.groups()[1:])
    except ValueError:
        raise wrong from None
    iterations = int(found[1])
    # The bounds of scramp, which is to work with it.
    if not 4096 <= iterations <= 10_000_000 or len(salt) < 12 or (len(stored), len(server)) != (32, 32):
        raise wrong
    return Scram(iterations, salt, stored, server)


def _written(account: Account) -> bytes:
    user, scram = account.user, account.scram
    text = ""
    if scram is not None:
        salt, stored, server = (
            b64encode(part).decode() for part in (scram.salt, scram.stored_key, scram.server_key)
        )
        text = f"SCRAM-SHA-256${scram.iterations}:{salt}${stored}:{server}"
    row = _Line(user.name, account.hash, text, list(user.senders), user.tenant)
    return msgspec.json.format(msgspec.json.encode(row), indent=0) + b"\n"
