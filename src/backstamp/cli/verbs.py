"""`backstamp queue hold|release|retry|remove|bounce`: what becomes of mail in the running relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backstamp.cli.ask import UNREACHABLE, AsJson, Config, RefusedError, ask
from backstamp.cli.ids import QueueIds
from backstamp.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

VERBS = {
    "hold": ("held", "Keep recipients from being sent to, until they are released."),
    "release": ("released", "Send to held recipients again."),
    "retry": ("due now", "Try waiting recipients now."),
    "remove": ("removed", "Give recipients up without a report. There is no way back."),
    "bounce": ("returned", "Give recipients up; the sender gets a report."),
}

Recipients = Annotated[
    list[str] | None,
    typer.Option("--recipient", "-r", metavar="ADDRESS", help="Only this recipient; may be repeated."),
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    for verb, (done, text) in VERBS.items():
        group.command(verb, help=text)(_command(verb, done))


def _command(verb: str, done: str) -> Callable[..., None]:
    def command(
        queue_ids: QueueIds, recipient: Recipients = None, config: Config = None, json: AsJson = False
    ) -> None:
        answers = []
        failed = False
        for queue_id in queue_ids:
            body = {"recipients": recipient} if recipient else {}
            try:
                answer = ask(config, f"/api/v1/queue/{queue_id}/{verb}", body)
            except RefusedError as error:
                typer.echo(f"backstamp: {queue_id}: {error}", err=True)
                failed = True
                continue
            if answer is None:
                text = "is not in the queue: it is finished, or was never here"
                typer.echo(f"backstamp: {queue_id} {text}", err=True)
                failed = True
                continue
            answers.append({"queue_id": queue_id, **answer})
            if not json:
                changed = ", ".join(printable(f"<{address}>") for address in answer["changed"])
                typer.echo(f"{queue_id}  {done}: {changed or 'nobody; none of its recipients is for that'}")
        if json:
            import msgspec

            typer.echo(msgspec.json.encode(answers).decode())
        if failed:
            raise typer.Exit(UNREACHABLE)

    return command
