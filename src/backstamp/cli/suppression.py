"""`backstamp suppression`: who is not to be sent to, in the running relay or a stopped queue's file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from backstamp.cli.ask import (
    UNREACHABLE,
    AsJson,
    Config,
    RefusedError,
    UnknownError,
    ask,
    decoded,
    fail,
    one_of,
    send,
)
from backstamp.cli.words import count
from backstamp.text import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backstamp.policy.suppression import Entry

_PATH = "/api/v1/suppression"
_PAGE = 1000

OLD = "the running relay has no suppression list: it is of an earlier version"

PATIENCE = 3600.0
"""Seconds an import may take: a million entries take ten to twenty."""

Directory = Annotated[
    str | None, typer.Option("--queue", metavar="DIR", help="Read a stopped queue's directory.")
]
Addresses = Annotated[
    list[str], typer.Argument(metavar="ADDRESS", help="user@domain, or @domain for a whole domain.")
]
OfAddress = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="Only entries of this address.")
]
OfDomain = Annotated[
    str | None, typer.Option("--domain", metavar="DOMAIN", help="Only entries of this domain.")
]
OfTenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="TENANT", help="Only of this tenant; '': those for all."),
]
ForTenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="For this tenant only.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Entries to list at most.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept with the entry.")]
For = Annotated[
    str | None, typer.Option("--for", metavar="DURATION", help="How long, as 30d; until it is removed.")
]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")
]
File = Annotated[
    str, typer.Argument(metavar="FILE", help="NDJSON as exported, or *.csv; - is standard input (NDJSON).")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Look at the suppression list, and decide who is on it.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("list")(list_)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("export")(export)
    group.command("import")(import_)
    app.add_typer(group, name="suppression")


def list_(
    config: Config = None,
    queue: Directory = None,
    address: OfAddress = None,
    domain: OfDomain = None,
    tenant: OfTenant = None,
    limit: Limit = 100,
    json: AsJson = False,
) -> None:
    """List entries by domain and address."""
    import msgspec

    one_of(config, queue, "--queue")
    _check(address)
    asked = {"address": address, "domain": domain, "tenant": tenant}
    # One more than is listed tells whether there are more.
    pages = _running(config, asked, limit + 1) if queue is None else _stopped(queue, asked, limit + 1)
    found = [entry for page in pages for entry in page]
    listed = found[:limit]
    if json:
        typer.echo(msgspec.json.encode(listed).decode())
    else:
        for entry in listed:
            typer.echo(_line(entry))
    if len(found) > limit:
        typer.echo(f"the first {limit}; there are more: --limit N", err=True)


def add(
    addresses: Addresses,
    config: Config = None,
    tenant: ForTenant = "",
    note: Note = "",
    lasting: For = None,
    json: AsJson = False,
) -> None:
    """Suppress addresses; who is on the list already gets this entry instead."""
    import msgspec

    from backstamp.policy.suppression import Entry

    expires = _end(lasting)
    answers = []
    failed = False
    for address in addresses:
        body = {"address": address, "tenant": tenant, "reply": note, "expires": expires}
        try:
            answer = _known(ask(config, _PATH, body))
        except RefusedError as error:
            typer.echo(f"backstamp: {address}: {error}", err=True)
            failed = True
            continue
        answers.append(answer)
        if not json:
            typer.echo(f"suppressed: {_line(msgspec.convert(answer, Entry))}")
    _end_of(answers, json=json, failed=failed)


def remove(
    addresses: Addresses, config: Config = None, tenant: OfTenant = None, json: AsJson = False
) -> None:
    """Take addresses off the list: for everybody, or for one tenant."""
    answers = []
    failed = False
    for address in addresses:
        body = {"address": address} if tenant is None else {"address": address, "tenant": tenant}
        try:
            answer = ask(config, _PATH, body, method="DELETE")
        except RefusedError as error:
            typer.echo(f"backstamp: {address}: {error}", err=True)
            failed = True
            continue
        if answer is None:
            typer.echo(f"backstamp: {address} is not on the list", err=True)
            failed = True
            continue
        answers += answer["removed"]
        if not json:
            for one in answer["removed"]:
                typer.echo(f"removed: {one['address']}{_whose(one['tenant'])}")
    _end_of(answers, json=json, failed=failed)


def export(config: Config = None, queue: Directory = None, output: Output = "-") -> None:
    """Write the whole list as NDJSON, one entry a line, as import takes it."""
    from http.client import HTTPException

    from backstamp.policy.suppression_file import export as line

    one_of(config, queue, "--queue")
    try:
        if queue is None:
            with send(config, f"{_PATH}/export") as answer:
                _write(output, iter(lambda: answer.read(1 << 16), b""))
        else:
            _write(output, (b"".join(map(line, page)) for page in _stopped(queue, {}, None)))
    except UnknownError:
        fail(OLD)
    except HTTPException:
        fail("the relay's answer broke off; the export is not whole", UNREACHABLE)
    except OSError as error:
        where = "standard output" if output == "-" else output
        fail(f"{where}: {reason(error, place=False)}; the export is not whole", UNREACHABLE)


def _write(output: str, pieces: Iterable[bytes]) -> None:
    """Write an export: one that was cut off has not the name of a whole one, nor any other."""
    import contextlib
    import os

    if output == "-" or (os.path.exists(output) and not os.path.isfile(output)):
        # What is no file is written into as it is: a terminal, a pipe.
        with contextlib.nullcontext(sys.stdout.buffer) if output == "-" else open(output, "wb") as stream:
            stream.writelines(pieces)
            stream.flush()
        return
    output = os.path.realpath(output)
    new = f"{output}.new"
    try:
        with open(new, "wb") as file:
            file.writelines(pieces)
        os.replace(new, output)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def import_(file: File, config: Config = None, json: AsJson = False) -> None:
    """Add every entry of a file, or, where one line is wrong, none."""
    import msgspec

    from backstamp.policy.suppression_file import CSV, NDJSON

    kind = CSV if file.lower().endswith(".csv") else NDJSON
    source = "standard input" if file == "-" else file
    try:
        with (
            _opened(file) as octets,
            send(config, f"{_PATH}/import", octets, kind, timeout=PATIENCE) as answer,
        ):
            taken = decoded(answer)["entries"]
    except RefusedError as error:
        for mistake in error.details.get("mistakes", []):
            typer.echo(f"{source}:{mistake['line']}: {mistake['problem']}", err=True)
        typer.echo(f"backstamp: {source}: {error if not error.details else 'nothing was taken'}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    except UnknownError:
        fail(OLD)
    except OSError as error:
        fail(f"{source}: {reason(error, place=False)}")
    words = f"{count(taken, 'entry', 'entries')} taken"
    typer.echo(msgspec.json.encode({"entries": taken}).decode() if json else words)


def _opened(file: str) -> BinaryIO:
    """Return a file whose length can be told before it is sent; standard input is read into one."""
    import shutil
    import tempfile

    if file != "-":
        return open(file, "rb")
    kept = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(sys.stdin.buffer, kept)
    return cast("BinaryIO", kept)


def _running(config: str | None, asked: dict[str, str | None], limit: int) -> Iterator[list[Entry]]:
    """Yield pages of the running relay's list."""
    from urllib.parse import urlencode

    import msgspec

    from backstamp.policy.suppression import Entry

    query = {name: value for name, value in asked.items() if value is not None}
    while limit > 0:
        query["limit"] = str(min(limit, _PAGE))
        answer = _known(ask(config, f"{_PATH}?{urlencode(query)}"))
        page = msgspec.convert(answer["entries"], list[Entry])
        yield page
        limit -= len(page)
        if answer["next"] is None:
            return
        query["after"] = answer["next"]


