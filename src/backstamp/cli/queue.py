"""`backstamp queue`: what waits, from the running relay, or from a stopped queue's files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from backstamp.cli import verbs
from backstamp.cli.ask import UNREACHABLE, AsJson, Config, ask, fail, one_of
from backstamp.cli.ids import QueueId
from backstamp.cli.words import count
from backstamp.text import printable, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backstamp.queue.files import Files
    from backstamp.queue.view import MessageView

T = TypeVar("T")

_PAGE = 1000
"""Messages the relay lists at once, at most."""

_WIDE = 2000
"""Characters of an address or two that are shown: all that there can be."""

Directory = Annotated[
    str | None, typer.Option("--queue", metavar="DIR", help="Read a stopped queue's directory.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Messages to list at most.")]
Qmail = Annotated[
    bool, typer.Option("--qmail", help="One line a recipient: stamp and address, as qmail keeps them.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Look at the queue, and decide what becomes of mail in it.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("list")(list_)
    group.command("show")(show)
    group.command("doubt")(doubt)
    verbs.register(group)
    app.add_typer(group, name="queue")


def list_(config: Config = None, queue: Directory = None, limit: Limit = 100, json: AsJson = False) -> None:
    """List messages that are not finished, oldest first."""
    one_of(config, queue, "--queue")
    # One more than is listed tells whether more wait.
    found = _stopped(queue) if queue is not None else _running(config, limit + 1)
    listed = found[:limit]
    cut = f"the first {limit}; more wait: --limit N" if len(found) > limit else ""
    if not json and sys.stdout.isatty():
        _table(listed)
        typer.echo(cut or count(len(listed), "message"))
        return
    if json:
        _print_json(listed)
    else:
        for message in listed:
            typer.echo(" ".join(_row(message)))
    if cut:
        typer.echo(cut, err=True)


def show(
    queue_id: QueueId,
    config: Config = None,
    queue: Directory = None,
    qmail: Qmail = False,
    json: AsJson = False,
) -> None:
    """Show one message: who has it, who waits, until when."""
    from backstamp.queue.view import MessageView, qmail_form

    one_of(config, queue, "--queue")
    found: MessageView | None
    if queue is not None:
        found = next((one for one in _stopped(queue) if one.queue_id == queue_id), None)
    else:
        import msgspec

        answer = ask(config, f"/api/v1/queue/{queue_id}")
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


def doubt(config: Config = None, queue: Directory = None, json: AsJson = False) -> None:
    """Name the recipients in doubt: the final dot went out to them, and no reply came."""
    from backstamp.queue.view import DoubtView

    one_of(config, queue, "--queue")
    found: Sequence[DoubtView]
    if queue is not None:
        from backstamp.queue.views import stopped_doubts

        found = _read(stopped_doubts, queue)
    else:
        import msgspec

        answer = ask(config, "/api/v1/queue/doubt")
        found = msgspec.convert((answer or {}).get("recipients", []), list[DoubtView])
    if json:
        _print_json(found)
        return
    for one in found:
        who = printable(f"<{one.recipient}>  from <{one.sender}>", _WIDE)
        typer.echo(f"{one.queue_id}  {one.stamp}  {who}  {one.meaning}")
    if any(one.stamp == "H" for one in found):
        typer.echo("H waits for a decision: queue release sends it again, queue remove does not", err=True)


def _running(config: str | None, limit: int) -> list[MessageView]:
    """Return up to `limit` messages of the running relay, page by page."""
    import msgspec

    from backstamp.queue.view import MessageView

    found: list[MessageView] = []
    after = ""
    while len(found) < limit:
        answer = ask(config, f"/api/v1/queue?limit={min(limit - len(found), _PAGE)}{after}")
        page = msgspec.convert((answer or {}).get("messages", []), list[MessageView])
        if not page:
            # Not earlier: of a page those are left out who finished while it was made.
            break
        found += page
        after = f"&after={page[-1].queue_id}"
    return found


def _stopped(directory: str) -> list[MessageView]:
    from backstamp.queue.views import stopped

    return _read(stopped, directory)


def _read(read: Callable[[Files, str], list[T]], directory: str) -> list[T]:
    """Read a stopped queue."""
    from backstamp.queue.files import DiskFiles
    from backstamp.queue.recovery import FormatError

    try:
        return read(DiskFiles(), directory)
    except FormatError as error:
        fail(str(error))
    except OSError as error:
        fail(f"queue directory {directory}: {reason(error)}; backstamp fsck tells of the rest")


def _row(message: MessageView) -> tuple[str, ...]:
    stamps = "".join(recipient.stamp for recipient in message.recipients)
    shown = stamps if len(stamps) <= 40 else f"{stamps[:39]}…"
    first = next((one for one in message.recipients if one.stamp in "T?"), message.recipients[0])
    times = [one.retry_at for one in message.recipients if one.retry_at]
    return (
        message.queue_id,
        _time(message.arrival),
        str(message.size),
        shown,
        printable(f"<{message.sender}>", _WIDE) if not message.problem else "(see queue show)",
        printable(f"<{first.address}>", _WIDE),
        _time(min(times)) if times else "-",
    )


def _table(found: Sequence[MessageView]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    # An id is there to be copied: it keeps its line, however narrow that makes the others.
    table.add_column("queue id", no_wrap=True, min_width=26)
    for heading in ("arrival", "octets", "stamps", "from", "first waiting", "next attempt"):
        table.add_column(heading, overflow="fold")
    for message in found:
        table.add_row(*(Text(cell) for cell in _row(message)))
    Console().print(table)


def _details(message: MessageView) -> None:
    typer.echo(f"queue id  {message.queue_id}")
    typer.echo(f"arrival   {_time(message.arrival)}")
    if message.release:
        typer.echo(f"not before {_time(message.release)}, as its sender asked")
    typer.echo(f"from      {printable(f'<{message.sender}>', _WIDE)}")
    typer.echo(f"content   {message.size} octets")
    if message.problem:
        typer.echo(f"problem   {message.problem}")
    for recipient in message.recipients:
        until = f", next attempt {_time(recipient.retry_at)}" if recipient.retry_at else ""
        who = printable(f"<{recipient.address}>", _WIDE)
        typer.echo(f"  {recipient.stamp}  {who}  {recipient.meaning}{until}")


def _time(seconds: float) -> str:
    from backstamp.telemetry.lines import moment

    return moment(int(seconds * 1e6))


def _print_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())
