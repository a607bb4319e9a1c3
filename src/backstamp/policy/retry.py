"""When to try again, and when to give up: RFC 5321 §4.5.4.1, computed and never stored.

The next attempt follows from the message's age, so a restart needs no record of attempts:
the schedule's waits laid end to end divide a message's life into windows, and the wait
after a failed attempt is that of the window its age falls in; the last wait repeats.
Chance comes in as a number. Jitter only adds, so no destination is tried sooner than said.
"""

from itertools import accumulate

import msgspec

JITTER = 0.1
"""The largest part of a wait that chance adds."""

SPREAD = 300.0
"""Seconds over which what is due at a restart is spread, at most."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Waits in seconds, the last one repeats; and the age in seconds at which a failed attempt ends it."""

    schedule: tuple[float, ...] = (60, 300, 900, 1800, 3600, 7200, 14400)
    lifetime: float = 5 * 86400


def wait(policy: RetryPolicy, age: float) -> float:
    """Return the wait after an attempt that failed at this age (seconds; negative ages count as 0)."""
    return policy.schedule[window(policy, age)]


def window(policy: RetryPolicy, age: float) -> int:
    """Return which window of its life a message of this age is in, from 0; the last one has no end."""
    ends = enumerate(accumulate(policy.schedule[:-1]))
    return next((index for index, end in ends if age < end), len(policy.schedule) - 1)


def next_attempt(policy: RetryPolicy, now: float, arrival: float, chance: float) -> float:
    """Return when to try again after a failed attempt; `chance` is from [0, 1)."""
    return now + wait(policy, now - arrival) * (1 + JITTER * chance)


def expired(policy: RetryPolicy, now: float, arrival: float) -> bool:
    """Tell whether an attempt that failed now was the last. Asked only after an attempt: clocks jump."""
    return now - arrival >= policy.lifetime


def first_attempt(policy: RetryPolicy, now: float, arrival: float, chance: float) -> float:
    """Return when to try what is found waiting at a start; `chance` derives from the queue id.

    What never can have been tried goes at once; the rest is spread over its wait, at most
    over five minutes, so that a restart is no thundering herd.
    """
    age = now - arrival
    if age < policy.schedule[0]:
        return now
    return now + min(wait(policy, age), SPREAD) * chance
