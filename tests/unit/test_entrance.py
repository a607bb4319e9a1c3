"""The ways in share what holds for all of them."""

import asyncio
import itertools

import msgspec
from tests.support.door import RecordingQueue
from tests.support.talker import Talker

from backstamp.clock import SystemClock
from backstamp.config import Settings
from backstamp.entrance import Entrance
from backstamp.listener.settings import Limits, ListenerSettings
from backstamp.telemetry.events import Event


async def come(entrance: Entrance, number: int) -> Talker:
    return Talker(*await asyncio.open_connection(*entrance.listeners[number].address))


async def test_a_limit_holds_over_all_listeners_and_a_reload_changes_it() -> None:
    """Security 15: who opens another port begins nothing anew."""
    limits = Limits(connections=2)
    listen = ListenerSettings("relay.example.org", "127.0.0.1", 0, limits=limits)
    events, numbers = list[Event](), itertools.count(1)
    both = (listen, msgspec.structs.replace(listen, host="127.0.0.2"))
    settings = Settings(hostname=listen.hostname, queue_directory="none", listeners=both)
    entrance = Entrance(
        settings,
        RecordingQueue(),
        clock=SystemClock(),
        emit=events.append,
        entropy=lambda count: next(numbers).to_bytes(count, "big"),
        once=lambda _: False,
        refuse=lambda *_: None,
        grace=1.0,
    )
    for listener in entrance.listeners:
        await listener.start()
    try:
        clients = [await come(entrance, number) for number in (0, 1, 0)]
        greetings = [(await client.reply())[:9] for client in clients]
        assert greetings == [b"220 relay", b"220 relay", b"421 4.3.2"]
        wider = tuple(
            msgspec.structs.replace(one, limits=Limits(connections=3)) for one in settings.listeners
        )
        assert not entrance.reload(msgspec.structs.replace(settings, listeners=wider))
        clients += [await come(entrance, number) for number in (1, 0)]
        assert [(await client.reply())[:9] for client in clients[-2:]] == [b"220 relay", b"421 4.3.2"]
        for client in clients:
            client.go()
    finally:
        await entrance.close()
