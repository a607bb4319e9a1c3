"""The type of an attachment as a request says it: `text/calendar; method=REQUEST` (RFC 2045 §5.1). Pure."""

import re
from typing import Final, NamedTuple

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}"
_TYPE: Final = re.compile(rf"({_NAME})/({_NAME})")
_PARAMETER: Final = re.compile(
    rf' *; *({_NAME})=(?:([A-Za-z0-9!#$%&\'*+^_`{{|}}~.-]{{1,200}})|"([ !#-\[\]-~]{{1,200}})")'
)

LENGTH: Final = 1000
"""Characters of a type with its parameters, at most."""

PARAMETERS: Final = 10
"""Parameters, at most: folding a header takes the square of them."""


class Media(NamedTuple):
    """A type in lower case, and its parameters by their names in lower case."""

    main: str
    sub: str
    parameters: dict[str, str]


def parse(text: str) -> Media:
    """Return a media type.

    Raises:
        ValueError: it is none; the text says why.
    """
    if len(text) > LENGTH:
        raise ValueError(f"has more than {LENGTH} characters")
    found = _TYPE.match(text)
    if found is None:
        raise ValueError("is no media type; write application/pdf")
    at = found.end()
    parameters: dict[str, str] = {}
    while at < len(text):
        one = _PARAMETER.match(text, at)
        if one is None or one[1].lower() in parameters:
            raise ValueError("has a parameter that is none; write text/csv; charset=utf-8")
        if len(parameters) == PARAMETERS:
            raise ValueError(f"has more than {PARAMETERS} parameters")
        parameters[one[1].lower()] = one[2] or one[3]
        at = one.end()
    return Media(found[1].lower(), found[2].lower(), parameters)
