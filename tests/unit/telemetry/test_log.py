"""The event log: everything written, in order, and a reader that does not read stops nobody."""

import errno
import json
import os
import threading
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


class Disk:
    """A file on a disk with so much room: a write takes what fits, and the next one fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: list[int] = []
        """Of each write; where none is left there is enough."""
        self.octets = b""
        self.writes = 0
        monkeypatch.setattr(log_module.os, "write", self._write)

    def _write(self, _: int, octets: bytes) -> int:
        self.writes += 1
        room = self.room.pop(0) if self.room else len(octets)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.octets += bytes(octets[:room])
        return min(room, len(octets))


def emit_alone(log: EventLog, disk: Disk, number: int) -> None:
    """Emit an event and wait until it was written, or was not."""
    before = disk.writes
    log.emit(Stopped(time=0, waiting=number))
    while disk.writes == before or log._events:
        time.sleep(0.005)


def test_every_event_a_full_disk_cost_is_told_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.room = [0, 0, 0]
    metrics = Metrics()
    log = EventLog(1, text=False, metrics=metrics)
    for number in range(5):
        emit_alone(log, disk, number)
    log.close()
    told = [json.loads(line) for line in disk.octets.splitlines()]
    assert [one.get("waiting") for one in told] == [3, None, 4]
    assert told[1]["problem"] == "3 events were lost"
    assert metrics.lost == 3
    [alarms] = [one for one in metrics.families() if one.name == "backstamp_alarms"]
    assert alarms.samples[0].value == 1


def test_a_line_that_broke_off_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.room = [20, 0]
    metrics = Metrics()
    log = EventLog(1, text=False, metrics=metrics)
    emit_alone(log, disk, 0)
    while metrics.lost != 1:
        time.sleep(0.005)
    emit_alone(log, disk, 1)
    log.close()
    torn, *lines = disk.octets.splitlines()
    assert len(torn) == 20
    assert [json.loads(line).get("waiting") for line in lines] == [1, None]
    assert metrics.lost == 1


def test_a_reader_that_is_slow_loses_nothing_where_writes_do_not_wait() -> None:
    """Who shares the descriptor may have made it so: then a write says that there is no room now."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    metrics = Metrics()
    log = EventLog(writing, text=False, metrics=metrics)
    for number in range(5000):
        log.emit(Stopped(time=0, waiting=number))
    seen: list[dict[str, object]] = []
    reader = threading.Thread(target=lambda: seen.extend(read_all(reading)))
    time.sleep(0.2)
    reader.start()
    log.close()
    os.close(writing)
    reader.join(20)
    os.close(reading)
    assert [event["waiting"] for event in seen] == list(range(5000))
    assert metrics.lost == 0
