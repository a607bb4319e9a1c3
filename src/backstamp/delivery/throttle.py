"""A throttle: what one destination, or one provider's, lets this relay do. Pure.

It holds a window of connections, the rates, and what the destination taught: a ceiling, a
pause, a slower rate. A lane asks all of its throttles, its own and its provider's, before a
connection is begun and before a message goes; whoever got a yes holds a permit until it gives
it back. Times are monotonic seconds; what is to be remembered over a restart leaves as
`Learned`, in seconds since the epoch.
"""

from collections.abc import Mapping
from math import inf
from typing import Final

import msgspec

from backstamp.policy.adapt import Action
from backstamp.policy.destination import DestinationPolicy, Rate
from backstamp.policy.rate import Pacer
from backstamp.policy.window import PROBE, Window

MINUTE: Final = 60.0

SLOWEST: Final = Rate(1, 60.0)
"""No reply slows a destination down below one message a minute."""


KEPT: Final = 7 * 86400.0
"""Seconds for which a start still takes a `Capacity` for true. Nothing else ever raises one."""

TRIED: Final = 30 * 86400.0
"""Seconds for which a ceiling is remembered after more was to be tried, where no mail came to try it."""


class Lesson(msgspec.Struct, frozen=True):
    """Why something was learned: the reply behind it. `since` is seconds, by the clock of its holder."""

    why: str
    since: float


class Capacity(msgspec.Struct, frozen=True):
    """How many a host took before it took no more, and the reply behind it. `since` is as a lesson's."""

    count: int
    why: str
    since: float

    def shifted(self, shift: float) -> "Capacity":
        """Return the same by another clock."""
        return Capacity(self.count, self.why, self.since + shift)


