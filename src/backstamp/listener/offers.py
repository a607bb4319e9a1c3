"""Which SASL mechanisms there are, and which are offered. Pure, and light: configuration asks, too."""

from collections.abc import Collection, Sequence
from typing import Final

PASSWORDS: Final = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
TOKENS: Final = ("OAUTHBEARER", "XOAUTH2")
MECHANISMS: Final = (*PASSWORDS, *TOKENS)
DEFAULT: Final = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER")
"""In the order in which they are offered, what says the least of a secret first."""


def offered(mechanisms: Collection[str], *, users_present: bool, token_endpoint: bool) -> tuple[str, ...]:
    """Return which of the mechanisms wanted can be carried out, in the order of the EHLO line."""
    able = (PASSWORDS if users_present else ()) + (TOKENS if token_endpoint else ())
    return tuple(one for one in able if one in mechanisms)


def keyword(mechanisms: Sequence[str]) -> str:
    """Return the EHLO line that offers mechanisms, empty for none (RFC 4954 §3)."""
    return f"AUTH {' '.join(mechanisms)}" if mechanisms else ""
