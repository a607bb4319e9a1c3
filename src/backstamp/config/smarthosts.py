"""What a route's keys must keep between them: credentials, TLS, where it leads. Pure.

Takes the parsed TOML as `between` does. A password goes out over TLS only, so a route with
one demands it; who writes that TLS is not needed has made a mistake, and nothing is guessed.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from backstamp.config import rules
from backstamp.config.address import Address
from backstamp.config.between import Mistakes, rows
from backstamp.config.lines import Path

_OF_A_SMARTHOST = ("implicit_tls", "username", "password", "password_file", "auth")
_CLEAR = ("none", "may")


def mistakes(document: Mapping[str, Any]) -> Mistakes:
    """Return everything that is wrong between the keys of routes."""
    found: Mistakes = []
    for index, table in rows(document, "route"):
        found += [(("route", index, *path), text) for path, text in _route(table)]
    return found


def on_this_machine(hosts: Sequence[Address]) -> bool:
    """Tell whether what is sent to all these hosts stays here; of names only `localhost` surely does."""
    return all(_loopback(host.host) for host in hosts)


def _route(table: Mapping[str, Any]) -> Mistakes:
    if table.get("via") == "mx":
        text = "means nothing with via = mx; it is about a smarthost"
        return [((key,), text) for key in _OF_A_SMARTHOST if key in table]
    return [*_credentials(table), *_tls(table)]


def _credentials(table: Mapping[str, Any]) -> Mistakes:
    found: Mistakes = []
    if "username" in table:
        if "password" not in table and "password_file" not in table:
            found.append((("username",), "has no password; write password_file or password"))
        if "password" in table and "password_file" in table:
            found.append((("password_file",), "stands beside password; write one of them"))
    else:
        text = "means nothing without username"
        found += [((key,), text) for key in ("password", "password_file", "auth") if key in table]
    return found


def _tls(table: Mapping[str, Any]) -> Mistakes:
    level = table.get("tls")
    if level not in _CLEAR:
        return []
    path: Path = ("tls",)
    if table.get("implicit_tls") is True:
        return [(path, f"{level} cannot be with implicit_tls; write encrypt or verify")]
    if "username" not in table:
        return []
    try:
        hosts = rules.via(table.get("via"))
    except ValueError:
        return []
    if on_this_machine(hosts):
        return []
    return [(path, f"{level} would send the password in clear text; write encrypt or verify")]


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
