"""`backstamp queue`: what waits, from the running relay, or from a stopped queue's files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from backstamp.cli.configuration import BAD_CONFIGURATION, load_or_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backstamp.queue.view import MessageView

Config = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="Ask the relay of this configuration.")
]
Directory = Annotated[
    str | None, typer.Option("--queue", metavar="DIR", help="Read a stopped queue's directory.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Messages to list at most.")]
QueueId = Annotated[str, typer.Argument(metavar="QUEUE_ID")]
Qmail = Annotated[
    bool, typer.Option("--qmail", help="One line a recipient: stamp and address, as qmail keeps them.")
]

UNREACHABLE = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at the queue.", no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_)
    group.command("show")(show)
    app.add_typer(group, name="queue")


def list_(config: Config = None, queue: Directory = None, limit: Limit = 100, json: AsJson = False) -> None:
    """List messages that are not finished, oldest first."""
    from backstamp.queue.view import MessageView

    found: Sequence[MessageView]
    if queue is not None:
        found = _stopped(queue)[:limit]
    else:
        import msgspec

        answer = _ask(config, f"/api/v1/queue?limit={limit}")
        found = msgspec.convert((answer or {}).get("messages", []), list[MessageView])
    if json:
        _print_json(found)
    elif sys.stdout.isatty():
        _table(found)
    else:
        for message in found:
            typer.echo(" ".join(_row(message)))


def show(
    queue_id: QueueId,
    config: Config = None,
    queue: Directory = None,
    qmail: Qmail = False,
    json: AsJson = False,
) -> None:
    """Show one message: who has it, who waits, until when."""
    from backstamp.queue.view import MessageView, qmail_form

    found: MessageView | None
    if queue is not None:
        found = next((one for one in _stopped(queue) if one.queue_id == queue_id.upper()), None)
    else:
        import msgspec

        answer = _ask(config, f"/api/v1/queue/{queue_id}")
        found = None if answer is None else msgspec.convert(answer, MessageView)
    if found is None:
        typer.echo(f"backstamp: {queue_id} is not in the queue: it is finished, or was never here", err=True)
        raise typer.Exit(UNREACHABLE)
    if json:
        _print_json(found)
    elif qmail:
        typer.echo(qmail_form(found))
    else:
        _details(found)


def _stopped(directory: str) -> list[MessageView]:
    from backstamp.queue.files import DiskFiles
    from backstamp.queue.views import stopped

    try:
        return stopped(DiskFiles(), directory)
    except OSError as error:
        _fail(f"queue directory {directory}: {(error.strerror or str(error)).lower()}")


def _ask(config: str | None, path: str) -> dict[str, Any] | None:
    """Ask the running relay; None where it does not know."""
    import urllib.error
    import urllib.request

    import msgspec

    if config is None:
        _fail("say which queue: --config FILE asks the running relay, --queue DIR reads a stopped one")
    settings = load_or_exit(config)
    if settings.admin is None:
        _fail(f"{config}: without [admin] address a running relay cannot be asked; stopped, --queue reads it")
    host, port = settings.admin
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what a wildcard is asked by
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        with urllib.request.urlopen(f"http://{where}{path}", timeout=30) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        _fail(f"the relay at {where} answered {error.code}: {error.read().decode('utf-8', 'replace')[:200]}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        typer.echo(
            f"backstamp: no relay answers at {where} ({reason});"
            f" a stopped one: --queue {settings.queue_directory}",
            err=True,
        )
        raise typer.Exit(UNREACHABLE) from None


def _row(message: MessageView) -> tuple[str, ...]:
    stamps = "".join(recipient.stamp for recipient in message.recipients)
    shown = stamps if len(stamps) <= 40 else f"{stamps[:39]}…"
    first = next((one for one in message.recipients if one.stamp in "T?"), message.recipients[0])
    return (
        message.queue_id,
        _time(message.arrival),
        str(message.size),
        shown,
        f"<{message.sender}>",
        f"<{first.address}>",
        _time(first.retry_at) if first.retry_at else "-",
    )


def _table(found: Sequence[MessageView]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for heading in ("queue id", "arrival", "octets", "stamps", "from", "first waiting", "next attempt"):
        table.add_column(heading, overflow="fold")
    for message in found:
        table.add_row(*(Text(cell) for cell in _row(message)))
    console = Console()
    console.print(table)
    console.print(f"{len(found)} messages")


def _details(message: MessageView) -> None:
    typer.echo(f"queue id  {message.queue_id}")
    typer.echo(f"arrival   {_time(message.arrival)}")
    typer.echo(f"from      <{message.sender}>")
    typer.echo(f"content   {message.size} octets")
    for recipient in message.recipients:
        until = f", next attempt {_time(recipient.retry_at)}" if recipient.retry_at else ""
        typer.echo(f"  {recipient.stamp}  <{recipient.address}>  {recipient.meaning}{until}")


def _time(seconds: float) -> str:
    from backstamp.telemetry.lines import moment

    return moment(int(seconds * 1e6))


def _print_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())


def _fail(text: str) -> NoReturn:
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(BAD_CONFIGURATION)
