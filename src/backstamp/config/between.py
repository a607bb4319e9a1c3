"""What tables and keys must keep between them. Pure.

Takes the parsed TOML as it is and passes over what cannot be read, so that these mistakes
are told together with those in single values. What a route's keys must keep is in `smarthosts`.
"""

import difflib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from backstamp.config import names, units
from backstamp.config.address import Address
from backstamp.config.lines import Path, written
from backstamp.config.words import shown

_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound here

Mistakes = list[tuple[Path, str]]


def rows(document: Mapping[str, Any], table: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the tables of an array of tables with their index; what is none is left out."""
    found = document.get(table)
    for index, one in enumerate(found if isinstance(found, list) else ()):
        if isinstance(one, dict):
            yield index, one


def mistakes(document: Mapping[str, Any], providers: Mapping[str, Any]) -> Mistakes:
    """Return everything that is wrong between tables; `providers` are the shipped ones by name."""
    return [
        *repetitions(document),
        *unknown_pools(document),
        *unknown_providers(document, providers),
        *more_than_all(document),
        *above_the_limit(document),
        *idle_factors(document),
        *socket_files(document),
    ]


def repetitions(document: Mapping[str, Any]) -> Mistakes:
    """Return what stands twice: addresses to listen on, and what only one table can decide."""
    # Port 0 is another port every time; admin and http are one table each, so their paths have no index.
    listens = _values(document, "listen", "address", units.listen_address)
    for name in ("admin", "http"):
        if isinstance(table := document.get(name), dict):
            listens += _parsed((name, "address"), table.get("address"), units.socket_address)
    listens = [
        (path, value)
        for path, value in listens
        if isinstance(value, Address) and (value.port or value.host.startswith("/"))
    ]
    found = _repeated(listens) + _taken_in(listens)
    for array, key, parse in (
        ("destination", "match", names.match),
        ("provider", "name", names.name),
        ("source", "name", names.name),
    ):
        found += _repeated(_values(document, array, key, parse))
    found += _repeated(_elements(document, "provider", "mx", names.below))
    found += _repeated(_elements(document, "source", "senders", names.sender))
    return found + _repeated_routes(document) + _repeated_addresses(document)


def unknown_pools(document: Mapping[str, Any]) -> Mistakes:
    """Return names of `[[source]]` tables that do not exist."""
    pools = [str(table["name"]) for _, table in rows(document, "source") if "name" in table]
    named: list[tuple[Path, Any]] = []
    delivery = document.get("delivery")
    if isinstance(delivery, dict):
        named.append((("delivery", "source"), delivery.get("source")))
    for array in ("destination", "provider", "route"):
        named += [((array, index, "source"), table.get("source")) for index, table in rows(document, array)]
    return [
        (path, f"{shown(name)} is no pool; {_meant(name, pools, 'write a [[source]] of that name')}")
        for path, name in named
        if isinstance(name, str) and name and name not in pools
    ]


def unknown_providers(document: Mapping[str, Any], shipped: Mapping[str, Any]) -> Mistakes:
    """Return names of providers nobody knows, and new providers that cannot be recognized."""
    found: Mistakes = []
    own: list[str] = []
    for index, table in rows(document, "provider"):
        name = table.get("name")
        if isinstance(name, str) and name not in shipped:
            own.append(name)
            if "mx" not in table:
                hint = _meant(name, list(shipped), "write its mx")
                found.append((("provider", index, "name"), f"{shown(name)} is not known yet; {hint}"))
    known = [*shipped, *own]
    for index, table in rows(document, "adapt"):
        name = table.get("provider", "*")
        if isinstance(name, str) and name != "*" and name not in known:
            hint = _meant(name, known, "write a [[provider]] of that name")
            found.append((("adapt", index, "provider"), f"{shown(name)} is no provider; {hint}"))
    return found


def more_than_all(document: Mapping[str, Any]) -> Mistakes:
    """Return connections to begin with that are more than there may ever be, where both are written."""
    places: list[tuple[Path, Any]] = [(("delivery",), document.get("delivery"))]
    for array in ("destination", "provider"):
        places += [((array, index), table) for index, table in rows(document, array)]
    found: Mistakes = []
    for path, table in places:
        if isinstance(table, dict):
            first, most = table.get("initial_connections"), table.get("connections")
            if isinstance(first, int) and isinstance(most, int) and first > most:
                found.append(((*path, "initial_connections"), f"{first} is more than connections, {most}"))
    return found


def above_the_limit(document: Mapping[str, Any]) -> Mistakes:
    """Return priorities of listeners above the highest a client there may ask for."""
    found: Mistakes = []
    places: list[tuple[Path, Any]] = [(("http",), document.get("http"))]
    places += [(("listen", index), table) for index, table in rows(document, "listen")]
    for path, table in places:
        own, limit = (
            (table.get("priority"), table.get("priority_limit")) if isinstance(table, dict) else (0, 0)
        )
        if isinstance(own, int) and isinstance(limit, int) and own > limit:
            found.append(((*path, "priority"), f"{own} is more than priority_limit, {limit}"))
    return found


def idle_factors(document: Mapping[str, Any]) -> Mistakes:
    """Return factors of adaptations that have no use for one."""
    return [
        (("adapt", index, "factor"), "means nothing with action = pause")
        for index, table in rows(document, "adapt")
        if table.get("action") == "pause" and "factor" in table
    ]


def socket_files(document: Mapping[str, Any]) -> Mistakes:
    """Return keys of listeners that mean nothing on what they listen on."""
    found: Mistakes = []
    for index, table in rows(document, "listen"):
        file = str(table.get("address")).startswith("unix:")
        if file and "allow" in table:
            text = "means nothing with a socket file: whoever may open it may relay; write mode"
            found.append((("listen", index, "allow"), text))
        if not file and "mode" in table:
            found.append((("listen", index, "mode"), 'means something only with address = "unix:..."'))
    return found


def _meant(name: str, known: Sequence[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else otherwise


def _repeated_routes(document: Mapping[str, Any]) -> Mistakes:
    found: list[tuple[Path, Hashable]] = []
    for index, table in rows(document, "route"):
        with suppress(ValueError):
            whose = names.sender(table["from"]) if "from" in table else ""
            what = names.match(table.get("match"))
            found.append((("route", index, "match"), f"{what} from {whose}" if whose else what))
    return _repeated(found)


def _repeated_addresses(document: Mapping[str, Any]) -> Mistakes:
    """An address has one weight in a pool; other pools may have it too."""
    found: Mistakes = []
    for index, pool in rows(document, "source"):
        addresses: list[tuple[Path, Hashable]] = []
        for place, table in rows(pool, "addresses"):
            path: Path = ("source", index, "addresses", place, "address")
            addresses += _parsed(path, table.get("address"), units.host_address)
        found += _repeated(addresses)
    return found


def _values(
    document: Mapping[str, Any], table: str, key: str, parse: Callable[[object], Hashable]
) -> list[tuple[Path, Hashable]]:
    """Return one key of repeated tables, parsed, with its path; what cannot be parsed is left out."""
    found: list[tuple[Path, Hashable]] = []
    for index, one in rows(document, table):
        found += _parsed((table, index, key), one.get(key), parse)
    return found


def _elements(
    document: Mapping[str, Any], table: str, key: str, parse: Callable[[object], Hashable]
) -> list[tuple[Path, Hashable]]:
    """Return the elements of one list of repeated tables, as `_values` does."""
    found: list[tuple[Path, Hashable]] = []
    for index, one in rows(document, table):
        values = one.get(key)
        for place, value in enumerate(values if isinstance(values, list) else ()):
            found += _parsed((table, index, key, place), value, parse)
    return found


def _parsed(path: Path, value: object, parse: Callable[[object], Hashable]) -> list[tuple[Path, Hashable]]:
    try:
        return [(path, parse(value))]
    except ValueError:
        return []


def _taken_in(listens: Sequence[tuple[Path, Hashable]]) -> Mistakes:
    """Return addresses beside a wildcard of their family and port: the system gives a port once.

    Ports of IPv4 and IPv6 are apart: `[::]` takes no IPv4 here, so both wildcards may stand together.
    """
    places = [(path, value) for path, value in listens if isinstance(value, Address) and value.port]
    found: Mistakes = []
    for index, (path, value) in enumerate(places):
        for first, other in places[:index]:
            wild = [one.host for one in (other, value) if one.host in _WILDCARDS]
            same = value.port == other.port and (":" in value.host) == (":" in other.host)
            if same and len(wild) == 1:
                text = f"{shown(str(value))} is taken with {written(first)}, for {wild[0]} is every address"
                found.append((path, f"{text}; write one of them, or another port"))
                break
    return found


def _repeated(values: Sequence[tuple[Path, Hashable]]) -> Mistakes:
    first: dict[Hashable, Path] = {}
    return [
        (path, f"{shown(str(value))} is {written(first[value])} already")
        for path, value in values
        if first.setdefault(value, path) != path
    ]
