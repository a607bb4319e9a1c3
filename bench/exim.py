"""Debian's Exim beside Debian's Postfix: unpacked into a directory of ours, not installed.

    .venv/bin/python bench/exim.py                         # once, as root: fetch and unpack (2 MB)

The two packages exclude each other. Exim wants its user in the password file: it gets a mount
namespace with a copy that has one, and runs as that user. Its deliveries leave their parents, so
a process that inherits them stands at the root of the tree. What they used of the CPU is not known
even so: Exim ignores the ends of its children, and the kernel then charges nobody.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from relays import ROOT, await_greeting, free_port

HOME = ROOT / "var/exim"
BINARY = HOME / "usr/sbin/exim4"
PACKAGES = ("exim4-daemon-light", "libidn12")
USER = "Debian-exim"
UID = 29825
_PR_SET_CHILD_SUBREAPER = 36

CONFIG = """
primary_hostname = relay.example.org
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/pid
exim_path = {binary}
keep_environment = LD_LIBRARY_PATH
add_environment = LD_LIBRARY_PATH={libraries}
deliver_drop_privilege = true
tls_advertise_hosts =
acl_smtp_rcpt = accept
acl_smtp_data = accept
recipients_max = 5000
smtp_accept_max = 200
# By default only the first ten messages of a connection are delivered at once.
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
begin routers
all:
  driver = manualroute
  transport = out
  route_list = * 127.0.0.1
  self = send
begin transports
out:
  driver = smtp
  port = {sink}
  allow_localhost = true
  hosts_avoid_tls = *
begin retry
* * F,1h,1m
"""


class Exim:
    """Debian's Exim, default settings but for what a relay of everything needs; each message at once."""

    name = "exim"
    recipients_per_transaction = 100
    cpu_known = False

    def __init__(self, directory: Path, sink: int) -> None:
        self.port = free_port()
        self._directory = directory
        self._sink = sink
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start with an empty queue."""
        shutil.rmtree(self._directory, ignore_errors=True)
        for part in ("spool", "log"):
            (self._directory / part).mkdir(parents=True)
            os.chown(self._directory / part, UID, UID)
        os.chown(self._directory, UID, UID)
        libraries = next(HOME.glob("usr/lib/*/libidn.so.12")).parent
        text = CONFIG.format(
            directory=self._directory, binary=BINARY, libraries=libraries, port=self.port, sink=self._sink
        )
        (self._directory / "exim.conf").write_text(text)
        mounts = []
        for name, row in (
            ("passwd", f"{USER}:x:{UID}:{UID}::/nonexistent:/bin/false"),
            ("group", f"{USER}:x:{UID}:"),
        ):
            copy = self._directory / name
            copy.write_text(Path("/etc", name).read_text() + row + "\n")
            mounts.append(f"mount --bind {copy} /etc/{name}")
        run = f"exec setpriv --reuid={UID} --regid={UID} --clear-groups env LD_LIBRARY_PATH={libraries}"
        run += f" {BINARY} -C {self._directory}/exim.conf -bdf -q1m"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "unshare", "--mount", "--propagation", "private", "sh", "-c",
             " && ".join([*mounts, run])],
            start_new_session=True,
        )  # fmt: skip
        await_greeting(self.port)
        return self._process.pid

    def stop(self) -> None:
        """Stop it; the process at the root ends when its last descendant has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


def available() -> bool:
    """Tell whether it was fetched, and can be run."""
    return BINARY.exists() and os.geteuid() == 0


def fetch() -> None:
    """Unpack the packages."""
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=directory, check=True)
        for package in Path(directory).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, HOME], check=True)
    # Set-uid programs take no LD_LIBRARY_PATH; it needs no privilege here.
    BINARY.chmod(0o755)


def inherit(command: list[str]) -> None:
    """Run a command, pass SIGTERM on, and wait for it and for all it leaves behind."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    inherit(sys.argv[1:]) if len(sys.argv) > 1 else fetch()
