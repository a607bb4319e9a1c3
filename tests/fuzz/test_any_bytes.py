"""Any octets on the socket: nothing breaks, nothing is said that is no reply, and nothing is queued but
what was answered 250.

Live listeners on both loops, of every kind: by address, with submission, with AUTH, behind a proxy, in TLS.
The judge is `oracle`, which knows the RFCs and not the relay. SECONDS is how long the long proof goes on,
SEED (it is told at the end) makes it say the same again.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
import uvloop
from argon2 import PasswordHasher
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.fuzz import fragments
from tests.fuzz.oracle import BrokenError, Story, Walk
from tests.support.certificates import written
from tests.support.door import Door, door

from backstamp.clock import SystemClock
from backstamp.listener.accounts import Account
from backstamp.listener.authority import Authority
from backstamp.listener.passwords import account
from backstamp.listener.settings import Auth, AuthSettings, Limits, TlsSettings
from backstamp.listener.users import change
from backstamp.policy.user import User
from backstamp.queue import ids
from backstamp.telemetry.events import Alarm

LIMITS = Limits(message_size=1_500_000, recipients=50, connections=10_000, content_memory=8_000_000)
HASHER = PasswordHasher(1, 8, 1)
KINDS = ("plain", "submission", "normalize", "auth", "required", "proxied", "starttls", "implicit")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LONG = 60.0
"""Seconds after which a session that goes nowhere is a failure."""
SECONDS = float(os.environ.get("SECONDS", "600"))
ABOUT = 4_000_000
"""Octets the process may grow by in all that time."""


class World:
    """Listeners of every kind, and what was told of them that should not have been."""

    def __init__(self) -> None:
        self.doors: dict[str, Door] = {}
        self.broken: list[dict[str, Any]] = []
        self.client: ssl.SSLContext
        self.told: set[tuple[str, str]] = set()
        """Listeners, and ids in a 250 since the last look."""
        self.cut_off = 0
        """Sessions since then that did not hear everything."""
        self.sessions = 0
        self.messages = 0

    def calm(self) -> None:
        """See that nothing was told but what was told."""
        assert self.broken == []
        names = [
            (kind, ids.text(message.queue_id))
            for kind, one in self.doors.items()
            for message in one.queue.messages
        ]
        assert len(names) == len(set(names))
        assert self.told <= set(names), "a 250, and no message"
        if not self.cut_off:
            assert set(names) == self.told, "a message, and no 250"
        for one in self.doors.values():
            assert [event for event in one.events if isinstance(event, Alarm)] == []
            assert all(deposit.ended for deposit in one.queue.deposits), "a content nobody ended"
            assert one.budget.used == one.budget.waiting == one.listener.connections == 0
        self.messages += len(names)

    def forget(self) -> None:
        """Begin anew."""
        for one in self.doors.values():
            one.events.clear()
            one.queue.messages.clear()
            one.queue.deposits.clear()
        self.broken.clear()
        self.told.clear()
        self.cut_off = 0


@contextlib.asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    made = World()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: made.broken.append(context))
    authority = trustme.CA()
    pair = written(authority, directory, "relay.example.org")
    made.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(made.client)
    path = str(directory / "users")
    ann: Account = account(User("ann"), "s3cret", os.urandom, hasher=HASHER, iterations=4096)
    change(path, "ann", lambda _: ann)

    async def at_once(_: float) -> None:
        """Keep nobody waiting for an answer."""

    judge = Authority(
        AuthSettings(path, failures=1_000_000),
        clock=SystemClock(),
        emit=lambda _: None,
        entropy=os.urandom,
        sleep=at_once,
        hasher=HASHER,
    )
    judge.open()
    async with contextlib.AsyncExitStack() as stack:

        async def open_door(kind: str, **changes: Any) -> None:
            made.doors[kind] = await stack.enter_async_context(door(LIMITS, **changes))

        await open_door("plain")
        await open_door(
            "submission", submission=True, qualify="example.org", future_release=3600.0, priority=1
        )
        await open_door("normalize", line_endings="normalize")
        await open_door("auth", authority=judge, auth=Auth.OPTIONAL)
        await open_door("required", authority=judge, auth=Auth.REQUIRED, allow=())
        await open_door("proxied", proxies=(ip_network("127.0.0.0/8"),))
        await open_door("starttls", authority=judge, auth=Auth.OPTIONAL, tls=TlsSettings("starttls", (pair,)))
        await open_door("implicit", authority=judge, auth=Auth.REQUIRED, tls=TlsSettings("implicit", (pair,)))
        yield made
    await judge.close()


class Client:
    """One session."""

    def __init__(self, world: World, kind: str, octets: bytes, random: Random) -> None:
        self._world = world
        self._kind = kind
        self._door = world.doors[kind]
        self._octets = octets
        self._random = random
        self._heard = bytearray()
        self._more = asyncio.Event()
        self._over = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def play(self) -> Story | None:
        """Say it all, and judge what was heard; None if it went away in the middle of it."""
        aborted = self._random.random() < 0.05
        if aborted:
            self._octets = self._octets[: self._random.randint(0, len(self._octets))]
        tls = self._world.client if self._kind == "implicit" else None
        self._reader, self._writer = await asyncio.open_connection(
            *self._door.listener.address, ssl=tls, server_hostname="relay.example.org" if tls else None
        )
        greeted = True
        reading: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(LONG):
                if self._kind == "proxied":
                    self._writer.write(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
                if self._kind == "starttls" and self._random.random() < 0.7:
                    tls = self._world.client
                    greeted = False
                    await self._protect()
                reading = asyncio.create_task(self._read())
                await self._say(self._octets)
                if aborted:
                    self._writer.transport.abort()
                elif tls is None:
                    with contextlib.suppress(OSError):
                        self._writer.write_eof()
                else:
                    await self._say_goodbye(greeted)
                await reading
        except TimeoutError:
            walk = self._walk(greeted).story
            raise BrokenError(f"{self._kind}: no end; {walk}, heard {bytes(self._heard)!r}") from None
        finally:
            if reading is not None:
                reading.cancel()
            self._writer.transport.abort()
        story = self._walk(greeted).story
        self._world.sessions += 1
        self._world.told |= {(self._kind, message.queue_id) for message in story.accepted}
        # An end of the connection with octets unread by the relay is a reset, which eats replies (TCP).
        if aborted or story.encrypted or (story.lacking and not self._whole):
            self._world.cut_off += 1
        elif story.lacking:
            raise BrokenError(f"no reply to {story.lacking}")
        self._compare(story)
        return story

    _whole = True
    """Whether the relay ended the connection in order."""

    def _walk(self, greeted: bool) -> Walk:
        qualify = b"example.org" if self._kind == "submission" else b""
        return Walk(
            self._octets, bytes(self._heard), size=LIMITS.message_size, qualify=qualify, greeted=greeted
        )

    async def _protect(self) -> None:
        """Say something, then STARTTLS."""
        before = self._random.choice(
            [b"", b"EHLO c.example\r\n", b"EHLO c.example\r\nMAIL FROM:<x@a.example>\r\n"]
        )
        self._writer.write(before + b"STARTTLS\r\n")
        while not (line := await self._reader.readline()).startswith(b"220 2.0.0"):
            assert line
        await self._writer.start_tls(self._world.client, server_hostname="relay.example.org")

    async def _say(self, octets: bytes) -> None:
        for piece in fragments.cut(octets, self._random):
            if self._over or self._writer.transport.is_closing():
                return
            try:
                self._writer.write(piece)
                if self._random.random() < 0.3:
                    await self._writer.drain()
                    await asyncio.sleep(0)
            except ConnectionError:
                return

    async def _say_goodbye(self, greeted: bool) -> None:
        """Complete what was begun, and leave: TLS cannot be closed on one side."""
        while not self._over:
            story = self._walk(greeted).story
            if story.closed:
                return
            if story.lacking:
                self._more.clear()
                await self._more.wait()
                continue
            octets = story.open or b"QUIT\r\n"
            self._octets += octets
            await self._say(octets)

    async def _read(self) -> None:
        try:
            while octets := await self._reader.read(65_536):
                self._heard += octets
                self._more.set()
        except (ConnectionError, ssl.SSLError):
            self._whole = False
        self._over = True
        self._more.set()

    def _compare(self, story: Story) -> None:
        """Hold what was said to be taken against what is queued."""
        if not story.accepted:
            return
        queued = {ids.text(message.queue_id): message for message in self._door.queue.messages}
        for told in story.accepted:
            message = queued[told.queue_id]
            addresses = [recipient.address for recipient in message.envelope.recipients]
            wanted = sorted(told.recipients, key=lambda one: one.rpartition(b"@")[2].lower())
            assert list(dict.fromkeys(addresses)) == list(dict.fromkeys(wanted))
            assert len(addresses) <= len(told.recipients)
            assert message.envelope.sender == told.sender
            assert isinstance(message.content, bytes)
            content = told.content
            if self._kind == "normalize":
                content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            else:
                assert b"\n" not in content.replace(b"\r\n", b"")
                assert b"\r" not in content.replace(b"\r\n", b"")
            assert b"\0" not in content
            assert message.content.endswith(content)
            assert message.content.startswith(b"Received: from ")


async def settle(world: World) -> None:
    """Wait until the sessions are gone."""
    async with asyncio.timeout(LONG):
        while any(one.listener.connections for one in world.doors.values()):
            await asyncio.sleep(0.001)


async def crowd(world: World, sessions: Sequence[tuple[str, bytes, int]]) -> list[Story | None]:
    """Play sessions at the same time."""
    world.forget()
    clients = [Client(world, kind, octets, Random(seed)) for kind, octets, seed in sessions]
    stories = await asyncio.gather(*(client.play() for client in clients))
    await settle(world)
    world.calm()
    return stories


NUMBERS = st.lists(st.integers(0, 2**40), min_size=1, max_size=12)
SESSION = st.tuples(st.sampled_from(KINDS), NUMBERS, st.integers(0, 2**20))


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


@contextlib.contextmanager
def running(loop: Callable[[], asyncio.AbstractEventLoop], directory: Path) -> Any:
    """Give a runner and a world in it."""
    with asyncio.Runner(loop_factory=loop) as runner:
        opened = world(directory)
        made = runner.run(opened.__aenter__())
        try:
            yield runner, made
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_whatever_is_said_the_answer_is_smtp_and_true(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Security 4, 15: what was answered 250 is queued, for exactly those recipients; nothing is held."""
    with running(loop, tmp_path) as (runner, made):

        @settings(
            max_examples=150, deadline=None, derandomize=True, database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )  # fmt: skip
        @given(st.lists(SESSION, min_size=1, max_size=5))
        def one(sessions: list[tuple[str, list[int], int]]) -> None:
            runner.run(
                crowd(made, [(kind, fragments.session(numbers), seed) for kind, numbers, seed in sessions])
            )

        one()
        say(f"{made.sessions} sessions, {made.messages} messages")
        assert made.messages > 50, "hardly a message among so much talk"


