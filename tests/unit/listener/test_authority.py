"""Claims judged, failures counted and told."""

import asyncio
import os
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from argon2 import PasswordHasher
from scramp import ScramClient
from tests.unit.listener.test_users import put

from backstamp.listener import authority
from backstamp.listener.accounts import UsersError
from backstamp.listener.authentication import SUCCESS, Ask, End, Judge, Refusal
from backstamp.listener.authority import BUSY, LOCKED, TROUBLE, WRONG, Authority
from backstamp.listener.mechanisms import Claim, Password, Proof, Token
from backstamp.listener.passwords import BusyError, UncheckedError, account
from backstamp.listener.settings import AuthSettings
from backstamp.net.introspection import TroubleError
from backstamp.policy.token import TokenEndpoint
from backstamp.policy.user import User
from backstamp.telemetry import lines
from backstamp.telemetry.events import Alarm, Authenticated, AuthenticationFailed, Event
from backstamp.text import printable

HASHER = PasswordHasher(1, 8, 1)
ANN = User("ann", ("example.org",), "shop")
PEER, EVIL = "192.0.2.1", "192.0.2.66"
SECRETS = ("s3cret", "gu3ss", "t0ken")


class EndError(Exception):
    """Enough was seen."""


class World:
    """An authority on time of its own; its endpoint is a table."""

    def __init__(self, directory: Path) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.slept: list[float] = []
        self.tokens: dict[str, str | None] = {"t0ken": "ann"}
        self.trouble = False
        self.path = directory / "users"
        put(self.path, account(ANN, "s3cret", os.urandom, hasher=HASHER, iterations=4096))
        self.authority = Authority(
            AuthSettings(str(self.path), TokenEndpoint("http://127.0.0.1:9/"), failures=3),
            clock=self,
            emit=self.events.append,
            entropy=os.urandom,
            sleep=self.sleep,
            hasher=HASHER,
        )
        self.authority._endpoint = self  # type: ignore[assignment]  # what net/introspection is tested for
        self.authority.open()

    def wall(self) -> float:
        return self.now

    monotonic = wall

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def user(self, token: str) -> str | None:
        if self.trouble:
            raise TroubleError("it answered 500")
        return self.tokens.get(token)

    async def close(self) -> None:
        pass

    async def check(self, claim: Claim, peer: str = PEER) -> User | Refusal:
        return await self.authority.check(claim, peer)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.authority.close()
    # Security 11: whatever happened, no secret stands in an event, however it is shown.
    told = "".join(f"{one!r}{lines.json(one)!r}{lines.text(one)!r}" for one in made.events)
    assert not any(secret in told for secret in SECRETS)


async def test_a_broken_users_file_is_told_without_anybody_who_asks(world: World) -> None:
    """And so is one that is well again: the file is looked at every second."""
    good = world.path.read_text()

    async def sleep(seconds: float) -> None:
        world.now += seconds
        world.slept.append(seconds)
        if len(world.slept) == 2:
            world.path.write_text("broken\n")
        elif len(world.slept) == 4:
            world.path.write_text(good)
        elif len(world.slept) == 6:
            raise EndError

    world.authority._sleep = sleep
    with pytest.raises(EndError):
        await world.authority.run()
    assert world.slept == [1.0] * 6
    first, second = (one.problem for one in world.events if isinstance(one, Alarm))
    assert "users: line 1: not a JSON object" in first
    assert second.endswith("users: can be used again")


async def test_a_right_password(world: World) -> None:
    assert await world.check(Password("ann", "s3cret", "LOGIN")) == ANN
    assert world.events == [Authenticated(time=10**9, client=PEER, user="ann", mechanism="LOGIN")]
    assert world.slept == []


@pytest.mark.parametrize(
    "claim",
    [
        Password("ann", "gu3ss"),
        Password("nobody", "s3cret"),
        Password("a\nnn", "s3cret"),
        Password("x" * 300, "s3cret"),
        Token("", "other t0ken"),
        Token("bob", "t0ken"),
        Proof("ann", good=False),
        Proof("nobody", good=True),
    ],
)
async def test_all_that_is_wrong_gets_one_answer_after_a_second(world: World, claim: Claim) -> None:
    """Security 11: same text for unknown users, a delay, an event."""
    assert await world.check(claim) == Refusal(WRONG)
    assert world.slept == [1.0]
    (event,) = world.events
    assert isinstance(event, AuthenticationFailed)
    assert (event.reason, event.client, event.mechanism) == ("credentials", PEER, claim.mechanism)
    assert event.reply == "535 5.7.8 Authentication credentials invalid"
    assert event.user == printable(claim.username, 255)


async def test_locked_out_after_failures_even_with_the_right_password(world: World) -> None:
    """Security 11: counters over connections, by address and by user."""
    for _ in range(3):
        await world.check(Password("ann", "gu3ss"), EVIL)
    assert world.slept == [1.0, 2.0, 4.0]
    world.events.clear()
    for claim in (Password("ann", "s3cret"), Token("", "t0ken"), Proof("ann", good=True)):
        assert await world.check(claim, EVIL) == Refusal(LOCKED)
    assert {one.reason for one in world.events if isinstance(one, AuthenticationFailed)} == {"locked"}
    assert len(world.slept) == 3
    world.now += 901
    assert await world.check(Password("ann", "s3cret"), EVIL) == ANN


async def test_the_honest_user_elsewhere_is_not_locked_out(world: World) -> None:
    """Security 11: no lock-out of others by guessing at them."""
    await world.check(Password("ann", "s3cret"))
    for number in range(9):
        await world.check(Password("ann", "gu3ss"), f"192.0.2.{100 + number}")
    assert await world.check(Password("ann", "s3cret"), EVIL) == Refusal(LOCKED)
    assert await world.check(Password("ann", "s3cret"), PEER) == ANN


