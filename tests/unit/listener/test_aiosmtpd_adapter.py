"""What aiosmtpd's own tests talk to (`make interop`) has what the session asks for: they run seldom."""

import subprocess
import sys

PROGRAM = """
from tests.interop.aiosmtpd_adapter import Gathered, Handing, Judging, Showing
from backstamp.queue.port import Deposit, Intake

def lacks(stands_in, port):
    return [name for name in vars(port) if not name.startswith("_") and not hasattr(stands_in, name)]

print(lacks(Handing, Intake), lacks(Gathered, Deposit))
print([name for name in ("context", "trusts") if not hasattr(Showing, name)])
print([name for name in ("authentication", "check") if not hasattr(Judging, name)])
"""


def test_the_adapter_keeps_up_with_the_ports() -> None:
    """In a process of its own: the adapter puts our session in the place of aiosmtpd's."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["[] []", "[]", "[]"], done.stderr
