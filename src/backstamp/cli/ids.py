"""Queue ids as a command takes them: parsed before anything is asked.

What is no queue id is never sent to the relay, where it could name something else, and every command
says the same about it. What a command gets is the id as listings show it, in upper case.
"""

from __future__ import annotations

from typing import Annotated

import typer

from backstamp.cli.ask import fail


def _one(written: str) -> str:
    from backstamp.queue import ids

    try:
        return ids.text(ids.parse(written))
    except ValueError as error:
        fail(str(error))


def _some(written: list[str]) -> list[str]:
    return [_one(each) for each in written]


QueueId = Annotated[str, typer.Argument(metavar="QUEUE_ID", callback=_one)]
QueueIds = Annotated[list[str], typer.Argument(metavar="QUEUE_ID", callback=_some)]