async def test_guesses_on_many_connections_at_once_are_no_more_guesses(world: World) -> None:
    """Security 11: a right guess that was under way when the lock-out began is not taken."""
    release = asyncio.Event()

    async def right(*_: Any) -> bool:
        await release.wait()
        return True

    world.authority._passwords.right = right  # type: ignore[union-attr,method-assign]
    guess = asyncio.create_task(world.check(Password("ann", "s3cret"), EVIL))
    await asyncio.sleep(0)
    for _ in range(3):
        await world.check(Proof("ann", good=False), EVIL)
    release.set()
    assert await guess == Refusal(LOCKED)


async def test_tokens(world: World) -> None:
    assert await world.check(Token("", "t0ken")) == ANN
    assert await world.check(Token("ann", "t0ken")) == ANN
    world.tokens["t0ken"] = "eve"
    assert await world.check(Token("", "t0ken")) == User("eve"), (
        "the endpoint may know more users than the file"
    )
    world.tokens["t0ken"] = "e\0ve"
    assert await world.check(Token("", "t0ken")) == Refusal(WRONG)


async def test_trouble_at_the_endpoint_is_temporary_and_told_once(world: World) -> None:
    """RFC 4954: 454 4.7.0."""
    world.trouble = True
    for _ in range(5):
        assert await world.check(Token("", "t0ken")) == Refusal(TROUBLE)
    world.trouble = False
    assert await world.check(Token("", "t0ken")) == ANN
    alarms = [one.problem for one in world.events if isinstance(one, Alarm)]
    assert alarms == ["token endpoint: it answered 500", "token endpoint: it answers again"]
    assert world.slept == []


async def test_too_many_at_once_are_told_to_come_again(world: World) -> None:
    async def busy(*_: Any) -> bool:
        raise BusyError

    world.authority._passwords.right = busy  # type: ignore[union-attr,method-assign]
    for _ in range(5):
        assert await world.check(Password("ann", "s3cret")) == Refusal(BUSY)
    assert world.slept == []


async def test_a_password_that_cannot_be_checked_is_told_to_the_operator(world: World) -> None:
    async def broken(*_: Any) -> bool:
        raise UncheckedError("Memory allocation error")

    world.authority._passwords.right = broken  # type: ignore[union-attr,method-assign]
    assert await world.check(Password("ann", "s3cret")) == Refusal(TROUBLE)
    assert [one.problem for one in world.events if isinstance(one, Alarm)] == [
        "a password could not be checked: Memory allocation error"
    ]


async def test_a_users_file_of_today_decides(world: World) -> None:
    await world.check(Password("ann", "s3cret"))
    put(world.path, account(User("ann"), "0ther", os.urandom, hasher=HASHER, iterations=4096))
    world.now += 2
    assert await world.check(Password("ann", "s3cret")) == Refusal(WRONG)
    assert await world.check(Password("ann", "0ther")) == User("ann")


async def test_a_whole_scram_exchange(world: World) -> None:
    """RFC 5802: with the keys of the users file."""
    session = world.authority.authentication()
    assert session.keyword == "AUTH SCRAM-SHA-256 PLAIN LOGIN OAUTHBEARER"
    client = ScramClient(["SCRAM-SHA-256"], "ann", "s3cret")
    asked = session.command(b"SCRAM-SHA-256 " + b64encode(client.get_client_first().encode()))
    assert isinstance(asked, Ask)
    client.set_server_first(b64decode(asked.reply[4:]).decode())
    step = session.line(b64encode(client.get_client_final().encode()))
    assert isinstance(step, Judge)
    told = session.judged(await world.check(step.claim))
    assert isinstance(told, Ask)
    client.set_server_final(b64decode(told.reply[4:]).decode())
    assert session.line(b"") == End(SUCCESS)
    assert session.user == ANN


async def test_what_is_not_configured_judges_nothing(world: World) -> None:
    bare = Authority(
        AuthSettings(), clock=world, emit=world.events.append, entropy=os.urandom, sleep=world.sleep
    )
    bare.open()
    assert bare.offered == ()
    for claim in (Password("ann", "s3cret"), Token("", "t0ken"), Proof("ann", good=True)):
        assert await bare.check(claim, PEER) == Refusal(WRONG)
    await bare.close()


async def test_a_users_file_that_cannot_be_read_is_told_at_the_start(world: World) -> None:
    settings = AuthSettings(str(world.path) + ".none", TokenEndpoint("http://127.0.0.1:9/"))
    other = Authority(settings, clock=world, emit=world.events.append, entropy=os.urandom, hasher=HASHER)
    with pytest.raises(UsersError, match="no such file"):
        other.open()
    await other.close()


async def test_no_exception_shows_a_secret(world: World) -> None:
    """Security 11: log redaction, where there is a bug too."""

    async def broken(*_: Any) -> bool:
        raise RuntimeError("a bug")

    world.authority._passwords.right = broken  # type: ignore[union-attr,method-assign]
    claim = Password("ann", "s3cret")
    with pytest.raises(RuntimeError) as caught:
        await world.check(claim)
    assert "s3cret" not in f"{caught.value!r} {claim!r} {msgspec.structs.replace(claim)}"


def test_every_reply_has_its_enhanced_status() -> None:
    """RFC 2034: the class of the status is the reply's."""
    replies = [getattr(authority, name) for name in ("WRONG", "LOCKED", "BUSY", "TROUBLE")]
    assert all(one[:1] == one[4:5] and one.endswith(b"\r\n") for one in replies)
