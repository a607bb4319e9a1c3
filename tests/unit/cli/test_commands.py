"""The program as it is typed: what it prints, and how it exits."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.process import CONFIG, free_port

PROGRAM = (sys.executable, "-m", "backstamp")


def run(*arguments: str | Path, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "backstamp.toml"
    path.write_text(
        CONFIG.format(queue=tmp_path / "queue", port=free_port(), via="127.0.0.1:9", admin=free_port())
    )
    return path


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line a failure may be told in; no traceback."""
    assert done.returncode == 2, done
    [line] = done.stderr.splitlines()
    return line


def test_a_syntax_error_names_file_line_and_key(config: Path) -> None:
    config.write_text('hostname = "relay.example.org"\n[queue]\ndirectory = /var/queue\n')
    line = one_line(run("serve", "--config", config))
    assert line.startswith(f"{config}:3: queue.directory: ")


def test_an_unknown_key_names_its_neighbour(config: Path) -> None:
    config.write_text(config.read_text().replace("lifetime", "lifetimes"))
    assert "lifetime" in one_line(run("serve", "--config", config))


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    assert "no such file" in one_line(run("serve", "--config", tmp_path / "nothing.toml"))


def test_a_port_in_use(config: Path) -> None:
    port = int(config.read_text().partition('address = "127.0.0.1:')[2].partition('"')[0])
    with socket.create_server(("127.0.0.1", port)):
        line = one_line(run("serve", "--config", config))
    assert line == f"backstamp: listen address 127.0.0.1 port {port}: already in use by another program"


def test_an_admin_port_in_use(config: Path) -> None:
    port = int(config.read_text().rpartition('address = "127.0.0.1:')[2].partition('"')[0])
    with socket.create_server(("127.0.0.1", port)):
        line = one_line(run("serve", "--config", config))
    assert line == f"backstamp: admin address 127.0.0.1 port {port}: already in use by another program"


def test_a_queue_directory_that_cannot_be(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("a file")
    line = one_line(run("serve", "--config", config))
    assert line == f"backstamp: queue directory {tmp_path / 'queue'}: not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_queue_directory_that_is_not_ours(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir(mode=0o500)
    assert one_line(run("serve", "--config", config)).endswith("permission denied")


def test_a_queue_directory_of_somebody_else(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue/FORMAT").write_text("something else\n")
    assert "FORMAT says" in one_line(run("serve", "--config", config))


def test_a_relay_started_locked_asked_and_stopped(config: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "backstamp", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["event"] != "started":
            pass
        port = int(config.read_text().partition('address = "127.0.0.1:')[2].partition('"')[0])
        other = tmp_path / "other.toml"
        other.write_text(config.read_text().replace(f":{port}", f":{free_port()}"))
        assert one_line(run("serve", "--config", other)).endswith("another relay is using it")

        listed = run("queue", "list", "--config", config, "--json")
        assert (listed.returncode, listed.stdout) == (0, "[]\n")
        shown = run("queue", "show", "01M851RQPP73GN3XVVNKKD3C5B", "--config", config)
        assert (shown.returncode, shown.stdout) == (1, "")

        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        last = [json.loads(line) for line in process.stdout][-1]
        assert last["event"] == "stopped"
        assert process.wait(10) == 0


def test_a_relay_that_does_not_run_is_said_in_one_line(config: Path) -> None:
    done = run("queue", "list", "--config", config)
    assert done.returncode == 1
    assert "no relay answers" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stopped_queue_is_read_from_its_files(config: Path, tmp_path: Path) -> None:
    port = int(config.read_text().partition('address = "127.0.0.1:')[2].partition('"')[0])
    with subprocess.Popen(
        [sys.executable, "-m", "backstamp", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["event"] != "started":
            pass
        import smtplib

        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.sendmail("a@b.example", ["x@y.example", "z@y.example"], "Subject: x\n\nhello\n")
        while json.loads(process.stdout.readline())["event"] != "deferred":
            pass
        process.terminate()
        process.stdout.read()
        assert process.wait(10) == 0
    listed = json.loads(run("queue", "list", "--queue", tmp_path / "queue", "--json").stdout)
    [message] = listed
    assert [one["stamp"] for one in message["recipients"]] == ["T", "T"]
    shown = run("queue", "show", message["queue_id"], "--queue", tmp_path / "queue", "--qmail")
    assert shown.stdout == "Tx@y.example\nTz@y.example\n"
    assert "to do" in run("queue", "show", message["queue_id"], "--queue", tmp_path / "queue").stdout
    assert message["queue_id"] in run("queue", "list", "--queue", tmp_path / "queue").stdout


def test_queue_wants_to_know_which(tmp_path: Path) -> None:
    assert "--config FILE" in one_line(run("queue", "list"))
    assert one_line(run("queue", "list", "--queue", tmp_path / "none")).endswith("no such file or directory")


def test_sink_says_what_it_cannot(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "address already in use" in one_line(run("sink", "--listen", f"127.0.0.1:{port}"))
    assert "--listen" in one_line(run("sink", "--listen", "nowhere"))
    assert "--reply" in one_line(run("sink", "--listen", "127.0.0.1:0", "--reply", "RCPT"))


def test_sink_counts() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "backstamp",
            "sink",
            "--listen",
            "127.0.0.1:0",
            "--reply",
            "RCPT=450 later",
            "--first",
            "1",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        import smtplib

        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail("a@b.example", ["x@y.example"], "hello\n")
            client.sendmail("a@b.example", ["x@y.example"], "hello\n")
        process.terminate()
        assert process.stdout.read() == "1 messages, 1 recipients, 7 octets\n"
        assert process.wait(10) == 0


def test_version() -> None:
    assert run("version").stdout.startswith("backstamp ")
