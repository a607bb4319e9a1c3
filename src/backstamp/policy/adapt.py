"""What a reply makes of a destination's pace: rules as data.

A rule names a provider and a pattern; the first that fits decides, the provider's own before
those for all. One expression made of all patterns looks first, so that a reply no rule is about
costs one search. The rules that are shipped are data (`config/providers.toml`). Pure.
"""

import enum
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from backstamp.mail.fault import Phase
from backstamp.mail.reply import Reply
from backstamp.policy import bounce, pause

EVERYBODY: Final = "*"
"""The provider of a rule for all destinations."""

_LOOKED_AT: Final = 600
"""Characters of a reply that are read."""


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
    "CODE TEXT" whatever the case (lines of a reply are joined by a line feed, which `.` matches, and
    addresses in it are read as `@`);
    `seconds` is how long it holds; `factor` is for SLOWER and FEWER.
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


class _Rules:
    """The rules of one provider, in their order."""

    def __init__(self) -> None:
        self._rules: list[tuple[re.Pattern[str], Adaptation]] = []
        self._any: re.Pattern[str] | None = None

    def add(self, rule: Adaptation) -> None:
        # In parentheses, flags for the whole expression cannot hide in the middle of `_any`.
        self._rules.append((_compile(f"(?:{rule.pattern})"), rule))
        # Numbered groups would count on in the joined expression and mean something else.
        plain = not any(pattern.groups for pattern, _ in self._rules)
        self._any = _compile("|".join(pattern.pattern for pattern, _ in self._rules)) if plain else None

    def find(self, words: str) -> Adaptation | None:
        if self._any is not None and self._any.search(words) is None:
            return None
        return next((rule for pattern, rule in self._rules if pattern.search(words)), None)


class Adaptations:
    """Rules by provider, patterns compiled once."""

    def __init__(self, rules: Iterable[Adaptation]) -> None:
        """Compile the rules.

        Raises:
            re.error: a pattern is no regular expression, or sets flags for all of it.
        """
        self._rules: dict[str, _Rules] = {}
        for rule in rules:
            self._rules.setdefault(rule.provider, _Rules()).add(rule)

    def decide(self, provider: str, reply: Reply) -> Change | None:
        """Return what a 4yz or 5yz of a provider (empty: none that has a name) asks for, if it does.

        A pause is as long as the reply says, where it says so (`policy.pause`).
        """
        if not reply.transient and not reply.permanent:
            return None
        # Hosts repeat the recipient, and throttle-alerts@ is not about a rate.
        words = f"{reply.code} {bounce.without_addresses(reply.text[:_LOOKED_AT])}"
        for name in (provider, EVERYBODY):
            if (rules := self._rules.get(name)) is not None and (rule := rules.find(words)) is not None:
                seconds = pause.named(reply) if rule.action is Action.PAUSE else None
                return Change(rule.action, seconds or rule.seconds, rule.factor, _why(rule))
        return None


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def _why(rule: Adaptation) -> str:
    """Return a rule in words."""
    whose = "a rule for all" if rule.provider == EVERYBODY else f"a rule for {rule.provider}"
    return f'{whose}: {rule.action.value} on "{rule.pattern}"'


# In the words of Postfix (anvil), Exim, Sendmail, Exchange, Orange, Comcast, NetEase. Too many messages
# in one connection, or for too long, is something else.
_CONNECTIONS: Final = (
    r"(?:too many|maximum|limit|exceed\w*|concurrent|simultaneous|trop de) "
    r"(?:(?!message|mail|recipient|error|command|per |time)[\w-]+ ){0,3}"
    r"(?:connection|connexion|session)(?!s? (?:time|length))"
    r"|(?:connection|session)s? (?:count |concurrency )?(?:limit|exceed)|hl:icc"
)
_SPEAKS_OF_CONNECTIONS: Final = _compile(_CONNECTIONS)
_CONNECTION_RATE: Final = _compile(
    r"\brate\b|(?:per|(?:last|past)(?: [0-9]+)?) (?:second|minute|hour)|too (?:fast|frequent)"
)
_BARE: Final = _compile(
    r"(?:4\.[0-9]\.[0-9]+ )?(?:\S+\.\S+)?[ ]*(?:e?smtp )?(?:(?:too )?busy|"
    r"service (?:is )?(?:temporarily |currently )?(?:not available|unavailable))?"
    r"[,;.: ]*(?:closing (?:transmission )?channel|(?:please )?try again later)?[. ]*"
)


def too_many_connections(reply: Reply, phase: Phase = Phase.GREETING) -> bool:
    """Tell whether a 4yz speaks of how many connections there are, not of how fast they come.

    Only to a greeting, EHLO or MAIL; a 421 greeting that gives no reason counts: so hosts say that
    they have enough (RFC 5321 §3.1 and §4.2.2).
    """
    if not reply.transient or phase not in (Phase.GREETING, Phase.EHLO, Phase.MAIL):
        return False
    words = reply.text[:_LOOKED_AT]
    if _SPEAKS_OF_CONNECTIONS.search(words):
        return not _CONNECTION_RATE.search(words)
    return reply.code == 421 and phase is Phase.GREETING and _BARE.fullmatch(words) is not None
