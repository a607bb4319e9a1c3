"""The body of a request, which comes in time or not at all."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

WHOLE: Final = 30.0
"""Seconds the body of a verb has to come."""

PIECE: Final = 60.0
"""Seconds between two pieces of a file."""


async def whole(request: web.Request) -> bytes:
    """Return a body of at most a megabyte. Raises HTTPException: it took too long, or is larger."""
    try:
        async with asyncio.timeout(WHOLE):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """Yield a body of any length as it comes. Raises HTTPException: it stood still."""
    while True:
        try:
            async with asyncio.timeout(PIECE):
                piece = await request.content.readany()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        if not piece:
            return
        yield piece
