"""Events as lines: JSON for programs, text for people."""

import json
from typing import Any

import msgspec
import pytest

from backstamp.telemetry import events, lines
from backstamp.telemetry.events import Event

NOW = 1_764_000_000_123_456
EVENTS: list[Event] = [
    events.Started(time=NOW, version="1", addresses=("127.0.0.1:25",), waiting=3),
    events.Reloaded(time=NOW, config="/etc/backstamp/backstamp.toml"),
    events.Stopped(time=NOW, waiting=3),
    events.Accepted(
        time=NOW, queue_id="Q", client="127.0.0.1", sender="a@b.example", recipients=2, size=10, duration=0.5
    ),
    events.Repeated(time=NOW, queue_id="Q", client="127.0.0.1", user="u"),
    events.Refused(time=NOW, client="127.0.0.1", command="RCPT", reply="550 no", recipient="c@d.example"),
    events.Authenticated(time=NOW, client="192.0.2.1", user="ann", mechanism="PLAIN"),
    events.AuthenticationFailed(
        time=NOW, client="192.0.2.1", mechanism="PLAIN", reason="credentials", reply="535 no", user="ann"
    ),
    events.AuthenticationFailed(
        time=NOW, client="192.0.2.1", mechanism="OAUTHBEARER", reason="trouble", reply="454 later"
    ),
    events.Limited(time=NOW, client="192.0.2.1", limit="message_rate", reply="450 4.7.1 no", count=3),
    events.HandshakeFailed(time=NOW, client="192.0.2.1", stage="TLS", reason="no", count=3),
    events.Attempt(time=NOW, queue_id="Q", domain="d.example", recipients=2, mx="mx", attempt=1),
    events.Delivered(
        time=NOW, queue_id="Q", recipient="c@d.example", reply="250 ok", mx="mx", duration=0.001, delay=2.5
    ),
    events.Delivered(
        time=NOW, queue_id="Q", recipient="c@d.example", reply="250 ok", mx="mx", duration=0.001, delay=2.5,
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
    ),
    events.Deferred(
        time=NOW, queue_id="Q", recipient="c@d.example", reply="450 later", mx="", duration=0.0, scope="host",
        retry_at=1_764_000_060.0,
    ),
    events.Failed(
        time=NOW, queue_id="Q", recipient="c@d.example", reply="550 no", mx="mx", duration=0.0, scope="host",
        bounce_class="spam-block",
    ),
    events.Bounced(time=NOW, queue_id="Q", report="R", sender="a@b.example", recipients=("c@d.example",)),
    events.Bounced(time=NOW, queue_id="Q", report="", sender="", recipients=("c@d.example",)),
    events.InDoubt(time=NOW, queue_id="Q", recipient="c@d.example", mx="mx", reply="450 gone"),
    events.InDoubt(time=NOW, queue_id="Q", recipient="c@d.example", mx="", reply=""),
    events.HostDown(time=NOW, mx="mx[192.0.2.1]:25", reply="450 4.4.1 no connection"),
    events.HostUp(time=NOW, mx="mx[192.0.2.1]:25", duration=90.0),
    events.Throttled(time=NOW, destination="mx", change="paused", why="mx said 421 later", seconds=60.0),
    events.Throttled(time=NOW, destination="mx", change="up to 5 connections", why="421", seconds=0.0),
    events.TlsFailed(time=NOW, mx="mx[192.0.2.1]:25", reply="handshake failed"),
    events.Held(time=NOW, queue_id="Q", recipient="c@d.example", mx="mx", reply="gone"),
    events.Operated(time=NOW, queue_id="Q", verb="remove", recipients=("c@d.example",)),
    events.Suppressed(
        time=NOW, source="bounce", recipient="c@d.example", tenant="t", bounce_class="invalid-recipient",
        reply="550 no", until=1_764_000_060.0,
    ),
    events.Suppressed(time=NOW, source="import", entries=3),
    events.Unsuppressed(time=NOW, recipient="c@d.example", tenant="t"),
    events.Resumed(time=NOW, problem="no space left", duration=2.5),
    events.Recovered(time=NOW, segments=1, messages=2, recipients=3, duration=0.1),
    events.Renewed(time=NOW, certificates=("a.pem", "b.pem"), until=1_764_000_060.0),
    events.Alarm(time=NOW, problem="a problem", action="an action"),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_json_is_one_object_a_line_with_name_and_time(event: Event) -> None:
    line = lines.json(event)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    read: dict[str, Any] = json.loads(line)
    assert read["event"] == event.__struct_config__.tag
    assert read["time"] == "2025-11-24T16:00:00.123Z"
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name != "time" and name in read:
            assert json.loads(msgspec.json.encode(value)) == read[name]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_text_is_one_readable_line(event: Event) -> None:
    line = lines.text(event).decode()
    assert line.startswith("16:00:00.123  ")
    assert str(event.__struct_config__.tag) in line
    assert line.count("\n") == 1


def test_every_event_is_tested() -> None:
    assert {type(event) for event in EVENTS} == set(Event.__subclasses__())


def test_why_stands_in_the_text_where_it_is_known() -> None:
    words = {type(event).__name__: lines.text(event).decode() for event in EVENTS}
    assert "stamped F (spam-block): mx said 550 no" in words["Failed"]
    assert "(" not in words["Deferred"]


def test_the_stamp_stands_in_the_text() -> None:
    words = {type(event).__name__: lines.text(event).decode() for event in EVENTS}
    assert "stamped D" in words["Delivered"]
    assert "stamped F" in words["Failed"]
    assert "stamped B" in words["Bounced"]


def test_what_strangers_say_makes_no_line_and_no_colour() -> None:
    """Security 22."""
    evil = '250 ok\n{"event":"delivered"}\x1b[31m'
    event = events.Failed(
        time=NOW, queue_id="Q", recipient="x\r\ny", reply=evil, mx="mx", duration=0.0, scope="recipient"
    )
    assert lines.json(event).count(b"\n") == 1
    text = lines.text(event)
    assert text.count(b"\n") == 1
    assert b"\x1b" not in text


def test_a_time_inside_somebodys_words_stays() -> None:
    event = events.Alarm(time=5, problem='"time":5', action="")
    assert json.loads(lines.json(event))["problem"] == '"time":5'
