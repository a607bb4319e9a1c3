"""`{{name}}` in a text, replaced by what a recipient's substitutions say. Pure.

One pass over the text: nothing in a value is looked at again, nothing is evaluated. What does not
look like a placeholder (`{{`, `{{ a b }}`) is text.
"""

import html
import re
from collections.abc import Mapping
from typing import Final

PLACEHOLDER: Final = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_.-]{0,63}) *\}\}")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def names(*texts: str | None) -> frozenset[str]:
    """Return the names of the placeholders in texts."""
    return frozenset(name for text in texts if text for name in PLACEHOLDER.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced. Raises KeyError for one that has no value."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)


def fill_html(text: str, values: Mapping[str, str]) -> str:
    """Do the same in HTML: values are escaped, quotes too, so that each stays text where it stands."""
    return PLACEHOLDER.sub(lambda found: html.escape(values[found[1]]), text)
