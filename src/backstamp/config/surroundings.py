"""What a start needs of the machine, besides the files every load reads: looked at before it, by `check`.

The users file, which `user add` may yet have to make, and the places of socket files and of the queue. A
reload and the commands that only ask a configuration do not look: for them none of that is a mistake.
"""

import os
import stat
from collections.abc import Mapping
from typing import Any

from backstamp.config import units
from backstamp.config.between import Mistakes, rows
from backstamp.config.words import shown
from backstamp.listener import local
from backstamp.listener.accounts import UsersError
from backstamp.listener.users import load


def mistakes(document: Mapping[str, Any]) -> Mistakes:
    """Return what would keep a relay from starting with these tables."""
    return [*_queue(document), *_users(document), *_sockets(document)]


def _queue(document: Mapping[str, Any]) -> Mistakes:
    """Return that a file is in the queue's place. Whether it may be written to is asked by who uses it."""
    table = document.get("queue")
    path = table.get("directory") if isinstance(table, dict) else None
    if not isinstance(path, str) or "\0" in path:
        return []
    while path and not os.path.lexists(path):
        path = os.path.dirname(path)
    try:
        if not path or stat.S_ISDIR(os.stat(path).st_mode):
            return []
    except FileNotFoundError:
        pass  # a link to nowhere
    except OSError:  # nothing is known, and nothing must be removed on a guess
        return []
    text = f"{shown(path, 200)} is no directory; remove it, or write another path"
    return [(("queue", "directory"), text)]


def _users(document: Mapping[str, Any]) -> Mistakes:
    table = document.get("auth")
    path = table.get("users") if isinstance(table, dict) else None
    if not isinstance(path, str) or not path or "\0" in path:
        return []
    try:
        load(path)
    except UsersError as error:
        return [(("auth", "users"), str(error))]
    return []


def _sockets(document: Mapping[str, Any]) -> Mistakes:
    found: Mistakes = []
    for index, table in rows(document, "listen"):
        try:
            host, port = units.listen_address(table.get("address"))
        except ValueError:
            continue
        if not port and host.startswith("/") and (why := local.obstacle(host)):
            found.append((("listen", index, "address"), f"{shown(f'unix:{host}', 200)}: {why}"))
    return found
