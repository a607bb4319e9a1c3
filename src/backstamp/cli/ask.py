"""Asking the running relay on its HTTP side, for the commands that do."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from backstamp.cli.configuration import BAD_CONFIGURATION, load_or_exit

Config = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="Ask the relay of this configuration.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

UNREACHABLE = 1


class RefusedError(Exception):
    """The relay answered, and said no: in words for the operator."""


def ask(config: str | None, path: str, body: object = None) -> dict[str, Any] | None:
    """Ask the running relay, with a body as a POST; None where it does not know.

    Raises:
        RefusedError: it will not do what the body asks.
    """
    import contextlib
    import urllib.error
    import urllib.request

    import msgspec

    if config is None:
        fail("say which queue: --config FILE asks the running relay, --queue DIR reads a stopped one")
    settings = load_or_exit(config)
    if settings.admin is None:
        fail(f"{config}: without [admin] address a running relay cannot be asked; stopped, --queue reads it")
    host, port = settings.admin
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what a wildcard is asked by
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        request = urllib.request.Request(f"http://{where}{path}")
        if body is not None:
            request.data = msgspec.json.encode(body)
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - it is always http
            return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        if body is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                raise RefusedError(msgspec.json.decode(error.read(), type=dict[str, str])["error"]) from None
        fail(f"the relay at {where} answered {error.code}: {error.read().decode('utf-8', 'replace')[:200]}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        typer.echo(
            f"backstamp: no relay answers at {where} ({reason});"
            f" a stopped one: --queue {settings.queue_directory}",
            err=True,
        )
        raise typer.Exit(UNREACHABLE) from None


def fail(text: str) -> NoReturn:
    """End with one line."""
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(BAD_CONFIGURATION)
