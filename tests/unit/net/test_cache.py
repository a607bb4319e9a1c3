"""The cache: bounded, and what was not asked for the longest goes first."""

import pytest
from tests.support.queues import TestClock

from backstamp.net.cache import Cache


async def test_the_oldest_goes_first() -> None:
    clock = TestClock()
    cache: Cache[str] = Cache(clock.monotonic, size=3)
    for key in "abc":
        await put(cache, key)
    await put(cache, "d")
    assert [cache.peek(key) for key in "abcd"] == [None, "b", "c", "d"]


async def test_an_entry_asked_again_is_young_again() -> None:
    clock = TestClock()
    cache: Cache[str] = Cache(clock.monotonic, size=2)
    await put(cache, "a")
    await put(cache, "b")
    clock.advance(10)
    await put(cache, "a")
    await put(cache, "c")
    assert [cache.peek(key) for key in "abc"] == ["a", None, "c"]


async def test_an_entry_looked_at_is_young_again() -> None:
    cache: Cache[str] = Cache(TestClock().monotonic, size=2)
    await put(cache, "a")
    await put(cache, "b")
    assert cache.peek("a") == "a"
    await put(cache, "c")
    assert [cache.peek(key) for key in "abc"] == ["a", None, "c"]


async def test_what_is_known_is_not_asked() -> None:
    cache: Cache[str] = Cache(TestClock().monotonic, size=2)
    await put(cache, "a")

    async def never() -> tuple[str, float]:
        raise AssertionError

    assert await cache.get("a", never) == "a"


async def test_a_question_that_breaks_is_asked_again() -> None:
    cache: Cache[str] = Cache(TestClock().monotonic, size=2)

    async def broken() -> tuple[str, float]:
        raise LookupError("broken")

    with pytest.raises(LookupError):
        await cache.get("a", broken)
    await put(cache, "a")
    assert cache.peek("a") == "a"


async def put(cache: Cache[str], key: str) -> None:
    async def ask() -> tuple[str, float]:
        return key, 10.0

    assert await cache.get(key, ask) == key
