"""Addresses out of header fields and command lines (RFC 5322 §3.4): lists, groups, comments, names. Pure.

Only who is meant comes out: `<...>` where an element has it, else what is left of it without comments. The
standard library's parsers do not fit an envelope: `getaddresses` takes `a@x.org <b@x.org>` for two people
and its strict form refuses `undisclosed-recipients:;` (which one there is depends on the patch release);
`headerregistry` decodes encoded words in local parts. Whether an address is one is the relay's to say;
here it is only made sure that it cannot be taken for something else in a command.
"""

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\\.|[(),:;<>]|[^"\[\\(),:;<>]+|.', re.DOTALL)
_WORD: Final = r'(?:"(?:[^"\\]|\\.)*"|[^\s<>()\[\],;:\\"@]+)'
_ADDRESS: Final = re.compile(rf"({_WORD})(?:@(\[[^\s<>\[\]@]*\]|[^\s<>()\[\],;:\\\"@]+))?")
_SPACE: Final = re.compile(r'("(?:[^"\\]|\\.)*")|\s*([.@])\s*')


class AddressListError(ValueError):
    """Something in a list is no address; the text shows it."""


def addresses(text: str, hostname: str) -> list[str]:
    """Return the addresses in a list, in their order; one without a domain is at `hostname`.

    Raises:
        AddressListError: an element is none, or the list is cut off inside a quotation, comment or `<`.
    """
    found: list[str] = []
    for element in _elements(text):
        address = _SPACE.sub(lambda match: match[1] or match[2], element).strip()
        matched = _ADDRESS.fullmatch(address)
        if matched is None or not address.isprintable():
            raise AddressListError(f"{element.strip()[:80]!r} is not an address")
        found.append(address if matched[2] else f"{address}@{hostname}")
    return found


def _elements(text: str) -> Iterator[str]:
    """Yield what stands for an address in each element of a list; groups are opened."""
    plain: list[str] = []
    angle: list[str] | None = None
    inside = False
    depth = 0
    for mark in _TOKEN.findall(text):
        if depth or mark == "(":
            depth += (mark == "(") - (mark == ")")
        elif inside:
            assert angle is not None
            inside = mark != ">"
            if inside:
                angle.append(mark)
        elif mark == "<":
            if angle is not None:
                raise AddressListError(f"{text.strip()[:80]!r}: two addresses without a comma")
            angle, inside = [], True
        elif mark in ",;":
            yield from _element(plain, angle)
            plain, angle = [], None
        elif mark == ":" and angle is None:
            plain = []  # the name of a group
        elif angle is None:
            plain.append(mark)
        elif mark.strip():
            raise AddressListError(f"{mark.strip()[:80]!r} behind an address")
    if depth or inside:
        raise AddressListError(f"{text.strip()[:80]!r} is cut off")
    yield from _element(plain, angle)


def _element(plain: list[str], angle: list[str] | None) -> Iterator[str]:
    text = "".join(plain if angle is None else angle)
    if text.strip() or angle is not None:
        yield text
