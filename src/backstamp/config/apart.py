"""A configuration read in a process of its own, which ends when it is read.

Reading takes pydantic, a TOML parser and whatever looks at certificates: a fifth of the memory of a
relay, needed for a moment. And a reload in the relay's own process would hold up all its clients. The
child says on its standard output what came of it, as a pickle: the settings, or all mistakes.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from typing import Final

from backstamp.config.problem import ConfigurationError, Problem
from backstamp.config.settings import Settings
from backstamp.text import reason

_STARTING: Final = "starting"
"""Told to the child as its second argument."""


class Reading:
    """A file that is being read. Called, it waits for the settings; another thread may `stop` it.

    That raises ConfigurationError with every mistake, as `load.load` does; one where the child broke.
    """

    def __init__(self, path: str, *, starting: bool) -> None:
        self._path = path
        self._broken = ""
        # -P: a directory named backstamp where the relay is started from is not the program.
        command = [sys.executable, "-P", "-m", __name__, path, *([_STARTING] if starting else [])]
        try:
            self._child = subprocess.Popen(  # noqa: S603 - this program, and its own argument
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                process_group=0,  # a Ctrl-C is the relay's to hear
            )
        except OSError as error:
            self._broken = f"its reader cannot be started: {reason(error, place=False)}"

    def __call__(self) -> Settings:
        """Return the settings; blocks until they are there. Raises ConfigurationError."""
        if not self._broken:
            with self._child:
                said, _ = self._child.communicate()
            if not self._child.returncode:
                found: Settings | tuple[Problem, ...] = pickle.loads(said)  # noqa: S301 - by this program
                if isinstance(found, Settings):
                    return found
                raise ConfigurationError(found)
            self._broken = f"its reader ended with {self._child.returncode}"
        raise ConfigurationError((Problem(self._path, 0, "", f"cannot be read: {self._broken}"),))

    def stop(self) -> None:
        """Have it read no more: whoever waits for it goes on, and is told a mistake."""
        if not self._broken:
            self._child.kill()


def begin(path: str, *, starting: bool = False) -> Reading:
    """Have a file read; return what waits for the settings. `starting` as for `load.load`."""
    return Reading(path, starting=starting)


def load(path: str) -> Settings:
    """Return the settings of a file; blocks until they are there. Raises ConfigurationError."""
    return begin(path)()


def main() -> None:
    """Read the file named on the command line; the child's part."""
    from backstamp.config.load import load as read

    said: Settings | tuple[Problem, ...]
    try:
        said = read(sys.argv[1], starting=_STARTING in sys.argv[2:])
    except ConfigurationError as error:
        said = error.problems
    # Whom it was for may be gone.
    with contextlib.suppress(BrokenPipeError), os.fdopen(1, "wb") as out:
        out.write(pickle.dumps(said))


if __name__ == "__main__":
    main()
