"""A file in, settings or every mistake out.

Three readers in turn: TOML (one mistake, the standard parser stops at the first), the
model (all mistakes at once), then the records of the rooms. Each mistake carries file,
line and key. Nothing here looks at the machine: whether a port is free or a directory can
be written is found by those who use it.
"""

import os
import re
import tomllib

from pydantic import ValidationError

from backstamp.config import lines, rules
from backstamp.config.complaints import complaints
from backstamp.config.model import DeliveryTable, File, LimitsTable, RetryTable
from backstamp.config.problem import ConfigurationError, Problem
from backstamp.config.settings import Settings
from backstamp.listener.settings import Limits, ListenerSettings
from backstamp.policy.destination import DestinationPolicy, Timeouts
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import NextHop, Route, Smarthost

_PLACE = re.compile(r" \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)$")
_HINTS = {
    "Invalid value": "; strings stand in double quotes",
    "Expected '=' after a key in a key/value pair": "; write key = value",
}


def load(path: str | os.PathLike[str]) -> Settings:
    """Return the settings of a file.

    Raises:
        ConfigurationError: carries every mistake, in the order of the file.
    """
    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError((Problem(file, 0, "", f"cannot be read: {reason}"),)) from None
    return parse(content, file)


def parse(content: bytes, file: str) -> Settings:
    """Return the settings a file's octets mean; `file` names it in problems.

    Raises:
        ConfigurationError: carries every mistake, in the order of the file.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"octet 0x{content[error.start]:02x} is not UTF-8, as TOML must be"
        raise ConfigurationError((Problem(file, line, "", message),)) from None
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError((_syntax_problem(text, file, error),)) from None
    mistakes = rules.repetitions(document)
    try:
        model = File.model_validate(document)
    except ValidationError as error:
        mistakes += complaints(error.errors(include_url=False), File)
    if not mistakes:
        return _settings(model)
    found = lines.notes(text)
    problems = [
        Problem(file, lines.line_of(found, path) or 1, lines.written(path), message)
        for path, message in mistakes
    ]
    raise ConfigurationError(tuple(sorted(problems, key=lambda problem: problem.line)))


def _syntax_problem(text: str, file: str, error: Exception) -> Problem:
    """Name line and key of what tomllib could not read; it tells the line, the scanner the key."""
    if isinstance(error, RecursionError):
        return Problem(file, 0, "", "not TOML: nested too deeply")
    said = str(error)
    place = _PLACE.search(said)
    reason = said[: place.start()] if place else said
    if place and place[1]:
        line, column = int(place[1]), f", column {place[2]}"
    else:
        line, column = text.rstrip().count("\n") + 1, ", at the end of the file" if place else ""
    key = lines.written(lines.reading_at(lines.notes(text), line))
    return Problem(
        file, line, key, f"not TOML: {reason[:1].lower()}{reason[1:]}{column}{_HINTS.get(reason, '')}"
    )


def _settings(file: File) -> Settings:
    limits = _limits(file.limits)
    return Settings(
        hostname=file.hostname,
        queue_directory=file.queue.directory,
        queue_reserve=file.queue.reserve,
        listeners=tuple(
            ListenerSettings(
                hostname=file.hostname,
                host=table.address.host,
                port=table.address.port,
                allow=tuple(table.allow),
                submission=table.submission,
                at_most_once=table.semantics == "at-most-once",
                limits=limits,
            )
            for table in file.listen
        ),
        destination=_destination(file.delivery, file.retry),
        routes=tuple(
            Route(
                table.match,
                Smarthost((NextHop(table.via.host, table.via.port),)),
                at_most_once=table.semantics == "at-most-once",
            )
            for table in file.route
        ),
        nameservers=tuple(file.dns.nameservers),
        admin=file.admin.address,
        log_attempts=file.log.attempts,
    )


def _limits(table: LimitsTable) -> Limits:
    return Limits(
        message_size=table.message_size,
        recipients=table.recipients,
        connections=table.connections,
        hops=table.hops,
        idle=table.command_timeout,
        message=table.data_timeout,
    )


def _destination(table: DeliveryTable, retry: RetryTable) -> DestinationPolicy:
    return DestinationPolicy(
        retry=RetryPolicy(schedule=tuple(retry.schedule), lifetime=retry.lifetime),
        timeouts=Timeouts(**dict(table.timeouts)),
        connections=table.connections,
        messages_per_connection=table.messages_per_connection,
        recipients_per_transaction=table.recipients_per_transaction,
        idle=table.idle,
        port=table.port,
        private_addresses=table.private_addresses,
    )
