"""Addresses out of header fields and command lines (RFC 5322 §3.4): lists, groups, comments, names. Pure.

Only who is meant comes out: `<...>` where an element has it, else what is left of it without comments. The
standard library's parsers do not fit an envelope: `getaddresses` takes `a@x.org <b@x.org>` for two people
and its strict form refuses `undisclosed-recipients:;` (which one there is depends on the patch release);
`headerregistry` decodes encoded words in local parts. Whether an address is one is the relay's to say;
here it is only made sure that it cannot be taken for something else in a command.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

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
    matches = [_matched(element) for element in _elements(text)]
    return [match[0] if match[2] else f"{match[0]}@{hostname}" for match in matches]


def qualified(text: str, hostname: str) -> str:
    """Return a list with `@hostname` behind each address that has no domain; all else stays as it is.

    A text that is no list of addresses comes back whole: it is not for us to say what it means.
    """
    try:
        ends = [element.end for element in _elements(text) if not _matched(element)[2]]
    except AddressListError:
        return text
    for end in reversed(ends):
        text = f"{text[:end]}@{hostname}{text[end:]}"
    return text


class _Element(NamedTuple):
    """What stands for an address in a list, comments left out; `end` is where it ends there."""

    text: str
    end: int


def _matched(element: _Element) -> re.Match[str]:
    address = _SPACE.sub(lambda match: match[1] or match[2], element.text).strip()
    matched = _ADDRESS.fullmatch(address)
    if matched is None or not address.isprintable():
        raise AddressListError(f"{element.text.strip()[:80]!r} is not an address")
    return matched


def _elements(text: str) -> Iterator[_Element]:
    """Yield what stands for an address in each element of a list; groups are opened."""
    plain: list[str] = []
    angle: list[str] | None = None
    inside = False
    depth = end = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark.strip() and (inside or angle is None) and not depth and mark not in "(<>,;:":
            end = token.start() + len(mark.rstrip())
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
            yield from _element(plain, angle, end)
            plain, angle = [], None
        elif mark == ":" and angle is None:
            plain = []  # the name of a group
        elif angle is None:
            plain.append(mark)
        elif mark.strip():
            raise AddressListError(f"{mark.strip()[:80]!r} behind an address")
    if depth or inside:
        raise AddressListError(f"{text.strip()[:80]!r} is cut off")
    yield from _element(plain, angle, end)


def _element(plain: list[str], angle: list[str] | None, end: int) -> Iterator[_Element]:
    text = "".join(plain if angle is None else angle)
    if text.strip() or angle is not None:
        yield _Element(text, end)
