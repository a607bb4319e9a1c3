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
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from backstamp.config.problem import ConfigurationError, Problem
from backstamp.config.settings import Settings
from backstamp.text import reason

_STARTING: Final = "starting"
"""Told to the child as its second argument."""


def begin(path: str, *, starting: bool = False) -> Callable[[], Settings]:
    """Have a file read; return what waits for the settings. `starting` as for `load.load`.

    That raises ConfigurationError with every mistake, as `load.load` does; one where the child broke.
    """
    # -P: a directory named backstamp where the relay is started from is not the program.
    command = [sys.executable, "-P", "-m", __name__, path, *([_STARTING] if starting else [])]
    try:
        child = subprocess.Popen(  # noqa: S603 - this program, and its own argument
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,  # a Ctrl-C is the relay's to hear
        )
    except OSError as error:
        why = f"cannot be read: its reader cannot be started: {reason(error, place=False)}"
        return partial(_broken, path, why)

    def end() -> Settings:
        with child:
            said, _ = child.communicate()
        if child.returncode:
            _broken(path, f"cannot be read: its reader ended with {child.returncode}")
        found: Settings | tuple[Problem, ...] = pickle.loads(said)  # noqa: S301 - by this program
        if isinstance(found, Settings):
            return found
        raise ConfigurationError(found)

    return end


def _broken(path: str, why: str) -> NoReturn:
    raise ConfigurationError((Problem(path, 0, "", why),))


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
