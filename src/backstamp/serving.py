"""The relay as a process in the foreground: `backstamp serve`, without the frame of the command line.

It runs for months, so nothing is loaded that only its start needs (`config.apart`). SIGTERM drains,
SIGHUP reloads; exit code 2 and a line on standard error for what keeps it from starting.
"""

import asyncio
import sys
import time
from typing import Final, NoReturn

from backstamp import running, signals
from backstamp.app import Relay, StartError
from backstamp.config import ConfigurationError, Settings, apart
from backstamp.telemetry.events import Alarm, Reloaded
from backstamp.telemetry.log import EventLog

BAD_CONFIGURATION: Final = 2
"""Exit code for what the configuration makes impossible: mistakes in it, a port in use, a locked queue."""


def main(config: str, reading: apart.Reading) -> None:
    """Run the relay until SIGTERM; events go to standard output, one a line.

    `config` is read already (`apart.begin`): it takes as long as loading this module. Raises SystemExit.
    """
    try:
        _run(config, reading)
    except StartError as error:
        _refuse(f"backstamp: {error}")
    finally:
        signals.ours.finish()


def _run(config: str, reading: apart.Reading) -> None:
    # A reload that is asked for meanwhile is kept for the relay.
    signals.ours.answer(lambda call: call(), end=reading.stop, reload=lambda: None)
    try:
        settings = reading()
    except ConfigurationError as error:
        # A supervisor's signal may have ended the reader, too: that is no mistake in the file.
        if signals.ours.ending:
            return
        _refuse("\n".join(str(problem) for problem in error.problems))
    if signals.ours.ending:
        return
    with running.event_log(sys.stdout) as (log, metrics):
        _tell_of_files(settings, log)
        running.loop(_serve(Relay(settings, log, metrics), config, log))


def _refuse(why: str) -> NoReturn:
    sys.stderr.write(f"{why}\n")
    sys.exit(BAD_CONFIGURATION)


async def _serve(relay: Relay, config: str, log: EventLog) -> None:
    ready = asyncio.Event()
    reloading = Reloading(relay, config, log, ready)
    running.on_signals(relay, reloading.ask)
    await relay.run(ready)
    await reloading.end()


class Reloading:
    """Reads the configuration again when asked: one reading at a time, and the last word counts.

    What is asked before the relay is `ready` is done then: there is nothing yet to be changed.
    """

    def __init__(self, relay: Relay, config: str, log: EventLog, ready: asyncio.Event) -> None:
        self._relay = relay
        self._config = config
        self._log = log
        self._ready = ready
        self._asked = False
        self._ended = False
        self._reading: apart.Reading | None = None
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Have it read: now, or once more when what is being read has been."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def end(self) -> None:
        """Forget what was asked; a file that takes its time holds up nobody's end."""
        self._ended = True
        if self._reading is not None:
            self._reading.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        await self._ready.wait()
        while self._asked:
            self._asked = False
            try:
                # Elsewhere and in a thread: clients notice nothing.
                settings = await asyncio.to_thread(self._read)
                self._relay.reload(settings)
            except ConfigurationError as error:
                problem = "; ".join(str(problem) for problem in error.problems)
                _alarm(self._log, problem, "the configuration in force stays")
            except Exception as error:  # a bug; the relay goes on with what it has taken so far
                _alarm(self._log, f"a reload broke: {error!r}", "restart to be sure of what is in force")
            else:
                self._log.emit(Reloaded(time=_now(), config=self._config))
                _tell_of_files(settings, self._log)

    def _read(self) -> Settings:
        self._reading = reading = apart.begin(self._config)
        if self._ended:  # the end did not see it
            reading.stop()
        return reading()


def _tell_of_files(settings: Settings, log: EventLog) -> None:
    """Tell at the start what would otherwise show in the worst hour, as refused clients and hosts."""
    if (problem := running.short_of_files(settings)) is not None:
        action = (
            "raise the limit (systemd: LimitNOFILE, a shell: ulimit -n), "
            "or lower connections in [limits] and total_connections in [delivery]"
        )
        _alarm(log, problem, action)


def _alarm(log: EventLog, problem: str, action: str) -> None:
    log.emit(Alarm(time=_now(), problem=problem, action=action))


def _now() -> int:
    return int(time.time() * 1e6)
