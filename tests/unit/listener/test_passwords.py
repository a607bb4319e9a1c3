"""Checking passwords beside the loop."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher

from backstamp.listener.accounts import Account, UsersError
from backstamp.listener.passwords import (
    AT_ONCE,
    REMEMBERED,
    SIZE,
    BusyError,
    Passwords,
    UncheckedError,
    account,
)
from backstamp.policy.user import User


class Hasher(PasswordHasher):
    """Cheap, counts, and waits when it is told to."""

    def __init__(self) -> None:
        super().__init__(1, 8, 1)
        self.checked: list[str] = []
        self.at_once = self.most = 0
        self.go = threading.Event()
        self.go.set()
        self.lock = threading.Lock()

    def verify(self, hash, password):  # noqa: A002 - the name of the method that is wrapped
        with self.lock:
            self.checked.append(hash)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.go.wait(20)
        try:
            return super().verify(hash, password)
        finally:
            with self.lock:
                self.at_once -= 1


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.hasher = Hasher()
        self.passwords = Passwords(lambda: self.now, os.urandom, hasher=self.hasher, waiting=1)
        self.ann = account(User("ann"), "s3cret", os.urandom, hasher=self.hasher, scram=False)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.hasher.go.set()
    made.passwords.close()


async def test_right_and_wrong(world: World) -> None:
    assert await world.passwords.right(world.ann, "s3cret", 1)
    assert not await world.passwords.right(world.ann, "S3cret", 1)
    assert not await world.passwords.right(world.ann, "", 1)
    assert not await world.passwords.right(world.ann, "x" * 2000, 1)
    assert not await world.passwords.right(world.ann, "a\0b", 1)


async def test_passwords_are_prepared_on_both_sides() -> None:
    """RFC 4616: a password is prepared with SASLprep."""
    world = World()
    composed = account(User("ann"), "p\u00e4ss", os.urandom, hasher=world.hasher, scram=False)
    assert await world.passwords.right(composed, "pa\u0308ss", 1)
    world.passwords.close()


async def test_a_name_nobody_has_costs_the_same_work(world: World) -> None:
    """Security 11: same time for an unknown user: one hash of the same parameters is computed."""
    await world.passwords.right(None, "s3cret", 1)
    await world.passwords.right(world.ann, "wrong", 1)
    nobody, ann = world.hasher.checked
    assert nobody.rsplit("$", 2)[0] == ann.rsplit("$", 2)[0]
    assert nobody != ann


async def test_nobody_has_a_password(world: World) -> None:
    for guess in ("", "s3cret"):
        assert not await world.passwords.right(None, guess, 1)


async def test_a_right_password_is_remembered_for_a_while(world: World) -> None:
    for _ in range(3):
        assert await world.passwords.right(world.ann, "s3cret", 1)
    assert len(world.hasher.checked) == 1
    assert not await world.passwords.right(world.ann, "wrong", 1)
    world.now = REMEMBERED
    assert await world.passwords.right(world.ann, "s3cret", 1)
    assert len(world.hasher.checked) == 3


async def test_another_users_file_forgets_what_was_right(world: World) -> None:
    await world.passwords.right(world.ann, "s3cret", 1)
    await world.passwords.right(world.ann, "s3cret", 2)
    assert len(world.hasher.checked) == 2
    assert not await world.passwords.right(None, "s3cret", 2)


async def test_what_is_remembered_is_no_password_and_bounded(world: World) -> None:
    await world.passwords.right(world.ann, "s3cret", 1)
    assert b"s3cret" not in world.passwords._right["ann"][0]
    for number in range(SIZE + 5):
        world.passwords._remember(f"user{number}", b"", 1)
    assert len(world.passwords._right) == SIZE


async def test_a_password_that_could_not_be_checked_is_not_a_wrong_one(world: World) -> None:
    damaged = Account(User("ann"), world.ann.hash[:-4] + "!")
    with pytest.raises(UncheckedError):
        await world.passwords.right(damaged, "s3cret", 1)
    assert world.passwords._pending == 0


async def test_two_at_once_some_wait_and_the_rest_are_told_so(world: World) -> None:
    world.hasher.go.clear()
    jobs = [asyncio.create_task(world.passwords.right(world.ann, f"guess{n}", 1)) for n in range(AT_ONCE + 1)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await world.passwords.right(world.ann, "s3cret", 1)
    world.hasher.go.set()
    assert await asyncio.gather(*jobs) == [False] * (AT_ONCE + 1)
    assert world.hasher.most <= AT_ONCE
    assert await world.passwords.right(world.ann, "s3cret", 1)


async def test_whoever_goes_away_gives_their_place_back_only_when_the_work_is_done(world: World) -> None:
    world.hasher.go.clear()
    jobs = [asyncio.create_task(world.passwords.right(world.ann, f"guess{n}", 1)) for n in range(AT_ONCE + 1)]
    await asyncio.sleep(0)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    with pytest.raises(BusyError):
        await world.passwords.right(world.ann, "s3cret", 1)
    world.hasher.go.set()
    while world.passwords._pending:
        await asyncio.sleep(0.01)
    assert await world.passwords.right(world.ann, "s3cret", 1)


def test_an_account_keeps_what_scram_needs_where_it_is_wanted() -> None:
    hasher = PasswordHasher(1, 8, 1)
    both = account(User("ann"), "s3cret", os.urandom, hasher=hasher, iterations=4096)
    assert both.scram is not None
    assert (both.scram.iterations, len(both.scram.salt)) == (4096, 16)
    assert account(User("ann"), "s3cret", os.urandom, hasher=hasher, scram=False).scram is None
    with pytest.raises(UsersError):
        account(User("ann"), "", os.urandom, hasher=hasher)


def test_a_verifier_is_one_that_clients_with_cyrus_sasl_compute() -> None:
    """RFC 7677: at least 4096 iterations; Cyrus SASL refuses more than 65536."""
    made = account(User("ann"), "s3cret", os.urandom, hasher=PasswordHasher(1, 8, 1))
    assert made.scram is not None
    assert 4096 <= made.scram.iterations <= 0x10000
