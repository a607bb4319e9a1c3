"""From outcomes to what must be done: stamps, reasons, the next attempt. Pure.

`D` is not among the stamps here: it was written by the callback that read the 2xx (Q4).
What is left of an attempt is who failed (`F`, with the reason first, Q5), who is deferred,
and until when. A lifetime ends only here, after an attempt that failed: clocks jump.
"""

from collections.abc import Mapping

import msgspec

from backstamp.mail.outcome import Outcome, Verdict
from backstamp.policy import classify, retry
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
    outcomes: Mapping[int, Outcome], policy: RetryPolicy, *, now: float, arrival: float, chance: float
) -> Settlement:
    """Decide what follows from an attempt's outcomes by ordinal; times in seconds since the epoch."""
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
        retry.next_attempt(policy, now, arrival, chance),
    )


def _reasons(failed: Mapping[int, Outcome], time: int) -> tuple[Reason, ...]:
    """Group failures with the same words: a thousand recipients of one refusal are one reason."""
    groups: dict[tuple[int, str, str], list[int]] = {}
    for ordinal, outcome in failed.items():
        groups.setdefault((outcome.reply.code, outcome.reply.text, outcome.host), []).append(ordinal)
    return tuple(
        Reason(tuple(ordinals), failed[ordinals[0]].reply, host, time)
        for (_, _, host), ordinals in groups.items()
    )
