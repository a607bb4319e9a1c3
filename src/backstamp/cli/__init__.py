"""The command line: one module a command, each with `register(app)`.

Start-up is felt at every `backstamp queue list`, so modules here import typer and nothing
heavy; rooms are imported inside the command that needs them. Exit codes: 0 done, 1 it went
wrong, 2 wrong usage or a configuration that cannot be used.
"""

import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand

from backstamp import streams
from backstamp.cli import (
    check,
    demo,
    explain,
    fsck,
    queue,
    route,
    sendmail,
    serve,
    sink,
    suppression,
    user,
    version,
)

COMMANDS: tuple[Callable[[typer.Typer], None], ...] = (
    serve.register,
    check.register,
    queue.register,
    explain.register,
    route.register,
    suppression.register,
    user.register,
    fsck.register,
    sink.register,
    sendmail.register,
    demo.register,
    version.register,
)
"""What registers commands, in the order of `--help`."""


FAILED = 1


class Command(TyperCommand):
    """A command whose arguments are shown by what they are: the type typer adds is one of Python's."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, as click asks for them."""
        found = super().get_params(ctx)
        for one in found:
            if isinstance(one, TyperArgument):
                one.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        return found


def build() -> typer.Typer:
    """Return the whole application."""
    app = typer.Typer(
        name="backstamp",
        help="Backstamp, an outbound SMTP relay.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # help without rich: a tenth of a second of every start
        pretty_exceptions_enable=False,  # an unknown exception is a plain traceback, without values of mail
    )
    for register in COMMANDS:
        register(app)
    groups = [group.typer_instance for group in app.registered_groups]
    for each in (app, *filter(None, groups)):
        for command in each.registered_commands:
            command.cls = Command
    return app


def main() -> None:
    """Run the command line; the entry point of `backstamp` and `python -m backstamp`."""
    output = streams.Output()
    output.stand_in()
    try:
        try:
            build()()
        finally:
            sys.stdout.flush()
    except OSError:
        if not (why := output.give_up()):
            raise
        typer.echo(f"backstamp: standard output: {why}", err=True)
        sys.exit(FAILED)
