"""The event log: everything written, in order, and a reader that does not read stops nobody."""

import json
import os
import time

import pytest

from backstamp.telemetry import log as log_module
from backstamp.telemetry.events import Stopped
from backstamp.telemetry.log import EventLog
from backstamp.telemetry.metrics import Metrics


def read_all(descriptor: int) -> list[dict[str, object]]:
    octets = b""
    while piece := os.read(descriptor, 65536):
        octets += piece
    return [json.loads(line) for line in octets.splitlines()]


def test_all_events_are_written_in_order() -> None:
    reading, writing = os.pipe()
    metrics = Metrics()
    log = EventLog(writing, text=False, metrics=metrics)
    for number in range(500):
        log.emit(Stopped(time=0, waiting=number))
    log.close()
    os.close(writing)
    assert [event["waiting"] for event in read_all(reading)] == list(range(500))
    os.close(reading)
    assert metrics.lost == 0


def test_a_reader_that_does_not_read_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "BOUND", 1000)
    reading, writing = os.pipe()
    metrics = Metrics()
    log = EventLog(writing, text=False, metrics=metrics)
    for number in range(5000):
        log.emit(Stopped(time=0, waiting=number))
    time.sleep(0.2)
    for number in range(5000, 9000):
        log.emit(Stopped(time=0, waiting=number))
    assert metrics.lost > 0
    lost = metrics.lost
    os.set_blocking(reading, False)
    end = time.monotonic() + 5
    octets = b""
    while b"were lost" not in octets and time.monotonic() < end:
        try:
            octets += os.read(reading, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)
        log.emit(Stopped(time=0, waiting=1)) if metrics.lost == lost else None
    assert b"were lost" in octets
    os.set_blocking(reading, True)
    os.close(reading)
    log.close()
    os.close(writing)


def test_a_reader_that_is_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    metrics = Metrics()
    log = EventLog(writing, text=True, metrics=metrics)
    log.emit(Stopped(time=0, waiting=1))
    log.close()
    os.close(writing)
    assert metrics.lost == 1
