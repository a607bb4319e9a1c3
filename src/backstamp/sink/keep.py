"""Keeping what a sink receives: a file a message, or a line a message in a log.

The line is written, in one call, before the final reply is sent: whoever was told 250 is
in the log, which is what crash tests count by.
"""

import hashlib
import os
from pathlib import Path

import msgspec

from backstamp.sink.server import Received


class Keeper:
    """Writes messages to a directory, a log, or both. Raises OSError where that cannot be."""

    def __init__(self, directory: Path | None, log: Path | None) -> None:
        self._directory = directory
        self._count = 0
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self._count = len(list(directory.glob("*.eml")))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(log, flags, 0o600) if log is not None else None

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            os.close(self._log)

    def keep(self, message: Received) -> None:
        """Keep one message."""
        if self._directory is not None:
            self._count += 1
            (self._directory / f"{self._count:08}.eml").write_bytes(message.content)
        if self._log is not None:
            line = {
                "sender": message.sender.decode("utf-8", "replace"),
                "recipients": [recipient.decode("utf-8", "replace") for recipient in message.recipients],
                "size": len(message.content),
                "sha256": hashlib.sha256(message.content).hexdigest(),
                "id": _header(message.content, b"x-test-id"),
            }
            os.write(self._log, msgspec.json.encode(line) + b"\n")


def _header(content: bytes, name: bytes) -> str:
    """Return the first field of a name (in lower case), empty where there is none."""
    for line in content.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        field, colon, value = line.partition(b":")
        if colon and field.lower() == name:
            return value.strip().decode("utf-8", "replace")
    return ""
