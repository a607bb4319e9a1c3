"""Standard streams of a process that was started without some, or whose output nobody can take.

A closed descriptor is the next file's or connection's, and what is printed would go there. So each gets
something in its place before anything is opened: standard output what every write to fails, so that what is
lost is noticed, the others what is always empty. Leaf.
"""

import errno
import io
import os
import sys
from typing import Any


def keep() -> None:
    """Have something behind descriptors 0, 1 and 2, and a stream for each."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    # None is where the interpreter found nothing; whoever prints does not expect that.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


class Output(io.FileIO):
    """Descriptor 1, which remembers what kept it from being written to."""

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)
        self._trouble: OSError | None = None

    def write(self, octets: Any, /) -> Any:
        """Write, as `io.RawIOBase` says."""
        try:
            return super().write(octets)
        except OSError as error:
            self._trouble = error
            raise

    def stand_in(self) -> None:
        """Be what standard output writes to from now on."""
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(self),
            encoding=sys.stdout.encoding,
            errors=sys.stdout.errors,
            line_buffering=self.isatty(),
        )

    def give_up(self) -> str:
        """Return why it could not be written to, empty if it could; what is left to write is dropped then."""
        if self._trouble is None:
            return ""
        # Or the interpreter tries again at its end, and says so.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        closed = self._trouble.errno == errno.EBADF
        return "it is closed" if closed else (self._trouble.strerror or str(self._trouble)).lower()
