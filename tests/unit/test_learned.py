"""What destinations taught, where its file gives trouble."""

import threading
from collections.abc import Sequence
from pathlib import Path

from backstamp.clock import SystemClock
from backstamp.delivery.throttle import Learned
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


class Slow(DiskFiles):
    """Holds up the first write until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        first = not self.begun.is_set()
        self.begun.set()
        if first:
            assert self.go.wait(30)
        super().write(descriptor, buffers, offset)


def test_the_last_of_two_at_a_time_is_kept(tmp_path: Path) -> None:
    """A relay stops while a lesson is being written: no alarm, and nothing is lost."""
    told: list[Event] = []
    files = Slow()
    kept = LearnedFile(files, str(tmp_path), clock=SystemClock(), emit=told.append)
    earlier = threading.Thread(target=kept.save, args=([Learned("one.example", 1, 1.0)],))
    last = threading.Thread(target=kept.save, args=([Learned("one.example", 2, 1.0)],))
    earlier.start()
    assert files.begun.wait(30)
    last.start()
    last.join(0.2)
    files.go.set()
    for thread in (earlier, last):
        thread.join(30)
    assert told == []
    assert [one.ceiling for one in kept.load()] == [2]