def test_octets_that_mean_nothing_do_nothing(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    with running(loop, tmp_path) as (runner, made):

        @settings(max_examples=60, deadline=None, derandomize=True, database=None)
        @given(st.sampled_from(KINDS), st.binary(max_size=3000), st.integers(0, 2**20))
        @example("proxied", b"PROXY TCP4 127.0.0.1\r\n", 3)
        def one(kind: str, octets: bytes, seed: int) -> None:
            (story,) = runner.run(crowd(made, [(kind, octets, seed)]))
            assert story is None or not story.accepted

        one()


def resident() -> int:
    """Return the octets of memory the process has, without those that it only has not given back yet."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def on_and_on(world: World, seconds: float, random: Random) -> dict[str, list[int]]:
    """Play sessions, some at a time, until the time is over; return the memory as it was now and then."""
    began = time.monotonic()
    seen: dict[str, list[int]] = {"resident": [], "traced": []}
    quarter = 1
    while (elapsed := time.monotonic() - began) < seconds:
        sessions = []
        for _ in range(random.randint(1, 16)):
            numbers = [random.getrandbits(40) for _ in range(random.randint(1, 16))]
            sessions.append((random.choice(KINDS), fragments.session(numbers), random.getrandbits(20)))
        try:
            await crowd(world, sessions)
        except BaseException as error:
            error.add_note(f"after {elapsed:.0f} s: {sessions!r}")
            raise
        if elapsed > quarter * seconds / 10:
            gc.collect()
            seen["resident"].append(resident())
            seen["traced"].append(tracemalloc.get_traced_memory()[0])
            quarter += 1
    return seen


@pytest.mark.slow
@pytest.mark.timeout(int(2 * SECONDS) + 300)
@pytest.mark.parametrize(("name", "share"), [("uvloop", 1.0), ("asyncio", 0.2)])
def test_ten_minutes_of_any_octets_leave_nothing_behind(
    name: str, share: float, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Security 15: a crowd says whatever comes to it, and the memory is that of the first minute."""
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    with running(LOOPS[name], tmp_path) as (runner, made):
        tracemalloc.start()
        try:
            seen = runner.run(on_and_on(made, SECONDS * share, Random(seed)))
        finally:
            tracemalloc.stop()
        say(f"seed {seed}: {made.sessions} sessions, {made.messages} messages, {seen}")
        assert seen["traced"][-1] - seen["traced"][0] < ABOUT, seen
        assert seen["resident"][-1] - seen["resident"][0] < 4 * ABOUT, seen
