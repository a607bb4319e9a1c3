"""`backstamp sendmail` among the commands, for `--help`; `__main__` runs it before it comes to this."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    settings = {"ignore_unknown_options": True, "help_option_names": []}
    app.command(context_settings=settings)(sendmail)


def sendmail(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[OPTION...] [RECIPIENT...]")] = None,
) -> None:
    """Hand a message to the running relay, as /usr/sbin/sendmail does (docs/sendmail.md)."""
    from backstamp.sendmail.main import main

    raise typer.Exit(main("sendmail", arguments or []))
