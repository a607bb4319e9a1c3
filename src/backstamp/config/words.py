"""Text of a configuration: shown to people, and kept from them where it is a secret. Pure."""

import difflib
import json
import re
import warnings

_SECRETS = ("password",)
"""Keys whose values are shown to nobody, nor are those of keys spelled like them."""


def shown(value: object, limit: int = 80) -> str:
    """Return a value as it would stand in TOML, cut after `limit` characters; without passwords in it."""
    text = json.dumps(_masked(value), ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _masked(value: object) -> object:
    """Return a value whose passwords are dots: what is written into a wrong place is told, too."""
    if isinstance(value, dict):
        return {
            key: "…" if difflib.get_close_matches(key, _SECRETS) else _masked(inner)
            for key, inner in value.items()
        }
    return [_masked(inner) for inner in value] if isinstance(value, list) else value


def pattern(value: object) -> str:
    """Return a regular expression as it was written.

    Raises:
        ValueError: it is none; an empty one would fit every reply.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{shown(value)} is not a regular expression; write 'too many connections'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(value)
            # Rules are put into a group each; flags for the whole expression cannot be.
            re.compile(f"(?:{value})")
    except (re.error, Warning, OverflowError, RecursionError) as error:
        why = shown(str(error))[1:-1]  # it may cite the pattern, line ends and all
        raise ValueError(f"{shown(value)} is not a regular expression: {why}") from None
    return value


def secret(value: object) -> str:
    """Return a password: one line of text. It is never told what stands there.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError("not a string; write it in double quotes")
    if not value or any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("not a password: it is empty or has control characters")
    return value
