"""What a peer was promised, watched by the peer itself: any moment at which it is broken is written down.

Windows are half-open: of a rate of `count` in `seconds`, no [t, t + seconds) holds more than
`count`. Connections count from the begin of their dialling, also those that lose a race or
come to nothing, to their end. One promise may be given to several peers: it then holds for
all of them together, as a provider's limits do.
"""

from collections import Counter, deque
from collections.abc import Callable

from backstamp.policy.destination import Rate

HAIR = 1e-6
"""Seconds two moments may be nearer than promised: sums of floats are not exact."""


class Promise:
    """Upper bounds; None where there is none. With `by_source` each source address has its own."""

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
        self._connections = connections
        self._recipients = recipients
        self._messages = messages_per_connection
        self._by_source = by_source
        self._open: Counter[str] = Counter()
        self._dialled = _Window("connections", connection_rate)
        self._sent = _Window("messages", message_rate)

    def dialled(self, now: float, source: str) -> None:
        """A connection begins."""
        source = source if self._by_source else ""
        self._open[source] += 1
        count = self._open[source]
        self.most = max(self.most, count)
        if self._connections is not None and count > self._connections:
            self._broken(now, source, f"{count} connections, {self._connections} promised")
        self._dialled.add(now, source, self._broken)

    def ended(self, source: str) -> None:
        """A connection is over."""
        self._open[source if self._by_source else ""] -= 1

    def sent(self, now: float, source: str, recipients: int, number: int) -> None:
        """A MAIL for so many recipients, the `number`-th of its connection."""
        source = source if self._by_source else ""
        self._sent.add(now, source, self._broken)
        if self._recipients is not None and recipients > self._recipients:
            self._broken(now, source, f"{recipients} recipients, {self._recipients} promised")
        if self._messages is not None and number > self._messages:
            self._broken(now, source, f"message {number} of a connection, {self._messages} promised")

    def _broken(self, now: float, source: str, what: str) -> None:
        self.violations.append(f"second {now:.6f}: {what}" + (f" (from {source})" if source else ""))


class _Window:
    """A sliding window for each source."""

    def __init__(self, name: str, rate: Rate | None) -> None:
        self._name = name
        self._rate = rate
        self._times: dict[str, deque[float]] = {}

    def add(self, now: float, source: str, broken: Callable[[float, str, str], None]) -> None:
        rate = self._rate
        if rate is None:
            return
        times = self._times.get(source)
        if times is None:
            times = self._times[source] = deque(maxlen=rate.count)
        if len(times) == rate.count and now - times[0] < rate.seconds - HAIR:
            gap = now - times[0]
            broken(now, source, f"{rate.count + 1} {self._name} within {gap:.6f} s, {rate} promised")
        times.append(now)
