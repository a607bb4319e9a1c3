"""`backstamp explain` and `backstamp route` as they are typed, against a running relay."""

import json
import smtplib
from pathlib import Path

import pytest
from tests.unit.cli.test_commands import Serving, config, one_line, run

__all__ = ["config"]

NOBODY = "01M851RQPP73GN3XVVNKKD3C5B"


def test_why_a_message_waits_and_which_way_mail_goes(config: Path) -> None:
    with Serving(config) as serving:
        with smtplib.SMTP("127.0.0.1", serving.port, timeout=10) as client:
            client.sendmail("a@b.example", ["x@y.example"], "Subject: x\n\nhello\n")
        queue_id = serving.until("deferred")["queue_id"]
        said = run("explain", queue_id, "--config", config)
        assert said.returncode == 0
        assert said.stdout.startswith(f"{queue_id}\nFrom <a@b.example>")
        assert "y.example, for <x@y.example>" in said.stdout
        assert f"backstamp queue retry {queue_id}" in said.stdout or "under way" in said.stdout
        told = json.loads(run("explain", queue_id, "-r", "x@y.example", "-c", config, "--json").stdout)
        assert told["facts"]["queue_id"] == queue_id
        gone = run("explain", NOBODY, "--config", config)
        assert (gone.returncode, gone.stdout) == (1, "")
        assert gone.stderr.startswith(f"backstamp: {NOBODY} is not in the queue")

        way = run("route", "x@y.example", "--from", "<>", "--config", config)
        assert way.returncode == 0
        assert "To the smarthost 127.0.0.1:9, by the route * to *." in way.stdout
        told = json.loads(run("route", "x@y.example", "-c", config, "--json").stdout)
        assert told["facts"]["sender"] is None
        serving.stop()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("explain", "nonsense"), "26 characters"),
        (("route", "nonsense"), "nonsense: is not an address; write user@example.org"),
        (("route", "@y.example"), "@y.example: is not an address; write user@example.org"),
        (("route", "<a@y.example>"), "<a@y.example>: is not an address; write user@example.org"),
        (("route", "a@y.example", "--from", "b"), "b: is not an address; write user@example.org"),
        (("route", "a@192.0.2.1"), "a@192.0.2.1: is not an address: the domain is a number"),
        (("suppression", "list", "--address", "x y"), "x y: is not an address; write user@example.org"),
        (("route", "a@[127.0.0.1]"), "a@[127.0.0.1]: 550 5.1.2 Address literals are not accepted"),
    ],
)
def test_what_cannot_be_asked(config: Path, arguments: tuple[str, ...], word: str) -> None:
    assert word in one_line(run(*arguments, "--config", config))


@pytest.mark.parametrize("arguments", [("explain", NOBODY), ("route", "a@y.example")])
def test_no_relay_answers(config: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--config", config)
    assert done.returncode == 1
    assert "no relay answers" in done.stderr
    assert "`queue list`, `queue show` and `suppression list` read a stopped one: --queue" in done.stderr
