"""Judges claims: passwords by the users file, tokens by their endpoint; every failure counted and told.

One for all listeners of a process. What is wrong with a claim nobody learns from the answer,
nor from the time it takes: a name nobody has, a wrong password and a bad token are one reply,
held back the longer the more failures there were. Trouble of the relay's own is temporary and
counts for nothing. Events name the client and who it said it was, never a password or a token.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Final

from argon2 import PasswordHasher

from backstamp.clock import Clock
from backstamp.listener import mechanisms, offers, users
from backstamp.listener.accounts import LONGEST_NAME, Scram, prepared
from backstamp.listener.authentication import TROUBLE, Authentication, Refusal
from backstamp.listener.mechanisms import Claim, Password, Proof, Token
from backstamp.listener.passwords import HASHER, BusyError, Passwords, UncheckedError
from backstamp.listener.settings import AuthSettings
from backstamp.listener.users import Users, UserTable
from backstamp.net.introspection import Introspection, TroubleError
from backstamp.policy.lockout import Lockout
from backstamp.policy.user import User
from backstamp.telemetry.events import Alarm, Authenticated, AuthenticationFailed, Event
from backstamp.text import printable

WRONG: Final = mechanisms.REJECTED
LOCKED: Final = b"454 4.7.0 Too many failed authentications, try again later\r\n"
BUSY: Final = b"454 4.7.0 Too many authentications under way, try again later\r\n"


class Authority:
    """Judges claims. `entropy` gives octets nobody can foresee; `sleep` waits seconds."""

    def __init__(
        self,
        settings: AuthSettings,
        *,
        clock: Clock,
        emit: Callable[[Event], None],
        entropy: Callable[[int], bytes],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        hasher: PasswordHasher = HASHER,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._entropy = entropy
        self._sleep = sleep
        self._secret = entropy(32)
        self._lockout = Lockout(settings.failures, settings.lockout)
        self._users: Users | None = None
        self._passwords: Passwords | None = None
        self._endpoint: Introspection | None = None
        self._troubled = False
        if settings.users:
            self._users = Users(settings.users, monotonic=clock.monotonic, wall=clock.wall, emit=emit)
            self._passwords = Passwords(clock.monotonic, entropy, hasher=hasher)
        if settings.endpoint is not None:
            self._endpoint = Introspection(settings.endpoint, monotonic=clock.monotonic, wall=clock.wall)
        self.offered = offers.offered(
            settings.mechanisms,
            users_present=self._users is not None,
            token_endpoint=self._endpoint is not None,
        )
        """The mechanisms a client is offered where AUTH is."""

    def open(self) -> None:
        """Read the users file.

        Raises:
            UsersError: it cannot be used; the text is one line for the operator.
        """
        if self._users is not None:
            self._users.open()

    async def run(self) -> None:
        """Look at the users file again and again, so that an alarm does not wait for the next client."""
        while self._users is not None:
            await self._sleep(users.PERIOD)
            self._users.poll()

    async def close(self) -> None:
        """Let go of threads and connections."""
        if self._passwords is not None:
            self._passwords.close()
        if self._endpoint is not None:
            await self._endpoint.close()

    def authentication(self, failures: int = 0) -> Authentication:
        """Return a session's part; `failures` are those the connection has already."""
        return Authentication(self.offered, verifier=self._verifier, nonce=self._nonce, failures=failures)

    async def check(self, claim: Claim, peer: str) -> User | Refusal:
        """Judge a claim of the client at an address; takes as long as it must."""
        # As in the table: what cannot be prepared is nobody's name.
        name = prepared(claim.username, LONGEST_NAME) or ""
        if self._locked(peer, name):
            return self._refused(claim, peer, "locked", LOCKED)
        try:
            user = await self._judge(claim, name)
        except BusyError:
            return self._refused(claim, peer, "busy", BUSY)
        except UncheckedError as error:
            self._alarm(f"a password could not be checked: {error}", "its client was told 454")
            return self._refused(claim, peer, "trouble", TROUBLE)
        except TroubleError as error:
            self._trouble(str(error))
            return self._refused(claim, peer, "trouble", TROUBLE)
        # Others may have failed meanwhile: who guesses on many connections at once gets no more guesses.
        if self._locked(peer, name):
            return self._refused(claim, peer, "locked", LOCKED)
        now = self._clock.monotonic()
        if user is not None:
            self._lockout.succeeded(peer, user.name, now)
            self._emit(
                Authenticated(
                    time=self._now(), client=peer, user=printable(user.name), mechanism=claim.mechanism
                )
            )
            return user
        self._lockout.failed(peer, name, now)
        seconds = self._lockout.delay(peer, name, now)
        refusal = self._refused(claim, peer, "credentials", WRONG)
        await self._sleep(seconds)
        return refusal

    async def _judge(self, claim: Claim, name: str) -> User | None:
        table = self._table
        account = table.accounts.get(name)
        match claim:
            case Proof():
                return account.user if claim.good and account is not None else None
            case Password():
                if self._passwords is None:
                    return None
                right = await self._passwords.right(account, claim.password, table.generation)
                return account.user if right and account is not None else None
            case Token():
                return await self._bearer(claim, name)

    async def _bearer(self, claim: Token, name: str) -> User | None:
        if self._endpoint is None:
            return None
        said = await self._endpoint.user(claim.token)
        self._trouble("")
        user = prepared(said or "", LONGEST_NAME)
        if user is None or (claim.username and name != user):
            return None
        # The users file may say what a user of the endpoint may send; it need not know them.
        account = self._table.accounts.get(user)
        return User(user) if account is None else account.user

    @property
    def _table(self) -> UserTable:
        return UserTable() if self._users is None else self._users.table

    def _verifier(self, name: str) -> Scram:
        return users.verifier(self._table, name, self._secret)

    def _nonce(self) -> str:
        return b64encode(self._entropy(18)).decode()

    def _locked(self, peer: str, name: str) -> bool:
        return self._lockout.locked(peer, name, self._clock.monotonic()) is not None

    def _refused(self, claim: Claim, peer: str, reason: str, reply: bytes) -> Refusal:
        self._emit(
            AuthenticationFailed(
                time=self._now(),
                client=peer,
                mechanism=claim.mechanism,
                reason=reason,
                reply=reply.decode().rstrip(),
                user=printable(claim.username, LONGEST_NAME),
            )
        )
        return Refusal(reply)

    def _trouble(self, problem: str) -> None:
        """Tell once that the token endpoint is in trouble, and once that it is well again."""
        if bool(problem) == self._troubled:
            return
        self._troubled = bool(problem)
        said = f"token endpoint: {problem}" if problem else "token endpoint: it answers again"
        action = "clients with tokens are told 454" if problem else "tokens are judged"
        self._alarm(said, action)

    def _alarm(self, problem: str, action: str) -> None:
        self._emit(Alarm(time=self._now(), problem=problem, action=action))

    def _now(self) -> int:
        return int(self._clock.wall() * 1e6)
