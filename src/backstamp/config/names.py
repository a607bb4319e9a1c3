"""Names people write: domains, what destinations and senders match, names of things. Pure.

As in `units` every parser raises `ValueError` with a whole sentence, and nothing is guessed.
"""

import re

from backstamp.config.words import shown
from backstamp.mail.address import AddressError, parse_path

_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?:[a-z0-9-]*[a-z][a-z0-9-]*)")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_FINGERPRINT = re.compile(r"sha256:([0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def domain(value: object) -> str:
    """Return a domain name in lower case: labels of letters, digits and hyphens (RFC 5321 §4.1.2), A-labels.

    Raises:
        ValueError: it is none; an IP address is none either.
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a domain name; write relay.example.org")
    if not value.isascii():
        raise ValueError(f"{shown(value)} is not ASCII; write its A-labels (xn--…)")
    name = value.lower()
    good = len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))
    if not good or not _DOMAIN.fullmatch(name):
        raise ValueError(f"{shown(value)} is not a domain name; write relay.example.org")
    return name


def fingerprint(value: object) -> str:
    """Return a certificate's fingerprint, `sha256:` and 64 hexadecimal digits in lower case.

    Colons may stand between the octets, as OpenSSL prints them.

    Raises:
        ValueError: it is none.
    """
    found = _FINGERPRINT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a fingerprint; write sha256: and 64 hexadecimal digits")
    return "sha256:" + found[1].replace(":", "").lower()


def match(value: object) -> str:
    """Return what a route matches, in lower case: a domain, `*.` and a domain, or `*`.

    Raises:
        ValueError: it is none of these.
    """
    if value == "*":
        return "*"
    below = "*." if isinstance(value, str) and value.startswith("*.") else ""
    try:
        return below + domain(value[len(below) :] if isinstance(value, str) else value)
    except ValueError:
        hint = "; write its A-labels (xn--…)" if isinstance(value, str) and not value.isascii() else ""
        why = hint or "; write example.org, *.example.org or *"
        raise ValueError(f"{shown(value)} is not a destination{why}") from None


def below(value: object) -> str:
    """Return the name of a mail exchanger in lower case, or `*.` and a domain.

    Raises:
        ValueError: it is neither; `*` is everybody's and so no provider's.
    """
    if value == "*":
        raise ValueError('"*" covers every mail exchanger; write mx.example.net or *.example.net')
    try:
        return match(value)
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not the name of a mail exchanger; write mx.example.net or *.example.net"
        ) from None


def sender(value: object) -> str:
    """Return whose mail is meant, in lower case: an address, a domain, `*.` and a domain, or `<>`.

    Raises:
        ValueError: it is none of these. `*` is none: who means everybody names nobody.
    """
    if value == "<>":
        return "<>"
    wrong = f"{shown(value)} is not a sender; write shop.example, *.shop.example, a@b.example or <>"
    if not isinstance(value, str) or value == "*":
        raise ValueError(wrong)
    try:
        if "@" not in value:
            return match(value)
        host = domain(value.rpartition("@")[2])
        address, rest = parse_path(f"<{value}>".encode("utf-8", "surrogatepass"), utf8=True)
    except (AddressError, ValueError):
        raise ValueError(wrong) from None
    if rest or not address:
        raise ValueError(wrong)
    return f"{value.rpartition('@')[0].lower()}@{host}"


def name(value: object) -> str:
    """Return a name people give to things: letters, digits, `.`, `_` and `-`, at most 64.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a name; write letters, digits, dots, - and _, at most 64")
    return value


def name_or_none(value: object) -> str:
    """Return a name, or the empty one where nothing of that kind is meant.

    Raises:
        ValueError: it is none.
    """
    return "" if value == "" else name(value)


def provider_name(value: object) -> str:
    """Return the name of a provider, or `*`.

    Raises:
        ValueError: it is neither.
    """
    return "*" if value == "*" else name(value)
