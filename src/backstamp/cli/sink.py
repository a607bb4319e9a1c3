"""`backstamp sink`: a server that takes all mail and delivers none of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from backstamp.sink.server import Sink

from backstamp.cli.configuration import BAD_CONFIGURATION
from backstamp.cli.words import count

Listen = Annotated[str, typer.Option("--listen", metavar="ADDR", help="Address and port: 127.0.0.1:2526.")]
Replies = Annotated[
    list[str] | None,
    typer.Option(
        "--reply",
        metavar="VERB=REPLY",
        help="Answer CONNECT, EHLO, MAIL, RCPT, DATA or DOT so: RCPT=450 4.2.0 later.",
    ),
]
First = Annotated[
    int | None, typer.Option("--first", min=1, metavar="N", help="Use each --reply N times only.")
]
Delay = Annotated[
    float, typer.Option("--delay", min=0, metavar="SECONDS", help="Wait before answering the final dot.")
]
Dropping = Annotated[bool, typer.Option("--drop-after-dot", help="Close at the final dot, without a reply.")]
Connections = Annotated[
    int | None, typer.Option("--connections", min=0, metavar="N", help="Tell 421 above N connections.")
]
Tls = Annotated[
    Literal["none", "starttls", "implicit"],
    typer.Option("--tls", help="Offer STARTTLS, or speak TLS from the first octet; self-signed."),
]
Auth = Annotated[
    str | None,
    typer.Option("--auth", metavar="USER:PASSWORD", help="Take mail only from who says so (AUTH)."),
]
Directory = Annotated[
    Path | None, typer.Option("--directory", metavar="DIR", help="Keep each message as a file.")
]
Log = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Append a JSON line for each message.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sink)


def sink(
    listen: Listen,
    reply: Replies = None,
    first: First = None,
    delay: Delay = 0.0,
    drop_after_dot: Dropping = False,
    connections: Connections = None,
    tls: Tls = "none",
    auth: Auth = None,
    directory: Directory = None,
    log: Log = None,
) -> None:
    """Take all mail, count it, deliver none of it. For tests; faults on demand."""
    import contextlib

    from backstamp import running
    from backstamp.sink.keep import Keeper
    from backstamp.sink.script import VERBS, Script
    from backstamp.sink.server import OK, Options, Sink

    host, _, port = listen.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        _fail(f"--listen {listen}: write address:port, 127.0.0.1:2526")
    credentials = None
    if auth is not None:
        user, colon, password = auth.partition(":")
        if not (user and colon):
            _fail("--auth: write USER:PASSWORD")
        credentials = (user, password)
    script = Script()
    for item in reply or ():
        verb, _, words = item.partition("=")
        code, _, text = words.partition(" ")
        if not (code.isascii() and code.isdecimal() and len(code) == 3 and "2" <= code[0] <= "5"):
            _fail(f"--reply {item}: write VERB=CODE TEXT with a code of 200 to 599, RCPT=450 4.2.0 later")
        if verb.upper() not in VERBS:
            _fail(f"--reply {item}: the verb is one of {', '.join(VERBS)}")
        script.say(verb.upper(), int(code), text, times=first)
    if delay or drop_after_dot:
        script.do("DOT", octets=b"" if drop_after_dot else OK, delay=delay, close=drop_after_dot)
    with contextlib.ExitStack() as stack:
        try:
            keeper = stack.enter_context(Keeper(directory, log)) if directory or log else None
        except OSError as error:
            _fail(f"{error.filename}: {(error.strerror or str(error)).lower()}")
        receive = keeper.keep if keeper is not None else None
        server = Sink(
            host.strip("[]"),
            int(port),
            options=Options(connections=connections, tls=tls, auth=credentials),
            script=script,
            received=receive,
        )
        running.loop(_run(server, listen))


async def _run(server: Sink, listen: str) -> None:
    import asyncio
    import signal

    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    try:
        await server.start()
    except OSError as error:
        _fail(f"sink {listen}: {(error.strerror or str(error)).lower()}")
    typer.echo("sink on {}:{}".format(*server.address))
    await stop.wait()
    await server.close()
    numbers = ((server.messages, "message"), (server.recipients, "recipient"), (server.octets, "octet"))
    typer.echo(", ".join(count(number, what) for number, what in numbers))


def _fail(text: str) -> None:
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(BAD_CONFIGURATION)
