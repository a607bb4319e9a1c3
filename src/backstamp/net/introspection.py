"""Bearer tokens judged by the server that knows them: OAuth 2.0 Token Introspection (RFC 7662).

One POST a token; what is active is remembered until it ends, five minutes at most. No
redirect is followed, no proxy of the environment used, an answer is bounded in time and
octets. Whatever is not a plain answer is trouble, and trouble says nothing about the token.
Tokens stand in no exception and no event; in memory they are known by their digest.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
import msgspec

from backstamp.net.cache import Cache
from backstamp.policy.token import TokenEndpoint

TIMEOUT: Final = 10.0
"""Seconds for a whole question."""

LONGEST_ANSWER: Final = 65_536
REMEMBERED: Final = 300.0
SIZE: Final = 1000
AT_ONCE: Final = 20
"""Octets of an answer; seconds and number of tokens remembered; questions at a time. All at most."""


class TroubleError(Exception):
    """The endpoint does not answer as it should; the text is for the operator."""


class Introspection:
    """Asks one endpoint. `monotonic` and `wall` give seconds. Opened and closed in one loop."""

    def __init__(
        self,
        endpoint: TokenEndpoint,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        timeout: float = TIMEOUT,
    ) -> None:
        self._endpoint = endpoint
        self._wall = wall
        self._timeout = timeout
        self._known: Cache[str] = Cache(monotonic, size=SIZE)
        self._session: aiohttp.ClientSession | None = None

    async def user(self, token: str) -> str | None:
        """Return the name of the user whose token this is, None if it is not active.

        Raises:
            TroubleError: that is not to be learned now.
        """
        key = hashlib.sha256(token.encode()).hexdigest()
        return await self._known.get(key, lambda: self._ask(token)) or None

    async def close(self) -> None:
        """End the questions under way."""
        await self._known.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, token: str) -> tuple[str, float]:
        try:
            async with self._opened().post(
                self._endpoint.url,
                data={"token": token, "token_type_hint": "access_token"},
                headers=self._headers(),
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise TroubleError(f"it answered {answer.status}")
                content = await _bounded(answer.content)
        except TimeoutError:
            raise TroubleError(f"it did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            # Without the text of it, which may repeat what an odd server said.
            raise TroubleError(f"it cannot be asked: {type(error).__name__}") from None
        return self._read(content)

    def _read(self, content: bytes) -> tuple[str, float]:
        """Return who it is, empty for nobody, and how long that holds."""
        try:
            found = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise TroubleError("its answer is no JSON object") from None
        active = found.get("active")
        if not isinstance(active, bool):
            raise TroubleError("its answer does not say whether the token is active")
        left = REMEMBERED
        end = found.get("exp")
        if isinstance(end, int | float) and not isinstance(end, bool):
            left = min(left, end - self._wall())
        if not active or left <= 0:
            return "", 0.0
        key = self._endpoint.user_key
        name = found.get(key) if key else found.get("username") or found.get("sub")
        if not isinstance(name, str) or not name:
            raise TroubleError(f"its answer has no {key or 'username, and no sub'}")
        return name, left

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._endpoint.client:
            # RFC 6749 §2.3.1: encoded as in a form first.
            name, secret = quote_plus(self._endpoint.client), quote_plus(self._endpoint.secret)
            headers["Authorization"] = "Basic " + b64encode(f"{name}:{secret}".encode()).decode()
        return headers

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    content = bytearray()
    async for piece in stream.iter_any():
        content += piece
        if len(content) > LONGEST_ANSWER:
            raise TroubleError(f"its answer has more than {LONGEST_ANSWER} octets")
    return bytes(content)
