"""`sendmail` as a process: from its arguments to its exit code.

Nothing is queued here and nothing is promised before the relay's 250. Every failure is one line on standard
error and an exit code of sysexits(3). Start-up is felt by every job of cron: no module here imports the
libraries of the relay, nor the standard library's `email`, but where a message needs it.
"""

import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from backstamp.sendmail import message, options, transaction, where
from backstamp.sendmail.addresses import AddressListError, addresses
from backstamp.sendmail.client import Client, connect
from backstamp.sendmail.failure import (
    CONFIGURATION,
    DATA,
    SOFTWARE,
    SYSTEM,
    TEMPORARY,
    USAGE,
    SendmailError,
    code_of,
)
from backstamp.sendmail.gather import MEMORY, PIECE, Gathered
from backstamp.sendmail.options import Mode, Options

DEFAULT_FILE = "/etc/backstamp/backstamp.toml"
VARIABLE = "BACKSTAMP_CONFIG"


def main(program: str, arguments: Sequence[str]) -> int:
    """Do what a command line asks for; return the exit code. `program` is the name it was called by."""
    _keep_places()
    try:
        return _run(options.parse(program, arguments))
    except SendmailError as error:
        _say(str(error))
        return error.code
    except OSError as error:  # no room for a large message, or nobody reads what -bs writes
        _say((error.strerror or str(error)).lower())
        return TEMPORARY
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a caller reads exit codes: a traceback would be 1, which means nothing to it
        _say(f"internal error: {error!r}")
        return SOFTWARE


def _run(asked: Options) -> int:
    file = asked.config or os.environ.get(VARIABLE) or DEFAULT_FILE
    if asked.mode is Mode.NOTHING:
        return 0
    if asked.mode is Mode.LIST:
        return _instead("queue", "list", "--config", file)
    if asked.mode is Mode.RETRY:
        return _instead("queue", "retry", asked.queue_id, "--config", file)
    place = where.find(_read(file), file)
    if asked.mode is Mode.SERVE:
        return _serve(connect(place))
    return _deliver(asked, place)


def _read(file: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(file, "rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SendmailError(CONFIGURATION, f"{file}: cannot be read: {reason}") from None
    except ValueError as error:
        raise SendmailError(CONFIGURATION, f"{file}: not TOML: {error}") from None


def _instead(*arguments: str) -> int:
    """Become another command of ours; it speaks to the operator in its own way."""
    os.execv(sys.executable, [sys.executable, "-m", "backstamp", *arguments])  # noqa: S606 - no shell is meant


def _deliver(asked: Options, place: where.Where) -> int:
    sender = None if asked.sender is None else _sender(asked.sender, place.hostname)
    recipients = _listed(asked.recipients, place.hostname)
    if not recipients and not asked.extract:
        raise SendmailError(USAGE, "nobody is named: write recipients, or -t to take them from the message")
    content = Gathered(message.wire(_input(), dot_ends=asked.dot_ends))
    head = message.head(content.first)
    if content.long and head.end == len(content.first):
        raise SendmailError(DATA, f"the header has more than {MEMORY} octets")
    if asked.extract:
        recipients += _listed(head.recipients(), place.hostname)
        if not recipients:
            raise SendmailError(USAGE, "nobody is named in the message: To, Cc and Bcc have no address")
    field = b"" if head.has(b"from") else _from(asked, sender, place.hostname)
    begin = partial(message.begin, content.first, head, field, hostname=place.hostname)
    envelope = transaction.Envelope(
        sender=_user(place.hostname) if sender is None else sender,
        recipients=_once(recipients),
        size=len(begin()) + content.rest,
        eight_bit=content.eight_bit or asked.eight_bit or not field.isascii(),
        notify=asked.notify,
        ret=asked.ret,
        envelope_id=options.xtext(asked.envelope_id),
    )
    client = Client(connect(place))
    try:
        opened = client.open()
        if opened[0] != "2":
            raise SendmailError(code_of(opened), opened)
        outcome = transaction.send(client, envelope, lambda part: content.pieces(begin(part=part)))
    finally:
        client.quit()
    for one in outcome.refused:
        _say(f"<{one.recipient}>: {one.reply}")
    if asked.verbose:
        for reply in outcome.taken:
            _tell(1, reply)
    return outcome.code


def _input() -> Iterator[bytes]:
    """Yield standard input as it comes; what cannot be read must not look like an end."""
    try:
        while piece := os.read(0, PIECE):
            yield piece
    except OSError as error:
        raise SendmailError(DATA, f"the message cannot be read: {error.strerror or error}") from None


def _sender(text: str, hostname: str) -> str:
    """Return the reverse-path of -f; empty for `<>` and for nothing."""
    if text.strip() in ("", "<>"):
        return ""
    found = _listed([text], hostname)
    if len(found) != 1:
        raise SendmailError(DATA, f"-f: {text!r} is not one address")
    return found[0]


def _listed(texts: Sequence[str], hostname: str) -> list[str]:
    # An address is data wherever it stands: whoever calls has it from others, as what is in a message.
    try:
        return [one for text in texts for one in addresses(text, hostname)]
    except AddressListError as error:
        raise SendmailError(DATA, str(error)) from None


def _once(recipients: Sequence[str]) -> list[str]:
    """Return each recipient once; only the domain is the same in any case (RFC 5321 §2.4)."""
    return list(
        {one[: one.rfind("@")] + one[one.rfind("@") :].lower(): one for one in reversed(recipients)}.values()
    )[::-1]


def _from(asked: Options, sender: str | None, hostname: str) -> bytes:
    name = (
        asked.name
        if asked.name is not None
        else os.environ.get("NAME") or _account().pw_gecos.partition(",")[0]
    )
    return message.from_field(name, sender or _user(hostname))


def _user(hostname: str) -> str:
    return f"{_account().pw_name}@{hostname}"


def _account() -> Any:
    import pwd

    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        raise SendmailError(SYSTEM, f"user {os.getuid()} has no name; say who sends with -f and -F") from None


def _serve(sock: socket.socket) -> int:
    """Carry octets between the caller and the relay until the relay ends it (-bs)."""
    sock.settimeout(None)
    sources: list[int] = [0, sock.fileno()]
    while True:
        ready, _, _ = select.select(sources, (), ())
        if sock.fileno() in ready:
            octets = sock.recv(PIECE)
            if not octets:
                return 0
            _write(octets)
        elif 0 in ready:
            octets = os.read(0, PIECE)
            if octets:
                sock.sendall(octets)
            else:
                sources.remove(0)
                sock.shutdown(socket.SHUT_WR)


def _write(octets: bytes) -> None:
    while octets:
        octets = octets[os.write(1, octets) :]


def _say(text: str) -> None:
    _tell(2, f"sendmail: {text}")


def _tell(where: int, text: str) -> None:
    """Write a line; that nobody can read it changes nothing about the mail, nor the exit code."""
    with contextlib.suppress(OSError):
        os.write(where, f"{text}\n".encode("utf-8", "backslashreplace"))


def _keep_places() -> None:
    """Have something behind 0, 1 and 2, or what is opened next would be taken for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # to read from it is an error, not an empty message
