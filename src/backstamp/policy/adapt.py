"""What a reply makes of a destination's pace: rules as data.

A rule names a provider and a pattern; the first that fits decides, the provider's own before
those for all. The defaults are what providers document for postmasters. Pure.
"""

import enum
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.policy import pause

EVERYBODY: Final = "*"
"""The provider of a rule for all destinations."""


class Action(enum.Enum):
    """What is done about it."""

    PAUSE = "pause"
    """Nothing is begun."""
    SLOWER = "slower"
    """The rate is multiplied by the factor."""
    FEWER = "fewer"
    """The number of connections is multiplied by the factor."""


class Adaptation(msgspec.Struct, frozen=True):
    """One rule.

    `provider` is a provider's name, `*` for all; `pattern` is a regular expression, searched in
    "CODE TEXT" whatever the case; `seconds` is how long it holds; `factor` is for SLOWER and FEWER.
    """

    provider: str
    pattern: str
    action: Action
    seconds: float
    factor: float = 0.5


class Change(msgspec.Struct, frozen=True):
    """What is to be done now, for how many seconds, and the rule behind it in words."""

    action: Action
    seconds: float
    factor: float
    why: str


DEFAULTS: Final[tuple[Adaptation, ...]] = (
    Adaptation(EVERYBODY, r"^4\d\d.*too many .*connections", Action.FEWER, 600),
)


class Adaptations:
    """Rules by provider, patterns compiled once."""

    def __init__(self, rules: Iterable[Adaptation] = DEFAULTS) -> None:
        """Compile the rules.

        Raises:
            re.error: a pattern is no regular expression.
        """
        self._rules = [(rule, re.compile(f"(?:{rule.pattern})", re.IGNORECASE | re.DOTALL)) for rule in rules]

    def decide(self, provider: str, reply: Reply) -> Change | None:
        """Return what a reply of a provider's host (empty: of none that has a name) asks for."""
        if reply.code < 400:
            return None
        words = str(reply)
        for name in (provider, EVERYBODY):
            for rule, pattern in self._rules:
                if rule.provider == name and pattern.search(words):
                    seconds = rule.seconds
                    if rule.action is Action.PAUSE:
                        seconds = pause.named(reply) or seconds
                    why = f"{rule.provider}: {rule.pattern}"
                    return Change(rule.action, seconds, rule.factor, why)
        return None


def too_many_connections(reply: Reply, phase: Phase = Phase.GREETING) -> bool:
    """Tell whether a reply speaks of the number of connections."""
    return phase in (Phase.GREETING, Phase.EHLO, Phase.MAIL) and reply.code == 421
