"""`backstamp fsck`: what a queue holds, every checksum verified; `--repair` mends a stopped one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backstamp.cli.ask import AsJson, fail, one_of
from backstamp.cli.configuration import load_or_exit
from backstamp.cli.words import count
from backstamp.text import reason

if TYPE_CHECKING:
    from backstamp.queue.fsck import Finding, Report, SegmentReport

DAMAGED = 1

Directory = Annotated[str | None, typer.Argument(metavar="DIR", help="The queue's directory.")]
OfConfig = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="The queue of this configuration.")
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair", help="Keep what is damaged in corrupt/, write the rest anew. The relay must be stopped."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fsck)


def fsck(
    directory: Directory = None, config: OfConfig = None, repair: Repair = False, json: AsJson = False
) -> None:
    """Verify a queue, stopped or running: exit 0 if it is sound, 1 if something is damaged.

    Without --repair nothing is changed.
    """
    one_of(config, directory, "DIR")
    if directory is None:
        if config is None:
            fail("say which queue: its directory, or --config FILE")
        directory = load_or_exit(config).queue_directory
    report = _examine(directory, repair=repair)
    if json:
        import msgspec

        told = {**msgspec.to_builtins(report), "sound": report.sound}
        typer.echo(msgspec.json.encode(told).decode())
    else:
        _print(report, repair=repair)
    if not report.sound:
        raise typer.Exit(DAMAGED)


def _examine(directory: str, *, repair: bool) -> Report:
    import os
    import time

    from backstamp.queue import fsck
    from backstamp.queue.files import QueueLockedError
    from backstamp.queue.recovery import FormatError
    from backstamp.queue.repair import repair as mend

    files = fsck.AroundFiles()
    try:
        if repair:
            return mend(files, directory, salt=lambda: os.urandom(16), now=time.time_ns() // 1000)
        return fsck.examine(files, directory)
    except QueueLockedError:
        fail(f"{directory} is in use: stop the relay before it is repaired")
    except FormatError as error:
        fail(str(error))
    except OSError as error:
        fail(f"queue directory {directory}: {reason(error)}")


def _print(report: Report, *, repair: bool) -> None:
    for segment in report.segments:
        typer.echo(f"segment {segment.number}: {_state(segment)}; {_contents(segment)}")
        for finding in segment.findings:
            _tell(finding, repaired=segment.repaired)
    for finding in report.findings:
        _tell(finding, repaired=repair and not finding.damage)
    alive = sum(segment.alive for segment in report.segments)
    damaged = sum(one.damaged for one in report.segments) + sum(one.damage for one in report.findings)
    typer.echo(
        f"{report.directory}: {count(len(report.segments), 'segment')},"
        f" {count(alive, 'message')} alive, {damaged} damaged; {count(report.kept, 'file')} in corrupt/"
    )
    if damaged and not repair:
        typer.echo(f"stop the relay, then: backstamp fsck --repair {report.directory}", err=True)


def _state(segment: SegmentReport) -> str:
    if segment.repaired:
        return "was damaged, repaired"
    return "DAMAGED" if segment.damaged else "sound"


def _contents(segment: SegmentReport) -> str:
    letters = " ".join(f"{number} {letter}" for letter, number in sorted(segment.stamps.items()))
    recipients = f" ({letters})" if letters else ""
    return f"{segment.alive} alive, {segment.done} done{recipients}, {segment.octets} octets"


def _tell(finding: Finding, *, repaired: bool) -> None:
    where = f"octets {finding.start} to {finding.end}: " if finding.end else ""
    whose = f"{finding.queue_id}: " if finding.queue_id else ""
    typer.echo(f"  {where}{whose}{finding.what}")
    if repaired:
        typer.echo(f"    done: {finding.repair}")
    else:
        typer.echo(f"    {'--repair' if finding.damage else 'a start'}: {finding.repair}")
