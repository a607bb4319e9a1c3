"""`backstamp version`."""

import typer

from backstamp import __version__


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(version)


def version() -> None:
    """Print the version."""
    typer.echo(f"backstamp {__version__}")