class Learned(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a destination taught, to be remembered. Times are seconds since the epoch."""

    key: str
    ceiling: int | None = None
    probe_at: float = 0.0
    pause: float = PROBE
    """Seconds between two tries for more than the ceiling."""
    paused_until: float = 0.0
    slow_until: float = 0.0
    slow: Rate | None = None
    lessons: Mapping[Action, Lesson] = {}
    """Why, for each of what was taught."""
    recipients: Capacity | None = None
    messages: Capacity | None = None

    def holds(self, wall: float) -> bool:
        """Tell whether any of it still counts: a ceiling where more was to be tried within the last month."""
        if self.ceiling is not None and wall <= self.probe_at + TRIED:
            return True
        if max(self.paused_until, self.slow_until) > wall:
            return True
        return any(one is not None and wall - one.since <= KEPT for one in (self.recipients, self.messages))


class Throttle:
    """The limits of one destination or provider, and how much of them is taken."""

    def __init__(self, key: str, policy: DestinationPolicy, *, learns: bool = True) -> None:
        self.key = key
        self.policy = policy
        self.learns = learns
        """Whether hosts have a say in its window; that of all lanes together is the operator's alone."""
        self.window = Window(policy.connections, policy.initial_connections)
        self.held = 0
        """Connections on the way or open: permits given."""
        self.callers: dict[object, None] = {}
        """Those of them that wait for its rate of connections, in the order in which they came."""
        self.racing = 0
        """Those of them that race another to the same host."""
        self.booked = 0
        """Messages about to be sent whose turn was granted."""
        self._granted = 0.0
        """When the last of those turns was."""
        self.called = 0
        """Workers that were called for a message, and have not come yet: in the next turn of the loop."""
        self.lanes = 0
        """Lanes that obey it."""
        self.patience = 0.0
        """The longest that a session of one of them waits for something to do, in seconds."""
        self.recipients: Capacity | None = None
        """Recipients of a transaction the host took when it took no more."""
        self.messages: Capacity | None = None
        """Messages of a connection the host took, twice in a row, before it said 421."""
        self.paused_until = float("-inf")
        self.slow_until = float("-inf")
        self.slow: Rate | None = None
        self.lessons: dict[Action, Lesson] = {}
        """Why it pauses, is slower, has a ceiling: the reply behind each, and since when."""
        self._messages = _pacer(policy.message_rate)
        self._connections = _pacer(policy.connection_rate)
        self._begin = 0.0
        self._these = self._before = 0
        """Messages in the minute that began then, and in the one before."""

    # ---- asking ----

    def may_connect(self, now: float) -> float:
        """Return from when on one more connection may be begun: not later than `now` if at once.

        Infinite: when another connection has been given back.
        """
        if self.held >= self.window.limit(now):
            probe = self.window.probe_at
            # A probe comes with time; anything else with a permit that is given back.
            return probe if self.window.ceiling == self.held and probe > now else float("inf")
        at = max(now, self.paused_until)
        connections = self._connections
        return at if connections is None else max(at, connections.earliest(now, len(self.callers)))

    def may_race(self, now: float) -> bool:
        """Tell whether one more connection may be begun beside one to the same host (RFC 8305)."""
        return self.held < self.window.bound and self.paused_until <= now and self.connect_at(now) <= now

    def may_send(self, now: float) -> float:
        """Return from when on one more message may be sent: not later than `now` if at once."""
        at = max(now, self.paused_until)
        messages = self._messages
        if messages is None:
            return at
        # Turns are granted at the rate's pace too. Whoever is kept from using his keeps nobody else off.
        granted = self._granted if self.booked else -inf
        return max(at, messages.earliest(now, self.called, granted))

    def join(self, idle: float) -> None:
        """One lane more obeys it, whose sessions wait so long for something to do."""
        self.lanes += 1
        self.patience = max(self.patience, idle)

    def part(self) -> None:
        """One lane less."""
        self.lanes -= 1
        if not self.lanes:
            self.patience = 0.0

    def idle(self, now: float) -> bool:
        """Tell whether nobody needs it, and one made anew would allow no more than it does."""
        return not self.lanes and self.may_send(now) <= now and self.connect_at(now) <= now

    @property
    def paced(self) -> bool:
        """Whether messages have a rate."""
        return self._messages is not None

    # ---- taking ----

    def connect_at(self, now: float, before: int = 0) -> float:
        """Return when the rate lets a connection be begun for which there is a permit, behind some others."""
        return now if self._connections is None else self._connections.earliest(now, before)

    def send_at(self, now: float) -> float:
        """Return when the rate lets a message go whose turn was granted."""
        return now if self._messages is None else self._messages.earliest(now)

    def connect(self, now: float) -> None:
        """Count a connection that is begun now."""
        if self._connections is not None:
            self._connections.take(now)

    def book(self, now: float) -> None:
        """Count a message whose turn is granted now; `booked` is lowered when it is sent, or not at all."""
        self.booked += 1
        self._granted = now

    def send(self, now: float) -> None:
        """Count a message that is sent now."""
        if now >= self._begin + MINUTE:
            self._before = self._these if now < self._begin + 2 * MINUTE else 0
            self._begin, self._these = now, 0
        self._these += 1
        if self.slow is not None and now >= self.slow_until:
            self._fast()
        if self._messages is not None:
            self._messages.take(now)

    # ---- learning ----

    def adopt(self, policy: DestinationPolicy) -> None:
        """Take another policy; what was taught stays."""
        if policy == self.policy:
            return
        self.policy = policy
        self.window.adopt(policy.connections, policy.initial_connections)
        self._connections = _pacer(policy.connection_rate, self._connections)
        self._messages = _pacer(self._rate(), self._messages)

    def pause(self, now: float, seconds: float, why: str) -> bool:
        """Send nothing and begin nothing for so many seconds; tell whether that is news."""
        until = now + seconds
        # Sessions that were open meet the same reply one after the other: one pause, told once.
        news = until > self.paused_until + seconds / 2
        self.paused_until = max(self.paused_until, until)
        if news:
            self.lessons[Action.PAUSE] = Lesson(why, now)
        return news

    def slower(self, now: float, factor: float, seconds: float, why: str) -> Rate | None:
        """Send slower, at a factor of what it was, for so many seconds; return the rate if that is news."""
        if self.slow is not None and now < self.slow_until - seconds / 2:
            return None
        rate = self._rate()
        before = _interval(rate) if rate is not None else MINUTE / max(1.0, self._recent(now))
        # What was slower than that already stays as it is.
        self.slow = Rate(1, min(before / factor, max(before, _interval(SLOWEST))))
        self.slow_until = now + seconds
        self.lessons[Action.SLOWER] = Lesson(why, now)
        self._messages = _pacer(self._rate(), self._messages)
        return self.slow

    def fewer(self, now: float, factor: float, seconds: float, why: str) -> int | None:
        """Hold fewer connections for so many seconds; return how many if that is news."""
        window = self.window
        if window.ceiling is not None and window.probe_at > now + seconds / 2:
            return None
        window.lower(now, factor, seconds)
        self.lessons[Action.FEWER] = Lesson(why, now)
        return window.ceiling

    def refused(self, now: float, why: str) -> int | None:
        """A host refused a connection for their number; return how many are allowed if that is news."""
        changed = self.window.refused(now, self.held - 1)
        if changed or Action.FEWER not in self.lessons:
            self.lessons[Action.FEWER] = Lesson(why, now)
        return self.window.ceiling if changed else None

    def _recent(self, now: float) -> float:
        """Return messages a minute, of late."""
        passed = min(MINUTE, max(1.0, now - self._begin))
        return max(self._these * MINUTE / passed, self._before)

    def _rate(self) -> Rate | None:
        """Return the rate of messages: the policy's or the one that was taught, whichever is slower."""
        rates = [rate for rate in (self.policy.message_rate, self.slow) if rate is not None]
        return max(rates, key=_interval, default=None)

    def _fast(self) -> None:
        self.slow = None
        self._messages = _pacer(self._rate(), self._messages)

    # ---- remembering ----

    def learned(self, now: float, wall: float) -> Learned | None:
        """Return what is worth remembering, None if nothing is."""
        window = self.window
        paused = self.paused_until > now
        slow = self.slow if self.slow_until > now else None
        recipients, messages = self.recipients, self.messages
        if window.ceiling is None and not paused and slow is None and recipients is None and messages is None:
            return None
        shift = wall - now
        holding = {Action.FEWER: window.ceiling is not None, Action.PAUSE: paused, Action.SLOWER: slow}
        lessons = {
            action: Lesson(lesson.why, lesson.since + shift)
            for action, lesson in self.lessons.items()
            if holding[action]
        }
        return Learned(
            self.key,
            window.ceiling,
            window.probe_at + shift if window.ceiling is not None else 0.0,
            window.pause,
            self.paused_until + shift if paused else 0.0,
            self.slow_until + shift if slow is not None else 0.0,
            slow,
            lessons,
            recipients.shifted(shift) if recipients is not None else None,
            messages.shifted(shift) if messages is not None else None,
        )

    def recall(self, learned: Learned, now: float, wall: float) -> None:
        """Take in what was remembered; what is over by now counts no more.

        Clocks are set back: nothing holds longer from now on than it did when it was taught.
        """
        shift = now - wall
        window = self.window
        if learned.ceiling is not None and learned.ceiling < window.most:
            window.ceiling = max(1, learned.ceiling)
            window.probe_at = min(learned.probe_at + shift, now + learned.pause)
            window.pause = learned.pause
        if learned.paused_until > wall:
            self.paused_until = now + _left(learned, Action.PAUSE, learned.paused_until, wall)
        if learned.slow is not None and learned.slow_until > wall:
            self.slow = learned.slow
            self.slow_until = now + _left(learned, Action.SLOWER, learned.slow_until, wall)
            self._messages = _pacer(self._rate(), self._messages)
        self.lessons = {
            action: Lesson(lesson.why, min(lesson.since, wall) + shift)
            for action, lesson in learned.lessons.items()
        }
        self.recipients = _still(learned.recipients, wall, shift)
        self.messages = _still(learned.messages, wall, shift)


def _left(learned: Learned, what: Action, until: float, wall: float) -> float:
    """Return for how many seconds something holds that was taught until then: no longer than when it was."""
    lesson = learned.lessons.get(what)
    return until - (wall if lesson is None else max(wall, lesson.since))


def _still(learned: Capacity | None, wall: float, shift: float) -> Capacity | None:
    """Return what was remembered of how many a host takes, None if it is better learned again."""
    if learned is None or learned.count < 1 or wall - learned.since > KEPT:
        return None
    return learned.shifted(shift + min(0.0, wall - learned.since))


def _interval(rate: Rate) -> float:
    return rate.seconds / rate.count


def _pacer(rate: Rate | None, earlier: Pacer | None = None) -> Pacer | None:
    """Return what keeps a rate; what went at an earlier one still counts."""
    if rate is None or earlier is None:
        return None if rate is None else Pacer(rate)
    if rate != earlier.rate:
        earlier.set(rate)
    return earlier
