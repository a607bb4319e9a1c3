"""The HTTP side: is it alive, is it ready, how much, what waits; and the operator's verbs.

It binds only where it was told and shows nothing but queue and numbers. What changes the
queue is a POST with a body of JSON, which no page of another site can make a browser send; and a page
that has its own name lead here (DNS rebinding) is told apart by that name, and by its Origin.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from backstamp.admin.body import whole
from backstamp.admin.explain import ExplainRoutes
from backstamp.admin.paging import limit
from backstamp.admin.suppression import SuppressionRoutes
from backstamp.listener import guard
from backstamp.queue.operations import VERBS, BusyError
from backstamp.queue.port import DamagedError, StampNotDurableError
from backstamp.queue.view import Acted, DoubtView, MessageView

API: Final = "/api/"
"""Before the paths of what a person may see or do: the rest is numbers."""

CONNECTIONS: Final = 100
"""Connections at a time. They count apart from clients': who has mail keeps no operator out."""


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a verb: for whom; absent: for everybody it applies to."""

    recipients: tuple[str, ...] | None = None


class QueueView(Protocol):
    """What the HTTP side asks of the queue."""

    async def list(self, limit: int, after: str | None) -> Sequence[MessageView]:
        """Return messages, oldest first, those behind a queue id."""
        ...

    async def show(self, queue_id: str) -> MessageView | None:
        """Return one message."""
        ...

    async def doubts(self) -> Sequence[DoubtView]:
        """Return who is in doubt."""
        ...

    async def act(self, verb: str, queue_id: str, recipients: Sequence[str] | None) -> Acted | None:
        """Carry out a verb; None where there is no such message. Raises ValueError, BusyError."""
        ...


class AdminServer:
    """Serves `/metrics`, `/healthz`, `/readyz` and what is below `/api/v1`."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        collector: Collector,
        ready: Callable[[], str | None],
        queue: QueueView,
        suppression: SuppressionRoutes | None = None,
        explain: ExplainRoutes | None = None,
        hostname: str = "",
        grace: float = 5.0,
    ) -> None:
        """`grace` is the seconds that requests under way have when it closes."""
        self.address = (host, port)
        """Where it listens; the port is the real one once it does."""
        self._hostname = hostname
        self._ready = ready
        self._queue = queue
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._connections = 0
        self._listening: asyncio.Server | None = None
        application = web.Application(middlewares=[_told, self._asked_here])
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/api/v1/queue", self._list)
        application.router.add_get("/api/v1/queue/doubt", self._doubt)
        application.router.add_get("/api/v1/queue/{queue_id}", self._show)
        application.router.add_post("/api/v1/queue/{queue_id}/{verb}", self._act)
        if suppression is not None:
            suppression.register(application.router)
        if explain is not None:
            explain.register(application.router)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=grace,
            keepalive_timeout=guard.HEAD,
            logger=guard.bugs(),
        )

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        host, port = self.address
        try:
            self._listening = await guard.listen(handlers, host, port, admit=self._admit, leave=self._leave)
        except OSError:
            await self._runner.cleanup()
            raise
        name = self._listening.sockets[0].getsockname()
        self.address = (str(name[0]), int(name[1]))

    async def close(self) -> None:
        """Stop listening and end what is under way; what is not over soon is cut off."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def _admit(self, _: str, __: asyncio.BaseTransport) -> bool:
        if self._connections >= CONNECTIONS:
            return False
        self._connections += 1
        return True

    def _leave(self, _: str) -> None:
        self._connections -= 1

    @web.middleware
    async def _asked_here(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what pages of a browser ask for: whoever asks for the queue names this host, and no site."""
        if request.path.startswith(API):
            if "Origin" in request.headers:
                return _json({"error": "pages of a browser may not ask here"}, 403)
            if not at_home(request.host, self._hostname):
                return _json({"error": f"ask by address, by localhost or by {self._hostname}"}, 421)
        return await handler(request)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._ready()
        return (
            web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")
        )

    async def _list(self, request: web.Request) -> web.Response:
        try:
            asked = limit(request.query)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        try:
            found = await self._queue.list(asked, request.query.get("after"))
        except ValueError as error:
            return _json({"error": f"after: {error}"}, 400)
        return _json({"messages": found})

    async def _show(self, request: web.Request) -> web.Response:
        found = await self._queue.show(request.match_info["queue_id"])
        return _json({"error": "no such message in the queue"}, 404) if found is None else _json(found)

    async def _doubt(self, _: web.Request) -> web.Response:
        return _json({"recipients": await self._queue.doubts()})

    async def _act(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        if verb not in VERBS:
            return _json({"error": f"no such verb; there are {', '.join(VERBS)}"}, 404)
        if request.content_type != "application/json":
            return _json({"error": "the body is JSON, and says so (Content-Type: application/json)"}, 415)
        try:
            asked = msgspec.json.decode(await whole(request), type=Wish)
            done = await self._queue.act(verb, request.match_info["queue_id"], asked.recipients)
        except (msgspec.DecodeError, ValueError) as error:
            return _json({"error": str(error)}, 400)
        except BusyError:
            return _json({"error": "an attempt or a report of it is under way; try again"}, 409)
        except (DamagedError, StampNotDurableError, OSError) as error:
            return _json({"error": str(error)}, 503)
        return _json({"error": "no such message in the queue"}, 404) if done is None else _json(done)


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what no handler says (404, 405, 408, 413) as everything else is said, in JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        said = _json({"error": error.reason.lower()}, error.status)
        if "Allow" in error.headers:
            said.headers["Allow"] = error.headers["Allow"]
        return said


def at_home(host: str, hostname: str) -> bool:
    """Tell whether a Host is an address, the relay's name, or a name without a domain.

    No stranger can have one of these lead a browser here (DNS rebinding).
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name == hostname.lower()
    return True


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
