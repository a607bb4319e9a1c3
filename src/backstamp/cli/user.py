"""`backstamp user`: who may send, in the users file; a running relay sees a change within a second."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from backstamp.cli.ask import one_of
from backstamp.cli.configuration import BAD_CONFIGURATION, load_or_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from backstamp.listener.accounts import Account
    from backstamp.policy.user import User

FAILED = 1

Config = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="The users file of this configuration.")
]
File = Annotated[str | None, typer.Option("--users", metavar="FILE", help="The users file.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Senders = Annotated[
    list[str] | None,
    typer.Option(
        "--sender", metavar="PATTERN", help="example.org, *.example.org or a@example.org; may be repeated."
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose mail theirs is.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input: its first line.")
]
NoScram = Annotated[
    bool,
    typer.Option("--no-scram", help="Keep no SCRAM verifier: it is easier to guess at than argon2id."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Decide who may send.", no_args_is_help=True, rich_markup_mode=None)
    group.command("add")(add)
    group.command("list")(list_)
    group.command("remove")(remove)
    group.command("passwd")(passwd)
    app.add_typer(group, name="user")


def add(
    name: Name,
    config: Config = None,
    users: File = None,
    sender: Senders = None,
    tenant: Tenant = "",
    password_stdin: FromInput = False,
    no_scram: NoScram = False,
) -> None:
    """Add a user; without --sender they may send as anybody."""
    from backstamp.config.names import name_or_none
    from backstamp.listener.accounts import UsersError, user_name
    from backstamp.policy.user import User, sender_pattern

    path = _path(config, users)
    try:
        user = User(user_name(name), tuple(sender_pattern(one) for one in sender or ()), name_or_none(tenant))
    except UsersError as error:
        _fail(str(error), BAD_CONFIGURATION)
    except ValueError as error:
        _fail(f"--sender or --tenant: {error}", BAD_CONFIGURATION)
    # Before somebody thinks of a password for nothing; looked at again under the lock.
    if _accounts(path, missing=True).get(user.name) is not None:
        _fail(f"{user.name} is a user already; passwd gives them another password")
    made = _account(user, password_stdin, scram=not no_scram)

    def new(old: Account | None) -> Account:
        if old is not None:
            raise UsersError(f"{user.name} is a user already; passwd gives them another password")
        return made

    _change(path, user.name, new)
    whose = ", ".join(user.senders) or "anybody"
    typer.echo(f"added: {user.name}, sends as {whose}")


def list_(config: Config = None, users: File = None, json: AsJson = False) -> None:
    """List users by name; of passwords nothing is told."""
    import msgspec

    found = sorted(_accounts(_path(config, users)).values(), key=lambda one: one.user.name)
    if json:
        rows = [
            {
                "name": one.user.name,
                "senders": one.user.senders,
                "tenant": one.user.tenant,
                "scram": one.scram is not None,
            }
            for one in found
        ]
        typer.echo(msgspec.json.encode(rows).decode())
        return
    for one in found:
        tenant = f"  for {one.user.tenant}" if one.user.tenant else ""
        scram = "" if one.scram is not None else "  without SCRAM"
        typer.echo(f"{one.user.name}  as {', '.join(one.user.senders) or 'anybody'}{tenant}{scram}")


def remove(name: Name, config: Config = None, users: File = None) -> None:
    """Remove a user. Who is connected stays so; no new AUTH succeeds."""
    from backstamp.listener.accounts import UsersError

    path = _path(config, users)
    _accounts(path)  # where there is no file it is said so: a change would begin with an empty one

    def gone(old: Account | None) -> None:
        if old is None:
            raise UsersError(f"{path}: {name} is no user")

    _change(path, _name(name), gone)
    typer.echo(f"removed: {_name(name)}")


def passwd(
    name: Name,
    config: Config = None,
    users: File = None,
    password_stdin: FromInput = False,
    no_scram: NoScram = False,
) -> None:
    """Give a user another password."""
    import msgspec

    from backstamp.listener.accounts import UsersError

    path = _path(config, users)
    known = _accounts(path).get(_name(name))
    if known is None:
        _fail(f"{path}: {name} is no user")
    made = _account(known.user, password_stdin, scram=not no_scram)

    def other(old: Account | None) -> Account:
        if old is None:
            raise UsersError(f"{path}: {name} is no user")
        return msgspec.structs.replace(made, user=old.user)

    _change(path, known.user.name, other)
    typer.echo(f"changed: {known.user.name}")


def _path(config: str | None, users: str | None) -> str:
    """Return which file is meant."""
    one_of(config, users, "--users")
    if users is not None:
        return users
    if config is None:
        _fail("say which users: --config FILE names their file, --users FILE is it", BAD_CONFIGURATION)
    found = load_or_exit(config).auth.users
    if not found:
        _fail(f"{config}: [auth] has no users; write users = FILE, or name the file with --users")
    return found


def _name(name: str) -> str:
    from backstamp.listener.accounts import UsersError, user_name

    try:
        return user_name(name)
    except UsersError as error:
        _fail(str(error), BAD_CONFIGURATION)


def _accounts(path: str, *, missing: bool = False) -> dict[str, Account]:
    import os

    from backstamp.listener.accounts import UsersError
    from backstamp.listener.users import load

    if missing and not os.path.lexists(path):
        return {}
    try:
        return dict(load(path))
    except UsersError as error:
        _fail(str(error))


def _account(user: User, password_stdin: bool, *, scram: bool) -> Account:
    import os

    from backstamp.listener.accounts import UsersError, password
    from backstamp.listener.passwords import account

    if password_stdin:
        try:
            text = sys.stdin.buffer.readline().decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            _fail("the password on standard input is not UTF-8", BAD_CONFIGURATION)
    else:
        text = _asked(f"Password of {user.name}")
    try:
        password(text)
        return account(user, text, os.urandom, scram=scram)
    except UsersError as error:
        _fail(str(error), BAD_CONFIGURATION)


def _asked(question: str) -> str:
    """Ask twice on the terminal for what is not to be shown there."""
    import getpass
    import warnings

    with warnings.catch_warnings():
        # Without a terminal it would be asked for on standard input, where it could be seen.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return str(typer.prompt(question, hide_input=True, confirmation_prompt=True, err=True))
        except getpass.GetPassWarning:
            typer.echo(err=True)
            _fail("no terminal to ask for a password on; --password-stdin reads it", BAD_CONFIGURATION)


def _change(path: str, name: str, make: Callable[[Account | None], Account | None]) -> None:
    from backstamp.listener.accounts import UsersError
    from backstamp.listener.users import change

    try:
        change(path, name, make)
    except UsersError as error:
        _fail(str(error))


def _fail(text: str, code: int = FAILED) -> NoReturn:
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(code)
