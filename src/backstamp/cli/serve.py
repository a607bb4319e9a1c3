"""`backstamp serve`: the relay, in the foreground. SIGTERM drains, SIGHUP reloads."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import typer

from backstamp.cli.configuration import BAD_CONFIGURATION, ConfigOption, load_or_exit

if TYPE_CHECKING:
    from backstamp.app import Relay
    from backstamp.telemetry.log import EventLog


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(config: ConfigOption) -> None:
    """Run the relay until SIGTERM; events go to standard output, one a line."""
    settings = load_or_exit(config)
    from backstamp import running
    from backstamp.app import Relay, StartError

    try:
        with running.event_log(sys.stdout) as (log, metrics):
            running.loop(_serve(Relay(settings, log, metrics), config, log))
    except StartError as error:
        typer.echo(f"backstamp: {error}", err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None


async def _serve(relay: Relay, config: str, log: EventLog) -> None:
    from backstamp import running

    running.on_signals(relay, lambda: _reload(relay, config, log))
    await relay.run()


def _reload(relay: Relay, config: str, log: EventLog) -> None:
    """Read the configuration again; one with mistakes changes nothing."""
    from backstamp.config import ConfigurationError, load
    from backstamp.telemetry.events import Alarm

    try:
        relay.reload(load(config))
    except ConfigurationError as error:
        problem = "; ".join(str(problem) for problem in error.problems)
        now = int(time.time() * 1e6)
        log.emit(Alarm(time=now, problem=problem, action="the configuration in force stays"))
