"""The suppression list over HTTP: look, add, remove, export, import.

An import is spooled to a temporary file as it comes, so that a million lines cost no memory,
and is taken whole or answered with its mistakes, each with its line. Neither NDJSON nor CSV
nor DELETE is what a page of another site can make a browser send unasked.
"""

import asyncio
import base64
import tempfile
from typing import Any, BinaryIO, Final

import msgspec
from aiohttp import web

from backstamp.admin.body import pieces, whole
from backstamp.admin.paging import limit
from backstamp.clock import Clock
from backstamp.mail.address import to_alabel
from backstamp.policy.suppression import Entry, Source, class_name, in_time, tenant_name, wanted
from backstamp.policy.suppression_file import CSV, NDJSON, export
from backstamp.suppression.database import Asked, Key
from backstamp.suppression.keeper import MistakenFileError, SuppressionList

PATH: Final = "/api/v1/suppression"

FILE_LIMIT: Final = 1 << 30
"""Octets of an import."""

PIECE: Final = 1 << 20
"""Octets of an import that are written to its spool together."""


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an addition. `expires` is seconds since the epoch; absent: until it is removed."""

    address: str
    tenant: str = ""
    bounce_class: str = ""
    reply: str = ""
    expires: int | None = None


class Removal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a removal; without a tenant the address is removed for every tenant and for all."""

    address: str
    tenant: str | None = None


class SuppressionRoutes:
    """The routes below `/api/v1/suppression`."""

    def __init__(self, suppression: SuppressionList, clock: Clock) -> None:
        self._list = suppression
        self._clock = clock

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get(PATH, self._page)
        router.add_post(PATH, self._add)
        router.add_delete(PATH, self._remove)
        router.add_get(f"{PATH}/export", self._export)
        router.add_post(f"{PATH}/import", self._import)

    async def _page(self, request: web.Request) -> web.Response:
        try:
            asked = _asked(request)
            found = await self._list.page(asked)
        except ValueError as error:
            return _refused(str(error))
        except OSError as error:
            return _refused(str(error), 503)
        more = len(found) == asked.limit
        behind = _token((found[-1].address, found[-1].tenant)) if more else None
        return _json({"entries": found, "next": behind})

    async def _add(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _not_json()
        now = int(self._clock.wall())
        try:
            wish = msgspec.json.decode(await whole(request), type=Wish)
            if wish.expires is not None and wish.expires <= now:
                raise ValueError("expires is a time that has been: seconds since 1970 are wanted")
            in_time("expires", wish.expires)
            entry = Entry(
                wanted(wish.address),
                tenant_name(wish.tenant),
                class_name(wish.bounce_class),
                wish.reply[:1000],
                now,
                wish.expires,
                Source.OPERATOR,
            )
            await self._list.add(entry)
        except (msgspec.DecodeError, ValueError) as error:
            return _refused(str(error))
        except OSError as error:
            return _refused(str(error), 503)
        return _json(entry)

    async def _remove(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _not_json()
        try:
            wish = msgspec.json.decode(await whole(request), type=Removal)
            removed = await self._list.remove(wanted(wish.address), wish.tenant)
        except (msgspec.DecodeError, ValueError) as error:
            return _refused(str(error))
        except OSError as error:
            return _refused(str(error), 503)
        return _json({"removed": removed}) if removed else _refused("it is not on the list", 404)

    async def _export(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        pages = self._list.pages()
        try:
            first: list[Entry] = await anext(pages, [])
        except OSError as error:
            return _refused(str(error), 503)
        await response.prepare(request)
        await response.write(b"".join(map(export, first)))
        # Trouble from here on breaks the connection: an export that ended would look whole.
        async for page in pages:
            await response.write(b"".join(map(export, page)))
        await response.write_eof()
        return response

    async def _import(self, request: web.Request) -> web.Response:
        kind = request.content_type
        if kind not in {NDJSON, CSV}:
            return _refused(f"the body is NDJSON or CSV, and says so (Content-Type: {NDJSON} or {CSV})", 415)
        try:
            with tempfile.TemporaryFile() as file:
                if not await _spool(request, file):
                    return _refused(f"a file has at most {FILE_LIMIT} octets", 413)
                count = await self._list.take(kind, file)
        except MistakenFileError as error:
            text = "nothing was taken: " + "; ".join(
                f"line {one.line}: {one.problem}" for one in error.mistakes[:3]
            )
            return _json({"error": text, "mistakes": error.mistakes}, 400)
        except OSError as error:
            return _refused(str(error), 503)
        return _json({"entries": count})


async def _spool(request: web.Request, file: BinaryIO) -> bool:
    """Write the body into a file, and go to its beginning; tell whether it is small enough."""
    size = 0
    gathered = bytearray()
    async for piece in pieces(request):
        gathered += piece
        size += len(piece)
        if size > FILE_LIMIT:
            return False
        if len(gathered) >= PIECE:
            await asyncio.to_thread(file.write, bytes(gathered))
            gathered.clear()
    file.write(gathered)
    file.seek(0)
    return True


def _asked(request: web.Request) -> Asked:
    query = request.query
    address, domain = query.get("address"), query.get("domain")
    return Asked(
        address=None if address is None else _address(address),
        domain=None if domain is None else to_alabel(domain.encode("utf-8", "replace")),
        tenant=query.get("tenant"),
        after=None if "after" not in query else _key(query["after"]),
        limit=limit(query),
    )


def _address(written: str) -> str:
    try:
        return wanted(written)
    except ValueError as error:
        raise ValueError(f"address: {error}") from None


def _token(key: Key) -> str:
    """Return where a page ended, as a word for `after`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode("ascii")


def _key(token: str) -> Key:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token.encode()), type=tuple[str, str])
    except (ValueError, msgspec.DecodeError):
        raise ValueError("after: not what an answer had as next") from None


def _not_json() -> web.Response:
    return _refused("the body is JSON, and says so (Content-Type: application/json)", 415)


def _refused(text: str, status: int = 400) -> web.Response:
    return _json({"error": text}, status)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
