"""Opening sessions, streaming, timers run on both loops: TLS, flow control, handles are theirs and differ."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

BOTH = ("test_opening_tls.py", "test_opening_auth.py", "test_client_streaming.py", "test_timer.py")


@pytest.hookimpl(optionalhook=True)  # older pytest-asyncio have one loop
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in BOTH:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
