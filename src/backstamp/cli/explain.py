"""`backstamp explain`: why a message waits, what happened so far, and what would change it."""

from __future__ import annotations

from typing import Annotated

import typer

from backstamp.cli.ask import UNREACHABLE, AsJson, Config, ask
from backstamp.cli.ids import QueueId

Recipient = Annotated[
    str, typer.Option("--recipient", "-r", metavar="ADDRESS", help="Only what concerns this recipient.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    queue_id: QueueId, config: Config = None, recipient: Recipient = "", json: AsJson = False
) -> None:
    """Say why a message waits, since when, until when, and what would change it."""
    from urllib.parse import quote

    answer = ask(config, f"/api/v1/explain/{queue_id}?recipient={quote(recipient, safe='')}")
    if answer is None:
        from backstamp.delivery.explain import absent

        typer.echo(f"backstamp: {absent(queue_id)}", err=True)
        raise typer.Exit(UNREACHABLE)
    print_answer(answer, json=json)


def print_answer(answer: dict[str, object], *, json: bool) -> None:
    """Print facts as JSON, or their text."""
    import msgspec

    typer.echo(msgspec.json.encode(answer).decode() if json else answer["text"], nl=json)
