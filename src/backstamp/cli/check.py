"""`backstamp check`: read a configuration and tell every mistake in it."""

import typer

from backstamp.cli.configuration import ConfigOption, load_or_exit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(config: ConfigOption) -> None:
    """Check a configuration file: every mistake with file, line and key; exit 2 if there is one."""
    settings = load_or_exit(config, starting=True)
    listeners = ", ".join(listener.place for listener in settings.listeners)
    typer.echo(f"{config}: fine; listens on {listeners}, queue in {settings.queue_directory}")
