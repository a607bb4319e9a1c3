"""Asking the running relay on its HTTP side, for the commands that do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer

from backstamp.cli.configuration import BAD_CONFIGURATION, load_or_exit
from backstamp.text import reason

if TYPE_CHECKING:
    from http.client import HTTPResponse

Config = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="Ask the relay of this configuration.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

UNREACHABLE = 1

STOPPED = "`queue list`, `queue show` and `suppression list` read a stopped one: --queue"

TIMEOUT = 30.0
"""Seconds to wait for an answer to begin."""


class RefusedError(Exception):
    """The relay answered, and said no: in words for the operator; `details` is the rest of its answer."""

    def __init__(self, text: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.details = details or {}


def ask(
    config: str | None, path: str, body: object = None, *, method: str | None = None
) -> dict[str, Any] | None:
    """Ask the running relay, with a body as a POST or another method; None where it does not know.

    Raises:
        RefusedError: it will not do what the body asks.
    """
    import io

    import msgspec

    octets = None if body is None else io.BytesIO(msgspec.json.encode(body))
    try:
        with send(config, path, octets, method=method) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except UnknownError:
        return None
    except OSError as error:
        fail(f"the relay's answer broke off: {reason(error)}")


class UnknownError(Exception):
    """The relay does not know what was asked for."""


def send(
    config: str | None,
    path: str,
    body: BinaryIO | None = None,
    kind: str = "application/json",
    *,
    method: str | None = None,
    timeout: float = TIMEOUT,
) -> HTTPResponse:
    """Ask the running relay, with a body of a kind; return its answer, to be read and closed.

    Raises:
        RefusedError: it will not do what the body asks.
        UnknownError: there is no such thing.
    """
    import contextlib
    import urllib.error
    import urllib.request

    import msgspec

    if config is None:
        fail(f"say which queue: --config FILE asks the running relay; {STOPPED} DIR")
    settings = load_or_exit(config)
    if settings.admin is None:
        fail(
            f"{config}: without [admin] address a running relay cannot be asked;"
            f" {STOPPED} {settings.queue_directory}"
        )
    host, port = settings.admin
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what a wildcard is asked by
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        request = urllib.request.Request(f"http://{where}{path}", method=method)
        if body is not None:
            request.data = body
            request.add_header("Content-Type", kind)
            request.add_header("Content-Length", str(body.seek(0, 2)))
            body.seek(0)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310 - it is always http
        return answer
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise UnknownError from None
        said = error.read()
        with contextlib.suppress(msgspec.MsgspecError, KeyError):
            details = msgspec.json.decode(said, type=dict[str, Any])
            refused = RefusedError(details.pop("error"), details)
            if body is None:
                fail(str(refused))
            raise refused from None
        fail(f"the relay at {where} answered {error.code}: {said.decode('utf-8', 'replace')[:200]}")
    except OSError as error:
        why = getattr(error, "reason", error)
        because = reason(why) if isinstance(why, Exception) else str(why)
        typer.echo(
            f"backstamp: no relay answers at {where} ({because}); {STOPPED} {settings.queue_directory}",
            err=True,
        )
        raise typer.Exit(UNREACHABLE) from None


def one_of(config: str | None, other: str | None, name: str) -> None:
    """End where both are given, `--config` and what is called `name`: one would be passed over in silence."""
    if config is not None and other is not None:
        fail(f"write one of --config and {name}")


def fail(text: str) -> NoReturn:
    """End with one line."""
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(BAD_CONFIGURATION)
