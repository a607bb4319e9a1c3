"""What a reload comes to, whatever the relay makes of it."""

import asyncio
from pathlib import Path
from typing import Any, cast

from tests.support.operator import written

from backstamp.app import Relay
from backstamp.config import Settings
from backstamp.serving import Reloading
from backstamp.telemetry.events import Alarm, Event, Reloaded
from backstamp.telemetry.log import EventLog


class Log:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.told = asyncio.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()


class Broken:
    """A relay in which the first reload meets a bug."""

    def __init__(self) -> None:
        self.taken: list[Settings] = []

    def reload(self, settings: Settings) -> None:
        self.taken.append(settings)
        if len(self.taken) == 1:
            raise KeyError("lane")


async def test_a_bug_in_a_reload_is_told_and_the_next_one_is_heard(tmp_path: Path) -> None:
    log, relay, ready = Log(), Broken(), asyncio.Event()
    ready.set()
    path = written(tmp_path)
    reloading = Reloading(cast(Relay, relay), str(path), cast(EventLog, log), ready)
    reloading.ask()
    await asyncio.wait_for(log.told.wait(), 20)
    (told,) = cast(list[Any], log.events)
    assert isinstance(told, Alarm)
    assert told.problem == "a reload broke: KeyError('lane')"
    log.told.clear()
    reloading.ask()
    await asyncio.wait_for(log.told.wait(), 20)
    assert isinstance(log.events[1], Reloaded)
    await reloading.end()
