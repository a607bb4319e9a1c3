"""The relays under measurement: how each is set up on loopback, started and stopped.

Each has its queue on a real disk below the directory it is given, listens on a port of its
own, and sends everything to one sink. Postfix is Debian's, with an instance of its own; the
machine's own configuration is not touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Protocol

from measure import tree

ROOT = Path(__file__).resolve().parent.parent


class Relay(Protocol):
    """One relay."""

    name: str
    port: int
    recipients_per_transaction: int
    cpu_known: bool
    """Whether the time of its ended processes is charged to their parents."""

    def start(self) -> int:
        """Start it, wait until it answers, and return the process at the root of its tree."""
        ...

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        ...


def free_port() -> int:
    """Return a port nobody has at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def await_greeting(port: int, seconds: float = 30) -> None:
    """Wait until an SMTP server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                if sock.recv(3) == b"220":
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


class Backstamp:
    """This relay, as `backstamp serve` runs it."""

    name = "backstamp"
    recipients_per_transaction = 100
    cpu_known = True

    def __init__(
        self,
        directory: Path,
        sink: int | None,
        program: Path | None = None,
        *,
        more: str = "",
        limits: str = "",
    ) -> None:
        """Without a sink mail goes by MX; `more` are tables of the configuration, `limits` keys of one."""
        self._directory = directory
        self._program = program or ROOT / ".venv/bin/backstamp"
        route = "" if sink is None else f'[[route]]\nmatch = "*"\nvia = "127.0.0.1:{sink}"\n'
        self._tables = route + more
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.admin = ""
        """Address of its HTTP side, once it runs."""

    def start(self) -> int:
        """Start with an empty queue."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        self.admin = f"127.0.0.1:{free_port()}"
        config = self._directory / "backstamp.toml"
        config.write_text(
            f"""hostname = "relay.example.org"
[queue]
directory = "{self._directory}/queue"
[[listen]]
address = "127.0.0.1:{self.port}"
[limits]
recipients = 2000
{self._limits}
[admin]
address = "{self.admin}"
{self._tables}"""
        )
        with self.events.open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, "serve", "--config", config], stdout=log, stderr=log, start_new_session=True
            )
        await_greeting(self.port)
        with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=10) as answer:
            assert answer.status == 200
        return self._process.pid

    @property
    def events(self) -> Path:
        """The file of its events."""
        return self._directory / "events.json"

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: where deliveries are under way that would take minutes to end."""
        if self._process is not None:
            self._process.kill()
            self.stop()


TUNED = {
    "in_flow_delay": "0",
    "default_destination_concurrency_limit": "50",
    "initial_destination_concurrency": "50",
    "default_destination_recipient_limit": "1000",
    "default_process_limit": "100",
    "qmgr_message_active_limit": "40000",
}


SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""".splitlines()


class Postfix:
    """Debian's Postfix, an instance of its own: default settings, or tuned for this load."""

    cpu_known = True

    def __init__(self, directory: Path, sink: int, *, tuned: bool = False, hold: bool = False) -> None:
        """With `hold` mail is taken and stays where it is."""
        self.name = "postfix-tuned" if tuned else "postfix"
        self.recipients_per_transaction = 1000 if tuned else 50
        self.port = free_port()
        self._directory = directory
        self._config = directory / "config"
        self._sink = sink
        self._tuned = tuned
        self._hold = hold

    def start(self) -> int:
        """Start with an empty queue."""
        shutil.rmtree(self._directory, ignore_errors=True)
        for part in ("config", "queue", "data"):
            (self._directory / part).mkdir(parents=True)
        shutil.chown(self._directory / "data", "postfix", "postfix")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": f"{self._directory}/queue",
            "data_directory": f"{self._directory}/data",
            "myhostname": "relay.example.org",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "relayhost": f"[127.0.0.1]:{self._sink}",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
            "smtpd_recipient_limit": "5000",
            "smtpd_tls_security_level": "none",
            "smtp_tls_security_level": "none",
            "alias_maps": "",
            "alias_database": "",
            # Postfix takes no log file outside /var, and without one it needs syslog.
            "maillog_file": "/var/log/backstamp-bench-postfix.log",
            "smtpd_client_connection_count_limit": "0",
        }
        if self._tuned:
            settings |= TUNED | {"smtp_connection_cache_destinations": f"[127.0.0.1]:{self._sink}"}
        if self._hold:
            settings["smtpd_client_restrictions"] = "static:HOLD"
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        (self._config / "main.cf").write_text(text)
        (self._config / "master.cf").write_text(self._services())
        # The tables of the package that the daemons want to see beside main.cf.
        for name in ("dynamicmaps.cf", "postfix-files"):
            if (Path("/etc/postfix") / name).exists():
                shutil.copy(Path("/etc/postfix") / name, self._config / name)
        self._run("start")
        await_greeting(self.port)
        return int((self._directory / "queue/pid/master.pid").read_text())

    def _services(self) -> str:
        rows = [f"127.0.0.1:{self.port} inet n - n - - smtpd"]
        rows += SERVICES
        return "\n".join(rows) + "\n"

    def stop(self) -> None:
        """Stop the instance and wait until its processes are gone."""
        pid = self._directory / "queue/pid/master.pid"
        if not pid.exists():
            return
        pids = tree(int(pid.read_text()))
        self._run("stop")
        end = time.monotonic() + 20
        while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.1)
        Path("/var/log/backstamp-bench-postfix.log").unlink(missing_ok=True)

    def _run(self, command: str) -> None:
        done = subprocess.run(
            ["/usr/sbin/postfix", "-c", self._config, command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"postfix {command}: {done.stderr or done.stdout}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process we started."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(10)
