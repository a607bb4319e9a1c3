"""Asking the running relay on its HTTP side, for the commands that do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer

from backstamp.cli.configuration import BAD_CONFIGURATION, load_or_exit
from backstamp.text import printable, reason

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
            return decoded(answer)
    except UnknownError:
        return None


def decoded(answer: HTTPResponse) -> dict[str, Any]:
    """Return what the relay said, whole."""
    from http.client import HTTPException

    import msgspec

    try:
        return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except HTTPException:
        fail("the relay's answer broke off", UNREACHABLE)
    except OSError as error:
        fail(f"the relay's answer broke off: {reason(error)}", UNREACHABLE)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        fail("what answers on [admin] address is no relay", UNREACHABLE)


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

    It is asked itself: neither a proxy of the environment, nor whoever it would send us to.

    Raises:
        RefusedError: it will not do what the body asks.
        UnknownError: there is no such thing.
    """
    from http.client import HTTPConnection, HTTPException

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
    headers = {"Connection": "close"}
    if body is not None:
        headers |= {"Content-Type": kind, "Content-Length": str(body.seek(0, 2))}
        body.seek(0)
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = connection.getresponse()
        # The answer keeps the socket for as long as it is read.
        if connection.sock is not None:
            connection.sock.close()
            connection.sock = None
        if answer.status != 200:
            with answer:
                _refused(where, answer.status, answer.read(), asked=body is not None)
        return answer
    except OSError as error:
        connection.close()
        fail(
            f"no relay answers at {where} ({reason(error)}); {STOPPED} {settings.queue_directory}",
            UNREACHABLE,
        )
    except HTTPException:
        connection.close()
        fail(f"what answers at {where} is no relay", UNREACHABLE)


def _refused(where: str, status: int, said: bytes, *, asked: bool) -> NoReturn:
    """Tell of an answer that is none: the caller, if something was to be done, else the operator."""
    import contextlib

    import msgspec

    if status == 404:
        raise UnknownError
    # What is wrong with a question is its asker's; all else went wrong.
    code = BAD_CONFIGURATION if status == 400 else UNREACHABLE
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        details = msgspec.json.decode(said, type=dict[str, Any])
        refused = RefusedError(str(details.pop("error")), details)
        if asked:
            raise refused
        fail(str(refused), code)
    words = printable(said.decode("utf-8", "replace"), 200)
    fail(f"the relay at {where} answered {status}{f': {words}' if words else ''}", code)


def one_of(config: str | None, other: str | None, name: str) -> None:
    """End where both are given, `--config` and what is called `name`: one would be passed over in silence."""
    if config is not None and other is not None:
        fail(f"write one of --config and {name}")


def fail(text: str, code: int = BAD_CONFIGURATION) -> NoReturn:
    """End with one line."""
    typer.echo(f"backstamp: {text}", err=True)
    raise typer.Exit(code)