def _stopped(directory: str, asked: dict[str, str | None], limit: int | None) -> Iterator[list[Entry]]:
    """Yield pages of a stopped queue's list."""
    import os
    import sqlite3

    from backstamp.policy.suppression import canonical, wanted
    from backstamp.suppression.database import NAME, Asked, DamagedFileError, Database

    if not os.path.isdir(directory):
        fail(f"queue directory {directory}: no such directory")
    address, domain = asked.get("address"), asked.get("domain")
    database = Database(f"{directory}/{NAME}")
    try:
        wish = Asked(
            address=None if address is None else wanted(address),
            domain=None if domain is None else canonical(b"@" + domain.encode())[1:],
            tenant=asked.get("tenant"),
        )
        database.open()
        after = None
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            page = database.page(
                Asked(address=wish.address, domain=wish.domain, tenant=wish.tenant, after=after, limit=size)
            )
            if not page:
                return
            yield page
            limit = None if limit is None else limit - len(page)
            after = (page[-1].address, page[-1].tenant)
    except BlockingIOError:
        fail(f"{database.path}: a relay has it open; ask that one with --config FILE")
    except (ValueError, DamagedFileError, sqlite3.Error) as error:
        fail(f"{database.path}: {error}")
    except OSError as error:
        fail(f"{database.path}: {error.strerror.lower()}" if error.strerror else str(error))
    finally:
        database.close()


def _check(address: str | None) -> None:
    """End where `--address` is none: the relay and the file would not know whose mistake it is."""
    from backstamp.policy.suppression import wanted

    try:
        if address is not None:
            wanted(address)
    except ValueError as error:
        fail(f"{address}: {error}")


def _known(answer: dict[str, Any] | None) -> dict[str, Any]:
    if answer is None:
        fail(OLD)
    return answer


def _end(lasting: str | None) -> int | None:
    """Return when an entry of a duration ends."""
    import time

    from backstamp.config.units import duration

    try:
        return None if lasting is None else int(time.time() + duration(lasting))
    except ValueError as error:
        fail(f"--for: {error}")


def _line(entry: Entry) -> str:
    from backstamp.telemetry.lines import moment
    from backstamp.text import printable

    end = "until it is removed" if entry.expires is None else f"until {moment(entry.expires * 1_000_000)}"
    why = " ".join(word for word in (entry.bounce_class, entry.reply) if word)
    words = f"{entry.address}{_whose(entry.tenant)}  {entry.source.value}  {end}"
    return printable(f"{words}  {why}" if why else words)


def _whose(tenant: str) -> str:
    return f"  for {tenant}" if tenant else ""


def _end_of(answers: list[dict[str, Any]], *, json: bool, failed: bool) -> None:
    import msgspec

    if json:
        typer.echo(msgspec.json.encode(answers).decode())
    if failed:
        raise typer.Exit(UNREACHABLE)
