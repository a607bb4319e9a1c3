"""`backstamp`, and `python -m backstamp`: which command line it is.

`sendmail` is not one command among the others: programs call it by that name and by its own rules,
and its start is felt at every mail. So it is found out here, before the frame of the others is imported.
"""

import os
import sys

from backstamp.sendmail.main import PROGRAMS
from backstamp.sendmail.main import main as sendmail


def main() -> None:
    """Run the command line; the entry point of `backstamp`, `sendmail`, `mailq` and `newaliases`."""
    program, *arguments = sys.argv
    name = os.path.basename(program)
    if name in PROGRAMS:
        sys.exit(sendmail(name, arguments))
    if arguments[:1] == ["sendmail"]:
        sys.exit(sendmail("sendmail", arguments[1:]))
    from backstamp import cli

    cli.main()


if __name__ == "__main__":
    main()
