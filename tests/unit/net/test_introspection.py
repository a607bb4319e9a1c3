"""Asking a token endpoint on the loopback."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from backstamp.net.introspection import LONGEST_ANSWER, REMEMBERED, Introspection, TroubleError
from backstamp.policy.token import TokenEndpoint


class Endpoint:
    """What answers, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.answer: Any = {"active": True, "username": "ann"}
        self.monotonic, self.wall = 100.0, 1_000_000.0
        self.hang = False
        self.url = ""
        self.made: list[Introspection] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(await request.post()))
        self.headers.append(request.headers)
        if self.hang:
            await asyncio.sleep(30)
        if isinstance(self.answer, web.StreamResponse):
            return self.answer
        return web.json_response(self.answer)

    def client(self, timeout: float = 10.0, **more: str) -> Introspection:
        endpoint = TokenEndpoint(self.url, **more)
        one = Introspection(
            endpoint, monotonic=lambda: self.monotonic, wall=lambda: self.wall, timeout=timeout
        )
        self.made.append(one)
        return one


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    app = web.Application()
    app.router.add_post("/introspect", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/introspect"
    yield made
    for one in made.made:
        await one.close()
    await runner.cleanup()


async def test_an_active_token_names_its_user(endpoint: Endpoint) -> None:
    assert await endpoint.client(client="re:lay", secret="s 3").user("tok/en+") == "ann"
    assert endpoint.asked == [{"token": "tok/en+", "token_type_hint": "access_token"}]
    assert endpoint.headers[0]["Authorization"] == "Basic cmUlM0FsYXk6cysz"
    assert endpoint.headers[0]["Accept"] == "application/json"


async def test_without_credentials_none_are_sent(endpoint: Endpoint) -> None:
    await endpoint.client().user("t")
    assert "Authorization" not in endpoint.headers[0]


@pytest.mark.parametrize(
    ("answer", "key", "user"),
    [
        ({"active": False, "username": "ann"}, "", None),
        ({"active": True, "sub": "s1"}, "", "s1"),
        ({"active": True, "sub": "s1", "username": "ann"}, "", "ann"),
        ({"active": True, "sub": "s1", "email": "a@b.example"}, "email", "a@b.example"),
        ({"active": True, "username": "ann", "exp": 999_999}, "", None),
        ({"active": True, "username": "ann", "exp": 1_000_000}, "", None),
        ({"active": True, "username": "ann", "exp": 1_000_001}, "", "ann"),
    ],
)
async def test_who_it_is(endpoint: Endpoint, answer: Any, key: str, user: str | None) -> None:
    endpoint.answer = answer
    assert await endpoint.client(user_key=key).user("t") == user


async def test_an_answer_is_remembered_until_the_token_ends(endpoint: Endpoint) -> None:
    endpoint.answer = {"active": True, "username": "ann", "exp": 1_000_060}
    client = endpoint.client()
    await client.user("t")
    endpoint.monotonic += 59
    assert await client.user("t") == "ann"
    assert len(endpoint.asked) == 1
    endpoint.monotonic += 2
    endpoint.answer = {"active": False}
    assert await client.user("t") is None
    assert await client.user("t") is None
    assert len(endpoint.asked) == 3, "that a token is not active is never remembered"


async def test_nothing_is_remembered_for_more_than_five_minutes(endpoint: Endpoint) -> None:
    client = endpoint.client()
    await client.user("t")
    endpoint.monotonic += REMEMBERED + 1
    await client.user("t")
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda: web.Response(status=401), "it answered 401"),
        (lambda: web.Response(status=302, headers={"Location": "/introspect"}), "it answered 302"),
        (lambda: web.Response(text="yes"), "no JSON object"),
        (lambda: web.Response(body=b"[" * 60_000), "no JSON object"),
        (lambda: web.Response(body=b'{"active": "\xff"}'), "no JSON object"),
        (lambda: [], "no JSON object"),
        (lambda: {"active": "true"}, "does not say whether"),
        (lambda: {}, "does not say whether"),
        (lambda: {"active": True, "username": 5}, "has no username, and no sub"),
        (lambda: web.Response(body=b" " * (LONGEST_ANSWER + 1)), "more than 65536 octets"),
        (
            lambda: web.Response(
                body=gzip.compress(b'{"active": true, "username": "ann"}'),
                headers={"Content-Encoding": "gzip"},
            ),
            "no JSON object",
        ),
    ],
)
async def test_trouble_is_no_judgement(endpoint: Endpoint, answer: Any, why: str) -> None:
    endpoint.answer = answer()
    client = endpoint.client(client="relay", secret="s3cret")
    with pytest.raises(TroubleError, match=why) as caught:
        await client.user("t0ken")
    assert "t0ken" not in repr(caught.value)
    endpoint.answer = {"active": True, "username": "ann"}
    assert await client.user("t0ken") == "ann", "trouble is not remembered"


async def test_who_does_not_answer_is_not_waited_for(endpoint: Endpoint) -> None:
    endpoint.hang = True
    with pytest.raises(TroubleError, match=r"did not answer within 0\.2 s"):
        await endpoint.client(timeout=0.2).user("t")


async def test_nobody_there(endpoint: Endpoint) -> None:
    endpoint.url = endpoint.url.replace("127.0.0.1", "127.0.0.99")
    with pytest.raises(TroubleError, match="cannot be asked: ClientConnector") as caught:
        await endpoint.client(client="relay", secret="s3cret").user("t0ken")
    assert "127" not in str(caught.value)


async def test_many_at_once_ask_once(endpoint: Endpoint) -> None:
    client = endpoint.client()
    assert await asyncio.gather(*(client.user("t") for _ in range(20))) == ["ann"] * 20
    assert len(endpoint.asked) == 1


def test_the_secret_does_not_show() -> None:
    """Security 11: log redaction."""
    assert "s3cret" not in repr(TokenEndpoint("https://id.example/", "relay", "s3cret"))
