"""Passwords made into hashes, and checked against them, a few at a time beside the loop.

argon2id is meant to cost tens of milliseconds and of megabytes, so at most two are computed
at once and only so many wait. A name nobody has is checked against a hash of nothing and
takes as long as a wrong password. A mail client logs in for each message, so what was right
is remembered for a minute: as a keyed digest under a key this process made up, for that
state of the users file only.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from scramp import ScramMechanism

from backstamp.listener import accounts
from backstamp.listener.accounts import Account, Scram
from backstamp.policy.user import User

AT_ONCE: Final = 2
WAITING: Final = 32
"""Passwords being checked at a time, and those waiting for their turn (a few seconds' worth)."""

REMEMBERED: Final = 60.0
SIZE: Final = 1000
"""Seconds a right password is remembered, and how many are."""

HASHER: Final = PasswordHasher()
"""RFC 9106 §4, its second recommendation: 64 MiB, three passes."""


class BusyError(Exception):
    """Too many passwords are waiting to be checked."""


def account(
    user: User,
    password: str,
    entropy: Callable[[int], bytes],
    *,
    scram: bool = True,
    hasher: PasswordHasher = HASHER,
    iterations: int = accounts.ITERATIONS,
) -> Account:
    """Return an account with a password.

    Raises:
        UsersError: it cannot be a password.
    """
    secret = accounts.password(password)
    verifier = None
    if scram:
        salt, stored, server, count = ScramMechanism("SCRAM-SHA-256").make_auth_info(
            secret, iteration_count=iterations, salt=entropy(16)
        )
        verifier = Scram(count, salt, stored, server)
    return Account(user, hasher.hash(secret, salt=entropy(16)), verifier)


class UncheckedError(Exception):
    """A password could not be checked: no memory for it, or a hash that is damaged."""


class Passwords:
    """Checks passwords. `now` gives seconds of a clock that does not jump."""

    def __init__(
        self,
        now: Callable[[], float],
        entropy: Callable[[int], bytes],
        *,
        hasher: PasswordHasher = HASHER,
        waiting: int = WAITING,
    ) -> None:
        self._now = now
        self._key = entropy(32)
        self._hasher = hasher
        self._nobody = hasher.hash(entropy(16))
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
        self._limit = AT_ONCE + waiting
        self._pending = 0
        self._right: OrderedDict[str, tuple[bytes, int, float]] = OrderedDict()

    async def right(self, account: Account | None, password: str, generation: int) -> bool:
        """Tell whether this is the account's password; None is an account nobody has.

        `generation` is that of the table the account is of.

        Raises:
            BusyError: too many are waiting.
            UncheckedError: it could not be told.
        """
        secret = accounts.prepared(password, accounts.LONGEST_PASSWORD) or ""
        digest = self._digest(secret)
        if account is not None and self._known(account.user.name, digest, generation):
            return True
        if self._pending >= self._limit:
            raise BusyError
        self._pending += 1
        job = asyncio.get_running_loop().run_in_executor(
            self._pool, self._verify, self._nobody if account is None else account.hash, secret
        )
        # Counted until the thread is done with it, whoever of the askers is still there.
        job.add_done_callback(self._done)
        right = await asyncio.shield(job) and account is not None and secret != ""
        if right and account is not None:
            self._remember(account.user.name, digest, generation)
        return right

    def close(self) -> None:
        """Let go of the threads; what waits is not checked any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, _: object) -> None:
        self._pending -= 1

    def _verify(self, known: str, secret: str) -> bool:
        try:
            return self._hasher.verify(known, secret)
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError) as error:
            raise UncheckedError(str(error)) from None

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._key, secret.encode(), hashlib.sha256)

    def _known(self, name: str, digest: bytes, generation: int) -> bool:
        kept = self._right.get(name)
        if kept is None or kept[1] != generation or kept[2] <= self._now():
            return False
        return hmac.compare_digest(kept[0], digest)

    def _remember(self, name: str, digest: bytes, generation: int) -> None:
        self._right[name] = (digest, generation, self._now() + REMEMBERED)
        self._right.move_to_end(name)
        if len(self._right) > SIZE:
            self._right.popitem(last=False)
