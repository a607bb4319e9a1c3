"""What destinations taught, where its file gives trouble."""

import threading
from pathlib import Path

from tests.support.recording import RecordingFiles

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


class SlowFiles(RecordingFiles):
    """Syncing the first file takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.go = threading.Event(), threading.Event()

    def sync(self, descriptor: int) -> None:
        if not self.waiting.is_set():
            self.waiting.set()
            assert self.go.wait(20)
        super().sync(descriptor)


def test_the_last_save_waits_for_one_that_is_under_way(tmp_path: Path) -> None:
    events: list[Event] = []
    files = SlowFiles()
    file = LearnedFile(files, str(tmp_path), clock=SystemClock(), emit=events.append)
    saves = [threading.Thread(target=file.save, args=[[]]) for _ in range(2)]
    saves[0].start()
    assert files.waiting.wait(20)
    saves[1].start()
    saves[1].join(0.2)
    files.go.set()
    for save in saves:
        save.join(20)
    assert not events
    whole = ["create learned.json.new", "write learned.json.new", "sync learned.json.new", "sync directory "]
    assert [step.replace(tmp_path.name, "") for step in files.done] == whole * 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
