"""Why a message waits, and which way mail would go: facts and words, for reading only."""

from typing import Final, Protocol

import msgspec
from aiohttp import web

from backstamp.delivery import directions, explain
from backstamp.delivery.facts import Directions, Explained
from backstamp.listener import admission
from backstamp.mail.address import AddressError, parse_written
from backstamp.queue.port import DamagedError

SENDER_OF_NOBODY: Final = "<>"
"""How the null reverse-path is written; nothing at all means that no sender is named."""


class Explains(Protocol):
    """What knows messages (`delivery.explainer`)."""

    async def explain(self, queue_id: str, recipient: str) -> Explained | None:
        """Return the facts of a message, None if it is not queued. Raises ValueError: of what was asked."""
        ...


class Directs(Protocol):
    """What knows ways (`delivery.dryrun`)."""

    async def directions(self, address: bytes, sender: bytes | None) -> Directions:
        """Return the way for an address and a sender."""
        ...


class ExplainRoutes:
    """`/api/v1/explain/QUEUE_ID?recipient=` and `/api/v1/route?address=&from=`."""

    def __init__(self, explainer: Explains, dry_run: Directs) -> None:
        self._explainer = explainer
        self._dry_run = dry_run

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/api/v1/explain/{queue_id}", self._explain)
        router.add_get("/api/v1/route", self._route)

    async def _explain(self, request: web.Request) -> web.Response:
        queue_id = request.match_info["queue_id"]
        try:
            facts = await self._explainer.explain(queue_id, request.query.get("recipient", ""))
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        except (DamagedError, OSError) as error:
            return _json({"error": str(error)}, 503)
        if facts is None:
            return _json({"error": explain.absent(queue_id)}, 404)
        return _json({"facts": facts, "text": explain.text(facts)})

    async def _route(self, request: web.Request) -> web.Response:
        try:
            address = _address("address", request.query.get("address", ""))
            if (refusal := admission.recipient(address, allowed=True)) is not None:
                raise ValueError(f"address: {refusal}")
            sender = request.query.get("from")
            found = (
                None
                if sender is None
                else b""
                if sender in ("", SENDER_OF_NOBODY)
                else _address("from", sender)
            )
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        facts = await self._dry_run.directions(address, found)
        return _json({"facts": facts, "text": directions.text(facts)})


def _address(name: str, written: str) -> bytes:
    """Return an address of the query. Raises ValueError."""
    try:
        return parse_written(written)
    except AddressError as error:
        raise ValueError(f"{name}: {error}") from None


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
