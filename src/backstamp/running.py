"""Running a relay in a process: event loop, signals, limits of the process, the event log.

What every command that runs rooms needs once, apart from what runs (`app`).
"""

import asyncio
import contextlib
import gc
import resource
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TextIO

from backstamp import signals
from backstamp.app import Relay
from backstamp.config import Settings
from backstamp.telemetry.log import EventLog
from backstamp.telemetry.metrics import Metrics

SWITCH_INTERVAL: Final = 0.0005
"""Seconds the interpreter lets one thread run while another waits. The commit thread comes back
from the disk into a busy loop; with the default of 5 ms it waits 21 ms there, with this 1.6."""

GC_THRESHOLD: Final = 20_000
"""New containers between two looks of the garbage collector. Hardly anything here is a cycle, and
with the default of 700 it looks every few messages."""

FILES: Final = 100
"""Files open beside the connections: segments and stamps, logs, the HTTP side, questions to name servers."""


@contextlib.contextmanager
def event_log(stream: TextIO) -> Iterator[tuple[EventLog, Metrics]]:
    """Give an event log on a stream: text for a terminal, JSON for anything else."""
    metrics = Metrics()
    log = EventLog(stream.fileno(), text=stream.isatty(), metrics=metrics)
    try:
        yield log, metrics
    finally:
        log.close()


def loop(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on the fastest loop there is, with limits fit for a server."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    _raise_file_limit()
    # What the imports made stays for good; the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(main)
        except BaseExceptionGroup as group:
            # One cause, one error: the groups of the rooms say nothing more.
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            raise error from None


def on_signals(relay: Relay, reload: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end a relay in order, SIGHUP reloads; those that came before it was there, too."""
    # Not the loop's own handlers, which go with it: the end of a process is longer than its loop's.
    running = asyncio.get_running_loop()
    signals.ours.answer(running.call_soon_threadsafe, end=relay.stop, reload=reload)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform != "linux":
        return None
    import uvloop

    return uvloop.new_event_loop


def short_of_files(settings: Settings) -> str | None:
    """Return how many files this process lacks for the connections it may have; None where it has enough."""
    clients = max((listener.limits.connections for listener in settings.listeners), default=0)
    needed = clients + settings.connections + FILES
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most >= needed:
        return None
    return f"this process may open {most} files; the connections it is allowed to have may take {needed}"


def _raise_file_limit() -> None:
    """Allow as many connections and segments as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
