"""How tasks on the loop wait for each other: a bell wakes one, a gate holds all."""

import asyncio


class Bell:
    """Wakes one waiting task; a ring nobody waits for is remembered."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the waiter."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Wait for a ring, at most so long."""
        if not self._rung:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(seconds):
                    await self._waiter
            except TimeoutError:
                pass
            finally:
                self._waiter = None
        self._rung = False


class Gate:
    """Open: deliveries may start. Closed: they wait until it opens again (Q8)."""

    def __init__(self) -> None:
        self.waiters: asyncio.Future[None] | None = None
        """While it is closed: ends when it opens."""

    def close(self) -> None:
        """Let nothing through."""
        if self.waiters is None:
            self.waiters = asyncio.get_running_loop().create_future()

    def open(self) -> None:
        """Let everybody through."""
        if self.waiters is not None:
            self.waiters.set_result(None)
            self.waiters = None

    async def passed(self) -> None:
        """Wait until it is open."""
        while self.waiters is not None:
            await asyncio.shield(self.waiters)
