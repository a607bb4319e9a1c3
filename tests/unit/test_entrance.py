"""The ways in share what holds for all of them."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession
from msgspec.structs import replace
from tests.support.door import RecordingQueue
from tests.support.talker import Talker

from backstamp import entrance as entrances
from backstamp.clock import SystemClock
from backstamp.config import Settings
from backstamp.entrance import Entrance
from backstamp.listener.settings import Auth, AuthSettings, HttpSettings, Limits, ListenerSettings
from backstamp.policy.destination import Rate
from backstamp.telemetry.events import Alarm, Event, Limited


async def come(entrance: Entrance, number: int) -> Talker:
    return Talker(*await asyncio.open_connection(*entrance.listeners[number].address))


def entered(settings: Settings) -> tuple[Entrance, list[Event]]:
    """Return the ways in of a relay without a queue, and what it tells."""
    events, numbers = list[Event](), itertools.count(1)
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
    return entrance, events


async def test_the_users_file_is_looked_at_where_nobody_asks(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("")
    listen = ListenerSettings("relay.example.org", "127.0.0.1", 0)
    entrance, events = entered(
        Settings(
            hostname=listen.hostname,
            queue_directory="none",
            listeners=(listen,),
            auth=AuthSettings(users=str(file)),
        )
    )
    entrance.open()
    running = asyncio.create_task(entrance.run())
    try:
        file.unlink()
        async with asyncio.timeout(30):
            while not events:
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await entrance.close()
    [alarm] = events
    assert isinstance(alarm, Alarm)
    assert alarm.problem == f"{file}: no such file; backstamp user add makes it"


async def test_a_rate_holds_over_smtp_and_http() -> None:
    """Security 15: who goes to another door begins nothing anew."""
    limits = Limits(message_rate=Rate(1, 3600.0), exempt=())
    allow = (ip_network("127.0.0.0/8"),)
    listen = ListenerSettings("relay.example.org", "127.0.0.1", 0, allow, limits=limits)
    entrance, events = entered(
        Settings(
            hostname=listen.hostname, queue_directory="none", listeners=(listen,), http=HttpSettings(listen)
        )
    )
    assert entrance.http is not None
    await entrance.listeners[0].start()
    await entrance.http.start()
    try:
        url = "http://{}:{}/api/v1/messages".format(*entrance.http.address)
        mail = {"from": "a@x.example", "to": ["b@y.example"], "text": ""}
        async with ClientSession() as client:
            said = [(await client.post(url, json=mail)).status for _ in range(2)]
        assert said == [202, 503]
        sender = await come(entrance, 0)
        await sender.reply()
        assert (await sender.say(b"EHLO x")).startswith(b"250")
        assert (await sender.say(b"MAIL FROM:<a@x.example>")).startswith(b"450 4.7.1")
        sender.go()
        assert [one.limit for one in events if isinstance(one, Limited)] == ["message_rate"]
    finally:
        await entrance.close()


async def test_a_limit_holds_over_all_listeners_and_a_reload_changes_it() -> None:
    """Security 15: who opens another port begins nothing anew."""
    limits = Limits(connections=2)
    listen = ListenerSettings("relay.example.org", "127.0.0.1", 0, limits=limits)
    both = (listen, msgspec.structs.replace(listen, host="127.0.0.2"))
    settings = Settings(hostname=listen.hostname, queue_directory="none", listeners=both)
    entrance, _ = entered(settings)
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


async def test_a_reload_to_auth_that_only_a_restart_begins_refuses_nobody_meanwhile() -> None:
    """Mail would be refused for good (530) that was taken a moment ago, and AUTH not even offered."""
    allow = (ip_network("127.0.0.0/8"),)
    listen = ListenerSettings("relay.example.org", "127.0.0.1", 0, allow)
    settings = Settings(hostname=listen.hostname, queue_directory="none", listeners=(listen,))
    entrance, events = entered(settings)
    await entrance.listeners[0].start()
    try:
        strict = msgspec.structs.replace(listen, auth=Auth.REQUIRED, allow=())
        entrance.reload(
            msgspec.structs.replace(settings, listeners=(strict,), auth=AuthSettings(users="/none"))
        )
        client = await come(entrance, 0)
        await client.reply()
        await client.say(b"EHLO client.test")
        assert (await client.hand_in(b"Subject: x\r\n")).startswith(b"250 2.0.0")
        client.go()
        [alarm] = [event for event in events if isinstance(event, Alarm)]
        assert alarm.problem == "127.0.0.1 port 0: auth begins at a start only; restart to apply"
        assert alarm.action == "the listener stays as it was"
    finally:
        await entrance.close()


async def test_a_reload_changes_who_may_open_the_socket_file() -> None:
    """Security 10: who may open it may relay, so what was reloaded must hold."""
    directory = tempfile.TemporaryDirectory(prefix="bs")  # a socket's path is short
    file = Path(directory.name) / "smtp.sock"
    listen = ListenerSettings("relay.example.org", str(file), 0, mode=0o666)
    settings = Settings(hostname=listen.hostname, queue_directory="none", listeners=(listen,))
    entrance, events = entered(settings)
    await entrance.listeners[0].start()
    try:
        narrow = msgspec.structs.replace(listen, mode=0o600)
        entrance.reload(msgspec.structs.replace(settings, listeners=(narrow,)))
        assert (file.stat().st_mode & 0o777, events) == (0o600, [])
        file.unlink()
        entrance.reload(settings)
        [alarm] = events
        assert isinstance(alarm, Alarm)
        assert alarm.problem == f"unix:{file}: its mode cannot be changed: no such file or directory"
    finally:
        await entrance.close()
        directory.cleanup()


@pytest.mark.parametrize("credentials", ["\xff", "é", "\udcff"])
def test_credentials_beyond_ascii_are_wrong_and_no_bug(credentials: str) -> None:
    """Who may say anything before a password must not be able to make alarms."""
    assert entrances._claim("basic", credentials) is None
    assert entrances._claim("bearer", credentials) is None


LISTEN = ListenerSettings("relay.example.org", "127.0.0.1", 0)
SETTINGS = Settings(hostname=LISTEN.hostname, queue_directory="none", listeners=(LISTEN,))


async def greeting(entrance: Entrance, number: int) -> bytes:
    client = await come(entrance, number)
    said = await client.reply()
    client.go()
    return said


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Entrance, list[Event]]]:
    entrance, events = entered(settings)
    for listener in entrance.listeners:
        await listener.start()
    try:
        yield entrance, events
    finally:
        await entrance.close()


async def test_a_new_name_is_said_by_nobody_before_a_restart() -> None:
    """The name in the greeting is that of EHLO, of reports and of the trace: they change together."""
    http = HttpSettings(LISTEN)
    async with opened(replace(SETTINGS, http=http)) as (entrance, _):
        named = replace(LISTEN, hostname="other.example.org", tenant="new")
        assert not entrance.reload(
            replace(
                SETTINGS,
                hostname=named.hostname,
                listeners=(named,),
                http=replace(http, listener=named, requests=7),
            )
        )
        assert (await greeting(entrance, 0)).startswith(b"220 relay.example.org ")
        assert entrance.http is not None
        told = entrance.http.settings
        assert (told.requests, told.listener.tenant) == (7, "new")
        assert told.listener.hostname == LISTEN.hostname


async def test_listeners_whose_ports_the_system_chose_keep_their_own_settings() -> None:
    both = tuple(replace(LISTEN, tenant=name) for name in ("a", "b"))
    async with opened(replace(SETTINGS, listeners=both)) as (entrance, _):
        later = tuple(replace(one, tenant=one.tenant * 2) for one in both)
        assert not entrance.reload(replace(SETTINGS, listeners=later))
        assert [one.settings.tenant for one in entrance.listeners] == ["aa", "bb"]
        for fewer_or_more in (later[:1], (*later, LISTEN)):
            assert entrance.reload(replace(SETTINGS, listeners=fewer_or_more)) == ["listen addresses"]


async def test_new_permissions_of_a_socket_file_hold_at_once(tmp_path: Path) -> None:
    local = replace(LISTEN, host=str(tmp_path / "smtp.sock"), mode=0o666)
    async with opened(replace(SETTINGS, listeners=(local,))) as (entrance, events):
        assert not entrance.reload(replace(SETTINGS, listeners=(replace(local, mode=0o600),)))
        assert (tmp_path / "smtp.sock").stat().st_mode & 0o777 == 0o600
        (tmp_path / "smtp.sock").unlink()
        assert not entrance.reload(replace(SETTINGS, listeners=(replace(local, mode=0o660),)))
        [alarm] = events
        assert isinstance(alarm, Alarm)
        assert alarm.action == "the listener stays as it was"


async def test_auth_that_nobody_can_judge_before_a_restart_refuses_nobody(tmp_path: Path) -> None:
    """530 to everybody until the restart would be mail returned for good."""
    http = HttpSettings(LISTEN)
    async with opened(replace(SETTINGS, http=http)) as (entrance, events):
        asking = replace(LISTEN, auth=Auth.REQUIRED, allow=())
        assert not entrance.reload(
            replace(
                SETTINGS,
                auth=AuthSettings(users=str(tmp_path / "users")),
                listeners=(asking,),
                http=replace(http, auth=True),
            )
        )
        assert entrance.listeners[0].settings == LISTEN
        assert entrance.http is not None
        assert entrance.http.settings == http
        alarms = [one for one in events if isinstance(one, Alarm)]
        assert [one.problem for one in alarms] == [
            "127.0.0.1 port 0: auth begins at a start only; restart to apply",
            "127.0.0.1 port 0: auth begins at a start only; restart to apply",
        ]


async def test_authentication_by_http_is_asked_for_at_once_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    http = HttpSettings(replace(LISTEN, allow=(ip_network("127.0.0.0/8"),)))
    settings = replace(SETTINGS, http=http, auth=AuthSettings(users=str(tmp_path / "users")))
    async with opened(settings) as (entrance, _), ClientSession() as client:
        assert entrance.http is not None
        await entrance.http.start()
        url = "http://{}:{}/api/v1/messages".format(*entrance.http.address)
        for auth, status in ((False, 415), (True, 401), (False, 415)):
            assert not entrance.reload(replace(settings, http=replace(http, auth=auth)))
            async with client.post(url, data=b"x") as answer:
                assert answer.status == status
        for other in (None, replace(http, listener=replace(http.listener, port=1))):
            assert entrance.reload(replace(settings, http=other)) == ["http address"]


async def test_clients_are_those_of_every_way_in() -> None:
    """The number is held against `[limits] connections`, for which both doors count."""
    async with opened(replace(SETTINGS, http=HttpSettings(LISTEN))) as (entrance, _):
        assert entrance.http is not None
        await entrance.http.start()
        by_smtp = await come(entrance, 0)
        await by_smtp.reply()
        _, by_http = await asyncio.open_connection(*entrance.http.address)
        async with asyncio.timeout(20):
            while entrance.clients < 2:
                await asyncio.sleep(0.01)
        by_http.close()
        by_smtp.go()
        async with asyncio.timeout(20):
            while entrance.clients:
                await asyncio.sleep(0.01)
