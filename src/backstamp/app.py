"""The composition root: makes every room's part from the settings and lets them run together.

The only module that names a queue engine. Start: queue (locked, recovered), admin, delivery,
listeners last. Shutdown runs against the flow: stop accepting, stop claiming, let
transactions end, commit, close. What keeps the relay from starting is one line for the
operator (`StartError`).
"""

import asyncio
import errno
import os
import random
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from backstamp import __version__
from backstamp.clock import Clock, SystemClock
from backstamp.config import Settings
from backstamp.config.address import Address
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.dryrun import DryRun
from backstamp.delivery.explainer import Explainer
from backstamp.delivery.reports import Reporter
from backstamp.delivery.router import Tables
from backstamp.delivery.tell import Teller
from backstamp.entrance import Entrance
from backstamp.learned import LearnedFile
from backstamp.listener.accounts import UsersError
from backstamp.mail.address import to_alabel
from backstamp.mail.envelope import Envelope, domain_runs
from backstamp.net.opening import Opener
from backstamp.net.resolver import Resolver
from backstamp.net.server_tls import CertificateError
from backstamp.policy import retry
from backstamp.policy.adapt import Adaptations
from backstamp.policy.destination import PolicyTable
from backstamp.policy.route import RouteTable, sender_name
from backstamp.policy.source import SourceTable
from backstamp.queue.committer import Committer
from backstamp.queue.files import DiskFiles, QueueLockedError
from backstamp.queue.local import LocalQueue, LocalSettings, open_queue
from backstamp.queue.recovery import FormatError
from backstamp.queue.views import LedgerView
from backstamp.suppression.keeper import SuppressionList
from backstamp.telemetry.events import Alarm, Started, Stopped
from backstamp.telemetry.log import EventLog
from backstamp.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from backstamp.admin.server import AdminServer

GRACE = 30.0
"""Seconds that transactions under way have to end when the relay stops."""

SESSION_GRACE = 5.0
"""Seconds that a client in the middle of DATA, or of a request by HTTP, has to end it."""


_FIXED = {
    "hostname": "hostname",
    "queue_directory": "queue directory",
    "queue_reserve": "queue reserve",
    "nameservers": "name servers",
    "admin": "admin side",
    "auth": "authentication",
    "log_attempts": "log of attempts",
}
"""What a reload does not change, by its name in the settings; listen addresses are not either."""


class StartError(Exception):
    """The relay cannot start; the text is one line that says why and names what to look at."""


