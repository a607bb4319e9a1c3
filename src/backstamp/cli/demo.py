"""`backstamp demo`: the relay, a sink behind it, and one sample message. What `make run` runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from backstamp.cli.configuration import BAD_CONFIGURATION, ConfigOption, load_or_exit
from backstamp.cli.words import count

if TYPE_CHECKING:
    import asyncio

    from backstamp.app import Relay
    from backstamp.config import Settings

SAMPLE = """\
From: Ada <ada@example.org>
To: Grace <grace@example.com>
Subject: Hello

This message was accepted with one durable write, and its delivery is one byte.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(config: ConfigOption) -> None:
    """Run the relay with a sink behind it, send one message through, and go on serving."""
    settings = load_or_exit(config)
    from backstamp import running
    from backstamp.app import Relay, StartError

    if not settings.routes:
        _fail(f"{config}: the demo wants a [[route]] that leads to the sink")
    try:
        with running.event_log(sys.stdout) as (log, metrics):
            running.loop(_demo(Relay(settings, log, metrics), settings))
    except StartError as error:
        _fail(str(error))


async def _demo(relay: Relay, settings: Settings) -> None:
    import asyncio

    from backstamp import running
    from backstamp.sink.server import Sink

    assert settings.routes[0].via is not None
    via = settings.routes[0].via.hosts[0]
    sink = Sink(via.host, via.port)
    try:
        await sink.start()
    except OSError as error:
        _fail(f"sink {via.host}:{via.port}: {(error.strerror or str(error)).lower()}")
    running.on_signals(relay, lambda: None)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(relay.run(ready))
        group.create_task(_introduce(relay, settings, ready))
    await sink.close()
    _say(f"the sink took {count(sink.messages, 'message')}")


async def _introduce(relay: Relay, settings: Settings, ready: asyncio.Event) -> None:
    """Send the sample when the relay is there, and say what to try next."""
    import asyncio

    await ready.wait()
    if (plain := _plain(relay, settings)) is None:
        _say("relay is there; no listener takes a sample message: that wants an IP address, no TLS, no AUTH")
    else:
        host, port = plain
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        _say(f"relay on {where}; everything goes to the built-in sink. One sample message:")
        if why := await asyncio.to_thread(_send, host, port):
            _say(f"it was not taken: {why}")
        await asyncio.sleep(0.5)
        _say(f"send it more:   swaks --server {where} --from you@example.org --to them@example.com")
    if settings.admin is not None:
        _say(f"look at it:     curl http://{settings.admin}/metrics")
    _say("stop it:        Ctrl-C")


def _plain(relay: Relay, settings: Settings) -> tuple[str, int] | None:
    """Return where a program takes mail that says nothing of itself, None where no listener does."""
    from backstamp.listener.settings import Auth

    return next(
        (
            address
            for address, one in zip(relay.addresses, settings.listeners, strict=False)
            if not one.local and one.tls.mode == "none" and one.auth is not Auth.REQUIRED
        ),
        None,
    )


def _send(host: str, port: int) -> str:
    """Send the sample; return why it was not taken, empty if it was."""
    import smtplib

    try:
        with smtplib.SMTP(host, port, timeout=10) as client:
            client.sendmail("ada@example.org", ["grace@example.com"], SAMPLE)
    except OSError as error:  # smtplib's own are some, too
        return str(error)
    return ""


def _say(text: str) -> None:
    typer.echo(f"# {text}", err=True)


def _fail(text: str) -> NoReturn:
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(BAD_CONFIGURATION)
