"""What `[auth]` and the listeners that ask for it must keep between them. Pure.

A password goes over TLS only, so AUTH in clear text is for loopback; what would be offered
to nobody, or would judge nothing, is a mistake.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from backstamp.config import smarthosts, units
from backstamp.config.address import Address
from backstamp.config.between import Mistakes, rows
from backstamp.config.lines import Path
from backstamp.config.words import shown
from backstamp.listener.offers import PASSWORDS, TOKENS

_ASKS: Final = ("optional", "required")
_OF_AN_ENDPOINT: Final = ("token_client", "token_secret_file", "token_user_key")


def endpoint(value: str | None) -> str | None:
    """Return the URL of a token endpoint.

    Raises:
        ValueError: it is none, holds credentials, or tokens would go out in clear text.
    """
    if value is None:
        return None
    wrong = f"{shown(value)} is not the URL of a token endpoint; write https://id.example.org/introspect"
    if not value.isprintable() or " " in value:
        raise ValueError(wrong)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port or 0
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme not in ("https", "http") or not host or parts.fragment:
        raise ValueError(wrong)
    if "@" in parts.netloc:
        raise ValueError("has credentials in it; write token_client and token_secret_file")
    if parts.scheme == "http" and not smarthosts.on_this_machine([Address(host, port)]):
        raise ValueError(f"{shown(value)} would send tokens in clear text; write https")
    return value


def sensible_lockout(value: float) -> float:
    """Bound a lock-out: a typing slip must not lock people out for weeks.

    Raises:
        ValueError: it is out of bounds.
    """
    if not 1 <= value <= 86_400:
        raise ValueError(f"{value:g} seconds are out of bounds; write 1s to 1d")
    return value


def mistakes(document: Mapping[str, Any]) -> Mistakes:
    """Return everything that is wrong between the keys of `[auth]`, and with listeners that need it."""
    found = document.get("auth")
    table = found if isinstance(found, dict) else {}
    asked: list[tuple[Path, Mapping[str, Any]]] = [
        (("listen", index), one) for index, one in rows(document, "listen") if one.get("auth") in _ASKS
    ]
    http = document.get("http")
    if isinstance(http, dict) and http.get("auth") in _ASKS:
        asked.append((("http",), http))
    return [*_endpoint(table), *_offered(table, asked=bool(asked)), *_listeners(table, asked)]


def _endpoint(table: Mapping[str, Any]) -> Mistakes:
    if "token_endpoint" not in table:
        text = "means nothing without token_endpoint"
        return [(("auth", key), text) for key in _OF_AN_ENDPOINT if key in table]
    pair = ("token_client", "token_secret_file")
    return [
        (("auth", one), f"stands without {other}; write both")
        for one, other in (pair, pair[::-1])
        if one in table and other not in table
    ]


def _offered(table: Mapping[str, Any], *, asked: bool) -> Mistakes:
    """Return that none of the mechanisms can be carried out."""
    wanted = table.get("mechanisms")
    if not asked or not isinstance(wanted, list) or not wanted:
        return []
    able = (PASSWORDS if "users" in table else ()) + (TOKENS if "token_endpoint" in table else ())
    if not able or any(one in able for one in wanted):
        return []
    return [(("auth", "mechanisms"), f"none of these is to be had; write {', '.join(able)}")]


def _listeners(table: Mapping[str, Any], asked: list[tuple[Path, Mapping[str, Any]]]) -> Mistakes:
    found: Mistakes = []
    for place, one in asked:
        path = (*place, "auth")
        if "users" not in table and "token_endpoint" not in table:
            text = f"{one['auth']} has nobody to ask; write users or token_endpoint in [auth]"
            found.append((path, text))
        if one.get("tls", "none") == "none" and _reachable(one.get("address")):
            text = f"{one['auth']} without tls would take passwords in clear text; "
            if len(place) > 1:
                text += "write tls = starttls or implicit, or "
            found.append((path, f"{text}listen on a loopback address"))
    return found


def _reachable(address: object) -> bool:
    try:
        return not ip_address(units.socket_address(address).host).is_loopback
    except ValueError:
        return False
