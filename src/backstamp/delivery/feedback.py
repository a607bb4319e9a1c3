"""What hosts teach: from their replies and faults to the throttles of a lane, each change told with why.

A lane learns with its provider's throttle where it has one, else with its own; what a reply
asks for by a rule (`policy.adapt`) is done there. Nothing here waits.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from backstamp.clock import Clock
from backstamp.delivery.judge import whole
from backstamp.delivery.lane import Lane
from backstamp.delivery.tell import Teller
from backstamp.delivery.throttle import Capacity, Throttle
from backstamp.mail.fault import Phase
from backstamp.mail.outcome import Outcome, Verdict
from backstamp.mail.reply import Reply
from backstamp.net.transaction import Result
from backstamp.policy import bounce, pause
from backstamp.policy.adapt import Action, Adaptations, too_many_connections
from backstamp.policy.bounce import BounceClass

LONGEST: Final = 3600.0
"""Seconds a destination is left alone by a reply that no rule knows, whatever time it names."""

STARVED: Final = 5.0
"""Seconds without a new connection after this machine had nothing for one. Those that are open go on."""


class Feedback:
    """Takes note of how hosts behave."""

    def __init__(
        self, adaptations: Adaptations, clock: Clock, tell: Teller, changed: Callable[[], None]
    ) -> None:
        self.adaptations = adaptations
        self._clock = clock
        self._tell = tell
        self._changed = changed

    def transacted(
        self, lane: Lane[Any], result: Result, host: str, *, sent: int, probe: Throttle | None
    ) -> None:
        """A transaction ended, after `sent` earlier ones; `probe` is whose ceiling its session was to try."""
        if whole(result):
            self._answered(lane, probe)
            return
        if taken(result):
            self._answered(lane, probe)
        elif result.fault is not None:
            self.failed(lane)
        for phase, reply in _refusals(result):
            if phase is Phase.MAIL and reply.code == 421 and sent and not self._pauses(lane, reply):
                why = f"{host} said {reply}"
                if lane.ended(sent, self._clock.monotonic(), why):
                    self._told(lane.teaches, f"{sent} messages a connection", why, 0.0)
                if not too_many_connections(reply, phase):
                    # It has had its share of this connection: that is no failure.
                    continue
            self.heard(lane, reply, phase, host)

    def _answered(self, lane: Lane[Any], probe: Throttle | None) -> None:
        now = 0.0
        for throttle in lane.learners:
            window = throttle.window
            if window.size >= window.most and window.ceiling is None:
                continue
            now = now or self._clock.monotonic()
            if window.answered(now, probe=throttle is probe, held=throttle.held):
                allowed = window.ceiling or window.most
                self._told(throttle, f"up to {allowed} connections", "one more was let have", 0.0)

    def failed(self, lane: Lane[Any]) -> None:
        """A host gave no session, or broke one off."""
        now = self._clock.monotonic()
        for throttle in lane.learners:
            throttle.window.failed(now)

    def starved(self, lane: Lane[Any], why: str) -> None:
        """This machine has nothing for one more connection: none is begun for a while, by no lane."""
        now = self._clock.monotonic()
        for throttle in lane.throttles:
            if not throttle.learns and throttle.pause(now, STARVED, why):
                self._tell.throttled(throttle.key, "no new connections", why, STARVED)

    def heard(self, lane: Lane[Any], reply: Reply, phase: Phase, host: str) -> None:
        """A host said no: it may have said how it wants to be treated."""
        if reply.code < 400:
            return
        throttle = lane.teaches
        now = self._clock.monotonic()
        words = f"{host} said {reply}"
        if throttle.held > 1 and too_many_connections(reply, phase):
            if (allowed := throttle.refused(now, words)) is not None:
                self._told(throttle, f"up to {allowed} connections", words, 0.0)
            return
        if reply.code == 421:
            throttle.window.failed(now)
        change = self.adaptations.decide(lane.way.provider, reply)
        if change is None or change.action is not Action.PAUSE:
            self._named(throttle, now, reply, phase, words)
        if change is None:
            return
        if change.action is Action.SLOWER and _of_one_mail(phase, reply) and _greylists(reply):
            # Who is new there waits; it says nothing of how fast mail comes.
            return
        why = f"{words} ({change.why})"
        match change.action:
            case Action.PAUSE:
                if throttle.pause(now, change.seconds, why):
                    self._told(throttle, "paused", why, change.seconds)
            case Action.SLOWER:
                if (rate := throttle.slower(now, change.factor, change.seconds, why)) is not None:
                    self._told(throttle, f"one message in {rate.seconds:.3g} s", why, change.seconds)
            case Action.FEWER:
                if (allowed := throttle.fewer(now, change.factor, change.seconds, why)) is not None:
                    self._told(throttle, f"up to {allowed} connections", why, change.seconds)

    def _pauses(self, lane: Lane[Any], reply: Reply) -> bool:
        """Tell whether a reply asks for a pause: that is not about how many messages a connection has."""
        if pause.named(reply) is not None:
            return True
        change = self.adaptations.decide(lane.way.provider, reply)
        return change is not None and change.action is Action.PAUSE

    def _named(self, throttle: Throttle, now: float, reply: Reply, phase: Phase, words: str) -> None:
        """Leave a host alone for the time its reply names, where it does not speak of one mail.

        From MAIL on it is a sender who is greylisted: a pause for each would let in one after the other.
        """
        if _of_one_mail(phase, reply):
            return
        if phase not in _UNASKED and _greylists(reply):
            return
        seconds = min(pause.named(reply) or 0.0, LONGEST)
        if seconds and throttle.pause(now, seconds, words):
            self._told(throttle, "paused", words, seconds)

    def crowded(self, lane: Lane[Any], result: Result, refused: Outcome) -> None:
        """A host had no room for more recipients in a transaction than it took."""
        accepted = sum(reply is not None and reply.positive for reply in result.recipients)
        if 0 < accepted < lane.recipients:
            why = f"{refused.host} said {refused.reply}"
            lane.teaches.recipients = Capacity(accepted, why, self._clock.monotonic())
            self._told(lane.teaches, f"{accepted} recipients a transaction", why, 0.0)

    def _told(self, throttle: Throttle, change: str, why: str, seconds: float) -> None:
        self._tell.throttled(throttle.key, change, why, seconds)
        self._changed()


def taken(result: Result) -> bool:
    """Tell whether a host took a message for somebody. A lone dot is for nobody (RFC 2920 §3.1)."""
    mail, final = result.mail, result.final
    if mail is None or final is None or not mail.positive or not final.positive:
        return False
    return any(reply is not None and reply.positive for reply in result.recipients)


_UNASKED: Final = frozenset({Phase.GREETING, Phase.EHLO})
_OPENING: Final = frozenset({*_UNASKED, Phase.MAIL})


def _of_one_mail(phase: Phase, reply: Reply) -> bool:
    """Tell whether a refusal is of one recipient or one message, not of the sender or the connection."""
    return phase not in _OPENING and reply.code != 421


def _greylists(reply: Reply) -> bool:
    return bounce.of(Outcome(Verdict.DEFERRED, reply)) is BounceClass.GREYLIST


def _refusals(result: Result) -> Iterator[tuple[Phase, Reply]]:
    """Yield what a host refused in a transaction, each reply once."""
    seen = set()
    mail, data, final = result.mail, result.data, result.final
    for phase, replies in (
        (Phase.MAIL, (mail,)),
        (Phase.RCPT, result.recipients),
        (Phase.DATA, (data,)),
        (Phase.FINAL, (final,)),
    ):
        for reply in replies:
            if reply is not None and reply.code >= 400 and (key := str(reply)) not in seen:
                seen.add(key)
                yield phase, reply
