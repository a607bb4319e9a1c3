"""A file in, settings or every mistake out.

Three readers in turn: TOML (one mistake, the standard parser stops at the first), the
tables, alone and between them (all mistakes at once), then the records of the rooms. Each
mistake carries file, line and key. Of the machine only the files of passwords and certificates
are looked at, before a start those of users and sockets too: whether a port is free or a directory
can be written is found by those who use it.
"""

import os
import re
import tomllib

from pydantic import ValidationError

from backstamp.config import (
    authentication,
    between,
    build,
    certificates,
    lines,
    listening,
    passwords,
    shipped,
    smarthosts,
    surroundings,
)
from backstamp.config.complaints import complaints
from backstamp.config.model import File
from backstamp.config.problem import ConfigurationError, Problem
from backstamp.config.settings import Settings

_PLACE = re.compile(r" \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)$")
_HINTS = {
    "Invalid value": "; strings stand in double quotes",
    "Expected '=' after a key in a key/value pair": "; write key = value",
}


def load(path: str | os.PathLike[str], *, starting: bool = False) -> Settings:
    """Return the settings of a file; `starting` looks at what only a start needs, too.

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
    return parse(content, file, starting=starting)


def parse(content: bytes, file: str, *, starting: bool = False) -> Settings:
    """Return the settings a file's octets mean; `file` names it in problems, `starting` as for `load`.

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
    known = shipped.known()
    mistakes = between.mistakes(document, known.by_name()) + smarthosts.mistakes(document)
    mistakes += authentication.mistakes(document)
    secrets, unread = passwords.read(document)
    token_secret, unread_too = passwords.token_secret(document)
    mistakes += unread + unread_too + listening.mistakes(document) + certificates.mistakes(document)
    if starting:
        mistakes += surroundings.mistakes(document)
    try:
        model = File.model_validate(document)
    except ValidationError as error:
        mistakes += complaints(error.errors(include_url=False), File)
    if not mistakes:
        return build.settings(model, known, secrets, token_secret)
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
