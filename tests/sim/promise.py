"""What a peer was promised, watched by the peer itself: any moment at which it is broken is written down.

Windows are half-open: of a rate of `count` in `seconds`, no [t, t + seconds) holds more than
`count`. Connections count from the begin of their dialling, also those that lose a race or
come to nothing, to their end. One promise may be given to several peers: it then holds for
all of them together, as a provider's limits do.
"""

from collections import Counter, deque
from collections.abc import Callable

import msgspec

from backstamp.policy.destination import Rate

HAIR = 1e-6
"""Seconds two moments may be nearer than promised: sums of floats are not exact."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds; None where there is none."""

    connections: int | None = None
    connection_rate: Rate | None = None
    message_rate: Rate | None = None
    recipients: int | None = None
    messages_per_connection: int | None = None

    def looser(self, other: "Limits") -> "Limits":
        """Return what holds while one follows the other: of each bound the weaker."""
        return Limits(
            connections=_most(self.connections, other.connections),
            connection_rate=_fastest(self.connection_rate, other.connection_rate),
            message_rate=_fastest(self.message_rate, other.message_rate),
            recipients=_most(self.recipients, other.recipients),
            messages_per_connection=_most(self.messages_per_connection, other.messages_per_connection),
        )


def _most(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _fastest(one: Rate | None, other: Rate | None) -> Rate | None:
    # Rates are kept by even spacing: whoever goes from one to the other keeps the one with the shorter steps.
    if one is None or other is None:
        return None
    return min(one, other, key=lambda rate: rate.seconds / rate.count)


class Promise:
    """Limits for one peer or several. With `by_source` each source address has its own."""

    def __init__(
        self,
        *,
        connections: int | None = None,
        connection_rate: Rate | None = None,
        message_rate: Rate | None = None,
        recipients: int | None = None,
        messages_per_connection: int | None = None,
        by_source: bool = False,
    ) -> None:
        self.violations: list[str] = []
        self.most = 0
        """The most connections there ever were at a time."""
        self._limits = Limits(
            connections=connections,
            connection_rate=connection_rate,
            message_rate=message_rate,
            recipients=recipients,
            messages_per_connection=messages_per_connection,
        )
        self._next: tuple[float, Limits] | None = None
        self._by_source = by_source
        self._open: Counter[str] = Counter()
        self._dialled = _Window("connections", connection_rate)
        self._sent = _Window("messages", message_rate)

    @property
    def tight(self) -> int:
        """How often a rate was all but used up: a promise that nobody comes near proves nothing."""
        return self._dialled.tight + self._sent.tight

    def change(self, limits: Limits, since: float) -> None:
        """Promise something else from a second on; until then the weaker bound of each holds."""
        self._take(self._limits.looser(limits))
        self._next = (since, limits)

    def dialled(self, now: float, source: str) -> None:
        """A connection begins."""
        self._turn(now)
        source = source if self._by_source else ""
        self._open[source] += 1
        count = self._open[source]
        self.most = max(self.most, count)
        most = self._limits.connections
        if most is not None and count > most:
            self._broken(now, source, f"{count} connections, {most} promised")
        self._dialled.add(now, source, self._broken)

    def ended(self, source: str) -> None:
        """A connection is over."""
        self._open[source if self._by_source else ""] -= 1

    def sent(self, now: float, source: str, recipients: int, number: int) -> None:
        """A MAIL for so many recipients, the `number`-th of its connection."""
        self._turn(now)
        limits = self._limits
        source = source if self._by_source else ""
        self._sent.add(now, source, self._broken)
        if limits.recipients is not None and recipients > limits.recipients:
            self._broken(now, source, f"{recipients} recipients, {limits.recipients} promised")
        most = limits.messages_per_connection
        if most is not None and number > most:
            self._broken(now, source, f"message {number} of a connection, {most} promised")

    def _turn(self, now: float) -> None:
        if self._next is not None and now >= self._next[0]:
            self._take(self._next[1])
            self._next = None

    def _take(self, limits: Limits) -> None:
        self._limits = limits
        self._dialled.set(limits.connection_rate)
        self._sent.set(limits.message_rate)

    def _broken(self, now: float, source: str, what: str) -> None:
        self.violations.append(f"second {now:.6f}: {what}" + (f" (from {source})" if source else ""))


class _Window:
    """A sliding window for each source."""

    def __init__(self, name: str, rate: Rate | None) -> None:
        self.tight = 0
        self._name = name
        self._rate = rate
        self._times: dict[str, deque[float]] = {}

    def set(self, rate: Rate | None) -> None:
        """Keep another rate from now on; what went before counts no more."""
        if rate != self._rate:
            self._rate = rate
            self._times.clear()

    def add(self, now: float, source: str, broken: Callable[[float, str, str], None]) -> None:
        rate = self._rate
        if rate is None:
            return
        times = self._times.get(source)
        if times is None:
            times = self._times[source] = deque(maxlen=rate.count)
        if len(times) == rate.count:
            gap = now - times[0]
            if gap < rate.seconds - HAIR:
                broken(now, source, f"{rate.count + 1} {self._name} within {gap:.6f} s, {rate} promised")
            self.tight += gap < rate.seconds * 1.02
        times.append(now)