class Relay:
    """One relay: listeners, queue, delivery and the HTTP side in one loop."""

    def __init__(
        self, settings: Settings, log: EventLog, metrics: Metrics, *, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._routes = RouteTable(settings.routes)
        self._log = log
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._entrance: Entrance
        self.queue: LocalQueue
        self.suppression: SuppressionList
        self._learned: LearnedFile
        self._dispatcher: Dispatcher
        # Made before anything is opened: the end closes it, however far the start came.
        self._resolver = Resolver(settings.nameservers, clock=self._clock)
        self._admin: AdminServer | None = None
        self._entropy = _Entropy()
        self._opener = Opener()
        self._starting = True
        self._stop = asyncio.Event()

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where the listeners listen, then the door of HTTP, then the admin side."""
        found = self._entrance.addresses
        return [*found, self._admin.address] if self._admin is not None else found

    def stop(self) -> None:
        """Ask for an orderly end; `run` returns when it is reached."""
        self._stop.set()

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Start, relay until `stop`, and end in order.

        Raises:
            StartError: it could not start; nothing is left open.
        """
        await self._open_queue()
        try:
            await self._open_suppression()
            self._compose()
            async with asyncio.TaskGroup() as group:
                try:
                    await self._open_ports()
                    tasks = [
                        group.create_task(self._dispatcher.run(), name="dispatcher"),
                        group.create_task(self._watch(), name="watch"),
                        group.create_task(self._entrance.run(), name="entrance"),
                        group.create_task(self.suppression.run(), name="suppression"),
                        group.create_task(self._learned.run(self._dispatcher.learned), name="learned"),
                    ]
                    self._started()
                    if ready is not None:
                        ready.set()
                    await self._stop.wait()
                finally:
                    await self._shut()
                for task in tasks:
                    task.cancel()
        except* StartError as errors:
            raise _first(errors) from None
        finally:
            await self.suppression.close()
            await self.queue.close()
            await self._resolver.close()
        waiting = self.queue.ledger.waiting
        self._log.emit(Stopped(time=self._now(), waiting=waiting))

    def reload(self, settings: Settings) -> None:
        """Take new routes, destination policy and listener limits: new frozen tables, swapped in.

        What is `_FIXED`, and listen addresses, need a restart; an alarm says so if they differ.
        """
        self._routes = RouteTable(settings.routes)
        self._dispatcher.reload(self._tables(settings), settings.connections, self._own_addresses(settings))
        self.suppression.policy = settings.suppression
        names = [
            text for name, text in _FIXED.items() if getattr(self._settings, name) != getattr(settings, name)
        ]
        names += self._entrance.reload(settings)
        if names:
            problem = f"changed in the configuration: {', '.join(names)}"
            self._log.emit(
                Alarm(time=self._now(), problem=problem, action="restart to apply; the rest is in force")
            )

    # ---- start ----

    async def _open_queue(self) -> None:
        root = self._settings.queue_directory
        policy = self._settings.destination.retry
        try:
            self.queue = await open_queue(
                DiskFiles(),
                root,
                clock=self._clock,
                emit=self._log.emit,
                salt=lambda: os.urandom(16),
                settings=LocalSettings(reserve=self._settings.queue_reserve),
                first_due=lambda now, arrival, chance: retry.first_attempt(policy, now, arrival, chance),
                committer=partial(Committer, give_way=os.sched_yield),
            )
        except QueueLockedError:
            raise StartError(f"queue directory {root}: another relay is using it") from None
        except FormatError as error:
            raise StartError(f"queue directory {root}: {error}") from None
        except OSError as error:
            # Of the directory itself it is said already; a file in it is named: it may be somebody else's.
            which = f" ({error.filename})" if error.filename not in (None, root) else ""
            raise StartError(f"queue directory {root}: {_reason(error)}{which}") from None

    async def _open_suppression(self) -> None:
        root, clock, emit = self._settings.queue_directory, self._clock, self._log.emit
        self.suppression = SuppressionList(
            DiskFiles(), root, self._settings.suppression, clock=clock, emit=emit
        )
        try:
            await self.suppression.open()
        except OSError as error:
            raise StartError(f"queue directory {root}: the suppression list: {_reason(error)}") from None

    def _compose(self) -> None:
        settings, clock, emit = self._settings, self._clock, self._log.emit
        self._learned = LearnedFile(DiskFiles(), settings.queue_directory, clock=clock, emit=emit)
        self._dispatcher = Dispatcher(
            self.queue,
            self._opener,
            self._resolver,
            tables=self._tables(settings),
            reporter=Reporter(
                self.queue, hostname=settings.hostname, clock=clock, entropy=self._entropy, emit=emit
            ),
            clock=clock,
            chance=random.random,
            tell=Teller(emit, clock, trace=settings.log_attempts),
            hostname=settings.hostname,
            own_names=frozenset({settings.hostname.lower()}),
            own_addresses=self._own_addresses(settings),
            connections=settings.connections,
            suppression=self.suppression,
            learned=self._learned.load(),
            taught=self._learned.taught,
        )
        try:
            self._entrance = Entrance(
                settings,
                self.queue,
                clock=clock,
                emit=emit,
                entropy=self._entropy,
                once=self._at_most_once,
                refuse=self.suppression.refuse,
                grace=SESSION_GRACE,
            )
            self._entrance.open()
        except (CertificateError, UsersError) as error:
            raise StartError(str(error)) from None
        ledger = self.queue.ledger
        gauges = {
            "queue_recipients": lambda: ledger.waiting,
            "queue_messages": lambda: ledger.messages,
            "deliveries_claimed": lambda: ledger.claimed,
            "connections": lambda: self._dispatcher.connections,
            "lanes": lambda: self._dispatcher.lanes,
            "suppressions": lambda: len(self.suppression),
            "clients": lambda: self._entrance.clients,
        }
        for name, function in gauges.items():
            self._metrics.gauge(name, function)
        if settings.admin is not None:
            self._admin = self._admin_side(settings.admin)

    def _admin_side(self, address: tuple[str, int]) -> "AdminServer":
        """Make the HTTP side: a quarter of an idle relay, so it is loaded where it is configured."""
        from backstamp.admin.explain import ExplainRoutes
        from backstamp.admin.server import AdminServer
        from backstamp.admin.suppression import SuppressionRoutes

        view = LedgerView(self.queue, self._log.emit)
        health = self.queue.health
        return AdminServer(
            *address,
            collector=self._metrics.collector(),
            ready=self._unready,
            queue=view,
            explain=ExplainRoutes(
                Explainer(view, self._dispatcher, self._clock, lambda: health.problem, self.suppression),
                DryRun(self._dispatcher, self._resolver, self._clock, self.suppression),
            ),
            suppression=SuppressionRoutes(self.suppression, self._clock),
            hostname=self._settings.hostname,
            grace=SESSION_GRACE,
        )

    def _tables(self, settings: Settings) -> Tables:
        return Tables(
            self._routes,
            PolicyTable(settings.destination, settings.rules, settings.providers),
            SourceTable(settings.sources),
            Adaptations(settings.adaptations),
        )

    def _own_addresses(self, settings: Settings) -> frozenset[str]:
        """Return where this relay is: mail by MX does not go there."""
        return frozenset(
            [listener.host for listener in self._settings.listeners if not listener.local]
            + [one.address for pool in settings.sources for one in pool.addresses]
        )

    def _at_most_once(self, envelope: Envelope) -> bool:
        """Tell whether a route wants this sender's mail to these recipients to come at most once."""
        routes = self._routes
        if not routes.at_most_once:
            return False
        sender = sender_name(envelope.sender)
        return any(
            (route := routes.lookup(to_alabel(run.domain), sender)) is not None and route.at_most_once
            for run in domain_runs(envelope.recipients)
        )

    async def _open_ports(self) -> None:
        if self._admin is not None:
            host, port = self._settings.admin or ("", 0)
            await _bind(self._admin.start(), f"admin address {host} port {port}")
        for listener in self._entrance.listeners:
            await _bind(listener.start(), f"listen address {listener.settings.place}")
        if (http := self._entrance.http) is not None:
            host, port = http.address
            await _bind(http.start(), f"http address {host} port {port}")

    async def _watch(self) -> None:
        """End the relay with the error that broke its queue."""
        await self.queue.broken

    def _started(self) -> None:
        self._starting = False
        addresses = tuple(str(Address(*one)) for one in self.addresses)
        self._log.emit(
            Started(
                time=self._now(), version=__version__, addresses=addresses, waiting=self.queue.ledger.waiting
            )
        )

    def _unready(self) -> str | None:
        """Why the relay should get no mail now, None if it should."""
        if self._stop.is_set():
            return "stopping"
        return "starting" if self._starting else self.queue.health.ask() or self._entrance.problem()

    # ---- end ----

    async def _shut(self) -> None:
        """Stop what was started, against the flow of mail."""
        self._stop.set()
        await self._entrance.close()
        if not self._starting:
            await self._dispatcher.drain(GRACE)
            self._learned.save(self._dispatcher.learned())
        if self._admin is not None:
            await self._admin.close()

    def _now(self) -> int:
        return int(self._clock.wall() * 1e6)


class _Entropy:
    """Random octets from the system, many at a time: each call there lets another thread run first."""

    _BLOCK = 4096

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0

    def __call__(self, count: int) -> bytes:
        """Return so many octets, each given out once."""
        if self._at + count > len(self._octets):
            self._octets = os.urandom(max(self._BLOCK, count))
            self._at = 0
        self._at += count
        return self._octets[self._at - count : self._at]


async def _bind(start: Awaitable[None], name: str) -> None:
    try:
        await start
    except OSError as error:
        raise StartError(f"{name}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    reasons = {
        errno.EADDRINUSE: "already in use by another program",
        errno.EACCES: "permission denied",
        errno.EADDRNOTAVAIL: "not an address of this machine",
        errno.EROFS: "the file system is read-only",
    }
    # Without a number the text is ours, and has a path in it.
    return reasons.get(error.errno or 0) or (error.strerror or "").lower() or str(error)


def _first(errors: BaseExceptionGroup[StartError]) -> StartError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StartError)
    return error
