"""A whole relay for scenarios: real listener, queue on disk, real resolver and client, on loopback."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import msgspec

from backstamp.app import Relay
from backstamp.config import Settings
from backstamp.config.address import Address
from backstamp.listener.settings import Limits, ListenerSettings
from backstamp.policy.adapt import Adaptation
from backstamp.policy.destination import DestinationPolicy
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import NextHop, Route, Smarthost
from backstamp.telemetry import events
from backstamp.telemetry.events import Event
from backstamp.telemetry.log import EventLog
from backstamp.telemetry.metrics import Metrics

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
FAST = RetryPolicy(schedule=(0.3, 0.5, 1.0), lifetime=60.0)


E = TypeVar("E", bound=Event)


class RecordingLog(EventLog):
    """An event log that also keeps the events."""

    def __init__(self, descriptor: int) -> None:
        self.metrics = Metrics()
        super().__init__(descriptor, text=False, metrics=self.metrics)
        self.events: list[Event] = []
        self.changed = asyncio.Event()

    def emit(self, event: Event) -> None:
        super().emit(event)
        self.events.append(event)
        self.changed.set()


class RunningRelay:
    """A relay under test and what it said."""

    def __init__(self, relay: Relay, log: RecordingLog, directory: Path) -> None:
        self.relay = relay
        self.log = log
        self.directory = directory

    @property
    def address(self) -> tuple[str, int]:
        return self.relay.addresses[0]

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.log.events if isinstance(event, kind)]

    async def until(self, kind: type[Event], count: int = 1, seconds: float = 20.0) -> None:
        """Wait until so many events of a kind were told."""
        async with asyncio.timeout(seconds):
            while len(self.events(kind)) < count:
                self.log.changed.clear()
                await self.log.changed.wait()

    async def until_empty(self, seconds: float = 20.0) -> None:
        """Wait until nothing is queued and nothing is under way any more."""
        ledger = self.relay.queue.ledger
        async with asyncio.timeout(seconds):
            while ledger.messages or ledger.claimed:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def relay(
    directory: Path,
    *,
    routes: Sequence[Route] = (),
    nameservers: Sequence[tuple[str, int]] = (),
    port: int = 25,
    retry: RetryPolicy = FAST,
    policy: DestinationPolicy | None = None,
    limits: Limits | None = None,
    submission: bool = False,
    admin: bool = False,
    adaptations: Sequence[Adaptation] = (),
) -> AsyncIterator[RunningRelay]:
    """Run a relay with its queue in a directory; it is stopped in order."""
    hostname = "relay.example.org"
    listener = ListenerSettings(hostname, "127.0.0.1", 0, LOOPBACK, submission, limits or Limits())
    destination = msgspec.structs.replace(
        policy or DestinationPolicy(), retry=retry, port=port, private_addresses=True
    )
    settings = Settings(
        hostname=hostname,
        queue_directory=str(directory / "queue"),
        listeners=(listener,),
        destination=destination,
        routes=tuple(routes),
        nameservers=tuple(Address(*one) for one in nameservers),
        admin=Address("127.0.0.1", 0) if admin else None,
        log_attempts=True,
        adaptations=tuple(adaptations),
    )
    async with run(settings, directory) as running:
        yield running


@contextlib.asynccontextmanager
async def run(settings: Settings, directory: Path) -> AsyncIterator[RunningRelay]:
    """Run a relay with settings as they are; it is stopped in order."""
    with tempfile.TemporaryFile() as output:
        log = RecordingLog(os.dup(output.fileno()))
        running = Relay(settings, log, log.metrics)
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(running.run(ready))
            await ready.wait()
            try:
                yield RunningRelay(running, log, directory)
            finally:
                running.stop()
        log.close()


def via(address: tuple[str, int], match: str = "*") -> Route:
    """Return a route for everything to one host."""
    return Route(match, Smarthost((NextHop(*address),)))


__all__ = ["FAST", "RecordingLog", "RunningRelay", "events", "relay", "run", "via"]
