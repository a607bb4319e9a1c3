"""`backstamp`, and `python -m backstamp`: which command line it is.

`sendmail` is not one command among the others: programs call it by that name and by its own rules,
and its start is felt at every mail. `serve` runs for months, and what reads command lines would be a
sixth of its memory. So both are found out here, before the frame of the others is imported. And before
anything is, a relay hears signals: who starts it may ask it to end at once.
"""

import os
import sys

from backstamp import signals, streams
from backstamp.sendmail import PROGRAMS


def main() -> None:
    """Run the command line; the entry point of `backstamp`, `sendmail`, `mailq` and `newaliases`."""
    program, *arguments = sys.argv
    name = os.path.basename(program)
    if name in PROGRAMS or arguments[:1] == ["sendmail"]:
        from backstamp.sendmail.main import main as sendmail

        sys.exit(sendmail(name, arguments) if name in PROGRAMS else sendmail("sendmail", arguments[1:]))
    if arguments[:1] == ["serve"]:
        signals.ours.hear()
    streams.keep()
    if (config := _served(arguments)) is not None:
        from backstamp.config import apart

        reading = apart.begin(config, starting=True)
        from backstamp import serving

        return serving.main(config, reading)
    from backstamp import cli

    return cli.main()


def _served(arguments: list[str]) -> str | None:
    """Return the file of a plain `serve --config FILE`; however else it is written is for the frame."""
    match arguments:
        case ["serve", "--config" | "-c", file] if not file.startswith("-"):
            return file
        case ["serve", option] if option.startswith("--config="):
            return option.removeprefix("--config=")
    return None


if __name__ == "__main__":
    main()
