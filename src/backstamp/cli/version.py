"""`backstamp version`, and `backstamp --version` for who is used to that."""

from typing import Annotated

import typer

from backstamp import __version__


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(version)
    app.callback()(_options)


def version() -> None:
    """Print the version."""
    typer.echo(f"backstamp {__version__}")


def _told(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_told, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What may stand before a command."""
