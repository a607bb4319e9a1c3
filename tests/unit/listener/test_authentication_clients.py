"""Clients as they are, against AUTH as a session is to drive it: command, lines, judgement."""

import asyncio
import os
import smtplib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from tests.unit.listener.test_users import put

from backstamp.clock import SystemClock
from backstamp.listener import sasl
from backstamp.listener.authentication import Ask, End, Judge
from backstamp.listener.authority import Authority
from backstamp.listener.passwords import account
from backstamp.listener.settings import AuthSettings
from backstamp.policy.user import User
from backstamp.telemetry.events import Event

HASHER = PasswordHasher(1, 8, 1)


async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: Authority) -> None:
    """Do what a session does, and no more."""
    auth = authority.authentication()
    writer.write(b"220 relay.example.org ESMTP\r\n")
    while line := await reader.readline():
        verb, _, argument = line.removesuffix(b"\r\n").partition(b" ")
        match verb.upper():
            case b"EHLO":
                writer.write(b"250-relay.example.org\r\n250 " + auth.keyword.encode() + b"\r\n")
            case b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                break
            case b"NOOP":
                who = auth.user.name if auth.user is not None else "nobody"
                writer.write(f"250 2.0.0 {who}\r\n".encode())
            case _:
                step = auth.command(argument)
                while not isinstance(step, End):
                    if isinstance(step, Judge):
                        step = auth.judged(await authority.check(step.claim, "127.0.0.1"))
                    else:
                        assert isinstance(step, Ask)
                        writer.write(step.reply)
                        answer = (await reader.readline()).removesuffix(b"\r\n")
                        step = auth.too_long() if len(answer) > sasl.LONGEST_LINE else auth.line(answer)
                writer.write(step.reply)
                if step.close:
                    break
    writer.close()


class Relay:
    def __init__(self, path: Path) -> None:
        put(path, account(User("ann"), "s3cret", os.urandom, hasher=HASHER, iterations=4096))
        self.events: list[Event] = []
        self.authority = Authority(
            AuthSettings(str(path)),
            clock=SystemClock(),
            emit=self.events.append,
            entropy=os.urandom,
            sleep=self._sleep,
            hasher=HASHER,
        )
        self.authority.open()
        self.port = 0

    async def _sleep(self, _: float) -> None:
        """Tests do not wait."""

    async def ask(self, talk: Callable[[smtplib.SMTP], Any]) -> Any:
        """Let a client of the standard library talk, in a thread."""

        def run() -> Any:
            with smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=20) as client:
                client.ehlo()
                return talk(client)

        return await asyncio.to_thread(run)


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    made = Relay(tmp_path / "users")
    server = await asyncio.start_server(
        lambda reader, writer: session(reader, writer, made.authority), "127.0.0.1", 0, limit=65_536
    )
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()
    await made.authority.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("initial", [True, False])
async def test_a_client_logs_in(relay: Relay, mechanism: str, initial: bool) -> None:
    """RFC 4954: with an initial response and without."""

    def talk(client: smtplib.SMTP) -> Any:
        client.user, client.password = "ann", "s3cret"
        method = getattr(client, f"auth_{mechanism.lower()}")
        return client.auth(mechanism, method, initial_response_ok=initial), client.noop()

    (code, _), noop = await relay.ask(talk)
    assert code == 235
    assert noop == (250, b"2.0.0 ann")


async def test_a_client_with_a_wrong_password_is_sent_away(relay: Relay) -> None:
    """Security 11: 535, 535, 421."""

    def talk(client: smtplib.SMTP) -> list[int]:
        codes = []
        for _ in range(3):
            code, _ = client.docmd("AUTH", "PLAIN AGFubgBndWVzcw==")
            codes.append(code)
        return codes

    assert await relay.ask(talk) == [535, 535, 421]
    told = repr(relay.events)
    assert told.count("AuthenticationFailed") == 3
    assert "guess" not in told


async def test_a_line_too_long_ends_the_exchange_and_nothing_else(relay: Relay) -> None:
    """RFC 4954: 500 5.5.6; the next command is a command."""

    def talk(client: smtplib.SMTP) -> Any:
        asked = client.docmd("AUTH", "PLAIN")
        return asked[0], client.docmd("A" * (sasl.LONGEST_LINE + 1)), client.noop()

    asked, answer, noop = await relay.ask(talk)
    assert asked == 334
    assert (answer[0], answer[1][:6]) == (500, b"5.5.6 ")
    assert noop == (250, b"2.0.0 nobody")
