"""What destinations taught, where its file gives trouble."""

from pathlib import Path

from backstamp.clock import SystemClock
from backstamp.learned import NAME, LearnedFile
from backstamp.queue.files import DiskFiles
from backstamp.telemetry.events import Alarm, Event


def test_trouble_is_told_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    events: list[Event] = []
    assert LearnedFile(DiskFiles(), str(tmp_path), clock=SystemClock(), emit=events.append).load() == []
    [alarm] = events
    assert isinstance(alarm, Alarm)
    assert alarm.problem == f"{tmp_path}/{NAME} cannot be used: is a directory"
