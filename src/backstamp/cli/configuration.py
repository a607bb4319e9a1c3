"""How every command takes its configuration: `--config FILE`, all mistakes on standard error, exit 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backstamp.config import Settings

BAD_CONFIGURATION = 2
"""Exit code for what the configuration makes impossible: mistakes in it, a port in use, a locked queue."""

ConfigOption = Annotated[
    str, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (TOML).")
]


def load_or_exit(path: str, *, starting: bool = False) -> Settings:
    """Return the settings of a file; where it has mistakes print them all, one a line.

    `starting` looks at what only a relay's start needs, too.

    Raises:
        typer.Exit: with code 2, after printing.
    """
    from backstamp.config import ConfigurationError
    from backstamp.config.load import load

    try:
        return load(path, starting=starting)
    except ConfigurationError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
