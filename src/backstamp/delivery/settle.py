"""From outcomes to what must be done: stamps, reasons, the next attempt. Pure.

`D` is not among the stamps here: it was written by the callback that read the 2xx (Q4).
What is left of an attempt is who failed (`F`, with the reason first, Q5), who is deferred,
and until when. A lifetime ends only here, after an attempt that failed: clocks jump.
"""

from collections.abc import Mapping

import msgspec

from backstamp.mail.outcome import Outcome, Verdict
from backstamp.policy import classify, pause, retry
from backstamp.policy.retry import RetryPolicy
from backstamp.queue.port import Reason
from backstamp.queue.stamps import Stamp


class Settlement(msgspec.Struct, frozen=True):
    """What an attempt leaves to do. `retry_at` is seconds since the epoch; it matters if somebody waits."""

    marks: dict[int, Stamp]
    reasons: tuple[Reason, ...]
    failed: dict[int, Outcome]
    deferred: dict[int, Outcome]
    retry_at: float


def settle(
    outcomes: Mapping[int, Outcome],
    policy: RetryPolicy,
    *,
    now: float,
    arrival: float,
    chance: float,
    release: float = 0.0,
) -> Settlement:
    """Decide what follows from an attempt's outcomes by ordinal; times in seconds since the epoch.

    `release` is before when the sender does not want it sent (RFC 4865), 0 where that is no matter: the
    message's life begins then. A try before it was an operator's wish, and the next waits for it again.
    """
    arrival = max(arrival, release)
    failed: dict[int, Outcome] = {}
    deferred: dict[int, Outcome] = {}
    over = retry.expired(policy, now, arrival)
    for ordinal, outcome in outcomes.items():
        if outcome.verdict is Verdict.FAILED:
            failed[ordinal] = outcome
        elif outcome.verdict is Verdict.DEFERRED and over:
            failed[ordinal] = classify.expired(outcome)
        elif outcome.verdict is Verdict.DEFERRED:
            deferred[ordinal] = outcome
    return Settlement(
        dict.fromkeys(failed, Stamp.FAILED),
        _reasons(failed, int(now * 1e6)),
        failed,
        deferred,
        release if now < release else _retry_at(deferred, policy, now, arrival, chance),
    )


def _retry_at(
    deferred: Mapping[int, Outcome], policy: RetryPolicy, now: float, arrival: float, chance: float
) -> float:
    """Return when to try again: when the longest pause that a reply names is over, else by the schedule.

    A named time is met, and at most `retry.JITTER` later, even where the schedule would wait longer: who
    is greylisted is let in. It counts up to the schedule's last wait. A host that names a few seconds
    again and again is asked no more often than the first wait, except while the mail is younger.
    """
    replies = {outcome.reply for outcome in deferred.values()}
    named = [seconds for reply in replies if (seconds := pause.named(reply)) is not None]
    if not named:
        return retry.next_attempt(policy, now, arrival, chance)
    wait = max(min(max(named), policy.schedule[-1]), min(policy.schedule[0], now - arrival))
    return now + wait * (1 + retry.JITTER * chance)


def _reasons(failed: Mapping[int, Outcome], time: int) -> tuple[Reason, ...]:
    """Group failures with the same words: a thousand recipients of one refusal are one reason."""
    groups: dict[tuple[int, str, str], list[int]] = {}
    for ordinal, outcome in failed.items():
        groups.setdefault((outcome.reply.code, outcome.reply.text, outcome.host), []).append(ordinal)
    return tuple(
        Reason(tuple(ordinals), failed[ordinals[0]].reply, host, time)
        for (_, _, host), ordinals in groups.items()
    )
