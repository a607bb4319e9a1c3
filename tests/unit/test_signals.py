"""Signals at moments when no loop is there to hear them: sent by the program itself, so nothing is timed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.process import CONFIG, free_port

from backstamp.signals import Signals

PROGRAM = """\
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
from backstamp.{room} import {name}
real = {name}.{moment}
def then(*arguments, **named):
    for one in {signals}:
        os.kill(os.getpid(), one)
    return real(*arguments, **named)
{name}.{moment} = then
{more}
from backstamp.__main__ import main
sys.argv = ["backstamp", "serve", "--config", sys.argv[1]]
main()
"""
BEGIN = {"room": "config", "name": "apart", "moment": "begin"}
OPEN = {"room": "app", "name": "Relay", "moment": "_open_queue"}
READY = {"room": "app", "name": "Relay", "moment": "_started"}
CLOSED = {"room": "telemetry.log", "name": "EventLog", "moment": "close"}
"""The reader begins; the loop runs, but the relay is not composed; it is ready; the loop is closed.

One more comes at the end of the interpreter, every time.
"""

RELOADED = """\
from backstamp.app import Relay
reload = Relay.reload
def reloaded(self, settings):
    reload(self, settings)
    self.stop()
Relay.reload = reloaded
"""
STOPPED = """\
from backstamp.app import Relay
started = Relay._started
Relay._started = lambda self: (started(self), self.stop())
"""
WHOLE = (["recovered", "started", "stopped"], "", 0)
AGAIN = (["recovered", "started", "reloaded", "stopped"], "", 0)
NOTHING: tuple[list[str], str, int] = ([], "", 0)


def serve(
    directory: Path, at: dict[str, str], signals: str, *, more: str = "", config: str = ""
) -> tuple[list[str], str, int]:
    """Serve with signals at a moment; return names of events, what was said, the exit code."""
    good = CONFIG.format(queue=directory / "queue", port=free_port(), via="127.0.0.1:9", admin=free_port())
    path = directory / "backstamp.toml"
    path.write_text(config or good)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(**at, signals=signals, more=more), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [json.loads(line)["event"] for line in done.stdout.splitlines()], done.stderr, done.returncode


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_end_asked_for_before_there_is_a_relay(tmp_path: Path, name: str) -> None:
    assert serve(tmp_path, BEGIN, f"[signal.{name}]") == NOTHING
    assert not (tmp_path / "queue").exists()


def test_an_end_is_no_mistake_of_the_configuration(tmp_path: Path) -> None:
    """A supervisor's signal goes to all processes of a group: the reader may die of it."""
    assert serve(tmp_path, BEGIN, "[signal.SIGTERM]", config="?") == NOTHING


def test_an_end_asked_for_while_it_starts_is_kept(tmp_path: Path) -> None:
    assert serve(tmp_path, OPEN, "[signal.SIGTERM]") == WHOLE


@pytest.mark.parametrize("at", [BEGIN, OPEN])
def test_a_reload_asked_for_at_the_start_waits_for_the_relay(tmp_path: Path, at: dict[str, str]) -> None:
    """The reload ends this relay: without one it would run on."""
    assert serve(tmp_path, at, "[signal.SIGHUP]", more=RELOADED) == AGAIN


def test_signals_while_it_ends_change_nothing(tmp_path: Path) -> None:
    assert serve(tmp_path, READY, "[signal.SIGTERM, signal.SIGTERM]") == WHOLE


def test_the_ears_outlive_the_loop(tmp_path: Path) -> None:
    late = "[signal.SIGTERM, signal.SIGHUP, signal.SIGINT]"
    assert serve(tmp_path, CLOSED, late, more=STOPPED) == WHOLE


def test_a_reader_whose_relay_is_gone_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "backstamp.toml"
    path.write_text("?")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "backstamp.config.apart", str(path)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 0)


def test_who_answers_is_asked_what_came_before() -> None:
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    told: list[str] = []
    signals = Signals()
    try:
        signals.hear()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.ending
        signals.answer(
            lambda what: what(), end=lambda: told.append("end"), reload=lambda: told.append("reload")
        )
        assert told == ["reload"]
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.ending
        assert told == ["reload", "end"]
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
