"""The program as it is typed: what it prints, and how it exits."""

import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

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


def in_shell(output: str, *arguments: str | Path) -> list[str]:
    """Return a command with its output redirected; the shell becomes it."""
    return ["/bin/sh", "-c", f'exec "$@" {output}', "sh", *PROGRAM, *map(str, arguments)]


def shell(output: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = in_shell(output, *arguments)
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


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
    for command in ("check", "serve"):
        line = one_line(run(command, "--config", config))
        assert line.startswith(f'{config}:3: queue.directory: "{tmp_path / "queue"}" is no directory; ')


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_queue_directory_that_is_not_ours(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir(mode=0o500)
    assert one_line(run("serve", "--config", config)).endswith("permission denied")


def test_a_queue_directory_of_somebody_else(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue/FORMAT").write_text("something else\n")
    assert "FORMAT says" in one_line(run("serve", "--config", config))


def test_a_file_of_the_queue_that_cannot_be_opened_is_named(config: Path, tmp_path: Path) -> None:
    """Mostly it is root's, who tried something once."""
    queue = tmp_path / "queue"
    queue.mkdir()
    (queue / "FORMAT").symlink_to("FORMAT")
    why = f"too many levels of symbolic links ({queue}/FORMAT)"
    line = one_line(run("serve", "--config", config))
    assert line == f"backstamp: queue directory {queue}: {why}"
    for command in (["queue", "list", "--queue", queue], ["fsck", queue]):
        assert one_line(run(*command)).startswith(f"backstamp: queue directory {queue}: {why}")


def test_a_suppression_list_that_cannot_be_opened(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue/suppression.sqlite").mkdir(parents=True)
    line = one_line(run("serve", "--config", config))
    assert line == f"backstamp: queue directory {tmp_path / 'queue'}: the suppression list: is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_suppression_list_that_is_not_ours(config: Path, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue/suppression.sqlite").touch(mode=0o000)
    line = one_line(run("serve", "--config", config))
    assert line.endswith("the suppression list: permission denied")


class Serving:
    """`backstamp serve`, started, and its events one by one."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.port = int(config.read_text().partition('address = "127.0.0.1:')[2].partition('"')[0])

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--config", str(self.config)], stdout=subprocess.PIPE, text=True
        )
        self.until("started")
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            if self.process.poll() is None:
                self.process.kill()

    def until(self, event: str) -> dict[str, Any]:
        """Return the next event of a name."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told: dict[str, Any] = json.loads(line)
            if told["event"] == event:
                return told
        raise AssertionError(f"it ended without {event}")

    def stop(self) -> dict[str, Any]:
        """SIGTERM; return the last event."""
        self.process.terminate()
        told = self.until("stopped")
        assert self.process.wait(10) == 0
        return told


def test_a_relay_locked_asked_and_stopped(config: Path, tmp_path: Path) -> None:
    with Serving(config) as serving:
        other = tmp_path / "other.toml"
        other.write_text(config.read_text().replace(f":{serving.port}", f":{free_port()}"))
        assert one_line(run("serve", "--config", other)).endswith("another relay is using it")

        listed = run("queue", "list", "--config", config, "--json")
        assert (listed.returncode, listed.stdout) == (0, "[]\n")
        shown = run("queue", "show", "01M851RQPP73GN3XVVNKKD3C5B", "--config", config)
        assert (shown.returncode, shown.stdout) == (1, "")
        assert serving.stop()["waiting"] == 0


def test_sighup_takes_a_new_configuration_and_keeps_the_old_one_where_it_cannot(config: Path) -> None:
    good = config.read_text()
    with Serving(config) as serving:
        config.write_text(good.replace("lifetime", "lifetimes"))
        serving.process.send_signal(signal.SIGHUP)
        assert "lifetimes" in serving.until("alarm")["problem"]
        # Nobody may relay any more: the next session knows.
        config.write_text(good.replace('allow = ["127.0.0.0/8"]', 'allow = ["192.0.2.0/24"]'))
        serving.process.send_signal(signal.SIGHUP)
        assert serving.until("reloaded")["config"] == str(config)
        with smtplib.SMTP("127.0.0.1", serving.port, timeout=10) as client:
            client.ehlo("client.test")
            client.mail("a@b.example")
            code, _words = client.rcpt("c@d.example")
        assert code == 550
        config.write_text(good.replace(f":{serving.port}", f":{free_port()}"))
        serving.process.send_signal(signal.SIGHUP)
        assert "restart" in serving.until("alarm")["action"]
        serving.stop()


def test_a_file_that_never_comes_holds_up_no_end(config: Path) -> None:
    """As on a file server that is gone: it is being read for ever."""
    with Serving(config) as serving:
        config.unlink()
        os.mkfifo(config)
        serving.process.send_signal(signal.SIGHUP)
        # It is being read when somebody is there to be written to.
        with config.open("w"):
            serving.stop()


def test_a_start_that_waits_for_its_file_can_be_ended(tmp_path: Path) -> None:
    config = tmp_path / "backstamp.toml"
    os.mkfifo(config)
    command = [*PROGRAM, "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with config.open("w"):
            process.terminate()
            assert process.wait(20) == 0
        assert process.communicate() == (b"", b"")


def test_a_relay_that_does_not_run_is_said_in_one_line(config: Path) -> None:
    done = run("queue", "list", "--config", config)
    assert done.returncode == 1
    assert "no relay answers" in done.stderr
    assert "(connection refused); " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stopped_queue_is_read_from_its_files(config: Path, tmp_path: Path) -> None:
    with Serving(config) as serving:
        with smtplib.SMTP("127.0.0.1", serving.port, timeout=10) as client:
            client.sendmail("a@b.example", ["x@y.example", "z@y.example"], "Subject: x\n\nhello\n")
        serving.until("deferred")
        assert serving.stop()["waiting"] == 2
    [message] = json.loads(run("queue", "list", "--queue", tmp_path / "queue", "--json").stdout)
    assert [one["stamp"] for one in message["recipients"]] == ["T", "T"]
    shown = run("queue", "show", message["queue_id"], "--queue", tmp_path / "queue", "--qmail")
    assert shown.stdout == "Tx@y.example\nTz@y.example\n"
    assert "to do" in run("queue", "show", message["queue_id"], "--queue", tmp_path / "queue").stdout
    assert message["queue_id"] in run("queue", "list", "--queue", tmp_path / "queue").stdout


def test_an_operator_decides(config: Path, tmp_path: Path) -> None:
    with Serving(config) as serving:
        with smtplib.SMTP("127.0.0.1", serving.port, timeout=10) as client:
            client.sendmail("a@b.example", ["x@y.example", "z@y.example"], "Subject: x\n\nhello\n")
        queue_id = serving.until("deferred")["queue_id"]
        which = ("--config", config)
        assert run("queue", "doubt", *which, "--json").stdout == "[]\n"
        held = run("queue", "hold", queue_id, "-r", "x@y.example", *which)
        assert held.stdout == f"{queue_id}  held: <x@y.example>\n"
        assert serving.until("operated")["verb"] == "hold"
        [shown] = json.loads(run("queue", "release", queue_id, *which, "--json").stdout)
        assert shown["changed"] == ["x@y.example"]
        removed = run("queue", "remove", "01M851RQPP73GN3XVVNKKD3C5B", queue_id, *which)
        assert removed.returncode == 1
        assert "01M851RQPP73GN3XVVNKKD3C5B is not in the queue" in removed.stderr
        assert removed.stdout == f"{queue_id}  removed: <x@y.example>, <z@y.example>\n"
        again = run("queue", "hold", queue_id, "-r", "nobody@y.example", *which)
        assert again.returncode == 1
        assert serving.stop()["waiting"] == 0
    assert run("queue", "doubt", "--queue", tmp_path / "queue", "--json").stdout == "[]\n"


def test_what_nobody_takes_is_said_in_one_line(config: Path, tmp_path: Path) -> None:
    with Serving(config) as serving:
        serving.stop()
    queue = ["queue", "list", "--queue", tmp_path / "queue"]
    for output in (">&-", ">/dev/full"):
        for words in (["check", "--config", config], [*queue, "--json"], ["queue", "--help"]):
            done = shell(output, *words)
            assert done.returncode == 1
            [line] = done.stderr.splitlines()
            assert line.startswith("backstamp: standard output: ")
        # Where nothing waits nothing is printed, and that is no trouble.
        done = shell(f"{output} <&-", *queue)
        assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
def test_a_relay_whose_events_nobody_takes_runs_on(config: Path, output: str) -> None:
    port = int(config.read_text().rpartition('address = "127.0.0.1:')[2].partition('"')[0])
    with subprocess.Popen(in_shell(output, "serve", "--config", config), stderr=subprocess.PIPE) as process:
        lost = 0.0
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    [line] = [one for one in answer if one.startswith(b"backstamp_events_lost_total ")]
                if lost := float(line.split()[1]):
                    break
            except OSError:
                assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)
        assert lost >= 1


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ('address = "unix:{directory}/sock"', "no listener takes a sample message"),
        ('address = "127.0.0.1:0"\nallow = ["192.0.2.0/24"]', "it was not taken: "),
        ('address = "127.0.0.1:0"', "send it more: "),
    ],
)
def test_a_demo_goes_on_whatever_its_listener_takes(tmp_path: Path, listen: str, said: str) -> None:
    config = tmp_path / "backstamp.toml"
    listen = listen.format(directory=tmp_path)
    config.write_text(
        f'hostname = "a.test"\nqueue = {{directory = "{tmp_path}/q"}}\n[[listen]]\n{listen}\n'
        f'[[route]]\nmatch = "*"\nvia = "127.0.0.1:{free_port()}"\n'
    )
    with subprocess.Popen(
        [*PROGRAM, "demo", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                process.terminate()
        assert process.wait(20) == 0, lines
        assert said in "".join(lines)


def test_queue_wants_to_know_which(tmp_path: Path) -> None:
    assert "--config FILE" in one_line(run("queue", "list"))
    nowhere = tmp_path / "none"
    line = one_line(run("queue", "list", "--queue", nowhere))
    assert line == f"backstamp: {nowhere} is no queue: there is no {nowhere}/FORMAT"


def test_sink_says_what_it_cannot(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "address already in use" in one_line(run("sink", "--listen", f"127.0.0.1:{port}"))
    assert "--listen" in one_line(run("sink", "--listen", "nowhere"))
    assert "--listen" in one_line(run("sink", "--listen", "127.0.0.1:２５"))
    assert "--reply" in one_line(run("sink", "--listen", "127.0.0.1:0", "--reply", "RCPT"))
    for wrong in ("RCPT=999 x", "RCPT=199 x"):
        assert "200 to 599" in one_line(run("sink", "--listen", "127.0.0.1:0", "--reply", wrong))
    assert run("sink", "--listen", "127.0.0.1:0", "--delay", "-1").returncode == 2
    assert "one of CONNECT" in one_line(run("sink", "--listen", "127.0.0.1:0", "--reply", "TURN=500 no"))
    assert "USER:PASSWORD" in one_line(run("sink", "--listen", "127.0.0.1:0", "--auth", "me"))


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
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail("a@b.example", ["x@y.example"], "hello\n")
            client.sendmail("a@b.example", ["x@y.example"], "hello\n")
        process.terminate()
        assert process.stdout.read() == "1 message, 1 recipient, 7 octets\n"
        assert process.wait(10) == 0


def test_sink_in_tls_from_who_says_who_it_is() -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    command = [sys.executable, "-m", "backstamp", "sink", "--listen", "127.0.0.1:0"]
    command += ["--tls", "starttls", "--auth", "me:a:secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.starttls(context=trusting)
            client.login("me", "a:secret")
            client.sendmail("a@b.example", ["x@y.example"], "hello\n")
        process.terminate()
        assert process.stdout.read() == "1 message, 1 recipient, 7 octets\n"
        assert process.wait(10) == 0


def test_version() -> None:
    said = run("version").stdout
    assert said.startswith("backstamp ")
    asked = run("--version")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, said, "")


def test_help_is_of_the_program() -> None:
    said = run("--help").stdout
    assert "Backstamp, an outbound SMTP relay." in said
    assert "--version" in said
