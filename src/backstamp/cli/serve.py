"""`backstamp serve`: the relay, in the foreground. SIGTERM drains, SIGHUP reloads."""

import typer

from backstamp.cli.configuration import ConfigOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(config: ConfigOption) -> None:
    """Run the relay until SIGTERM; events go to standard output, one a line."""
    from backstamp.config import apart

    reading = apart.begin(config, starting=True)
    from backstamp import serving

    serving.main(config, reading)
