"""`backstamp check` and the frame of the command line, as a user runs it."""

import os
import subprocess
import sys

import pytest

from backstamp import __version__

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def backstamp(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backstamp", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_a_good_file_is_one_line_and_exit_0():
    done = backstamp("check", "--config", "conf/dev.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "conf/dev.toml: fine; listens on 127.0.0.1 port 2525, queue in var/queue\n"


def test_all_mistakes_are_on_standard_error_and_exit_2(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('hostname = 5\n[retry]\nschedule = ["5 parsecs"]\n')
    done = backstamp("check", "--config", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{path}:1: hostname: 5 is not a domain name; write relay.example.org",
        f"{path}:1: queue: missing; it has no default",
        f"{path}:1: listen: missing; it has no default",
        f'{path}:3: retry.schedule[0]: "5 parsecs" is not a duration; write 30s, 5m, 2h or 1d',
    ]


@pytest.mark.parametrize(
    "arguments", [("check",), ("check", "--config", "/nowhere/x.toml"), ("no-such-command",)]
)
def test_wrong_usage_is_exit_2_without_a_traceback(arguments):
    done = backstamp(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_version():
    done = backstamp("version")
    assert (done.returncode, done.stdout) == (0, f"backstamp {__version__}\n")


def test_a_start_imports_no_heavy_room():
    program = "import sys, backstamp.cli; backstamp.cli.build(); print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"aiohttp", "aiosmtpd", "aiosmtplib", "dns", "cryptography", "backstamp.config"}
