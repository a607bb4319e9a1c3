"""A raw message's envelope in a query: `?from=a@x.example&to=b@y.example&to=c@z.example`. Pure.

It is what `raw` and `envelope` say in JSON, and is judged by the same rules.
"""

import re
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from backstamp.inject import request
from backstamp.inject.body import Body
from backstamp.inject.order import Order
from backstamp.inject.shape import Mistake, MistakenError
from backstamp.inject.wishes import Wishes


class Query(Protocol):
    """A query's names and values, each name perhaps with several (a part of multidict's)."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Return all values of a name."""

    def __getitem__(self, key: str, /) -> str: ...

    def __contains__(self, key: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


def read(said: Query, content: bytes, wishes: Wishes) -> Order:
    """Return what a raw message orders whose envelope stands in a query.

    Raises:
        MistakenError: what is wrong with it.
    """
    once = ("from", "tenant", "priority", "notify")
    mistakes = [Mistake(name, "is not known") for name in dict.fromkeys(said) if name not in {*once, "to"}]
    mistakes += [Mistake(name, "is given twice") for name in once if len(said.getall(name, [])) > 1]
    # What was no UTF-8 was read as this character, which would make another address of one.
    mistakes += [
        Mistake(name, "is not UTF-8")
        for name in (*once, "to")
        if any("\ufffd" in value for value in said.getall(name, []))
    ]
    if "from" not in said:
        mistakes.append(Mistake("from", "is missing; from= alone is the null reverse-path"))
    if mistakes:
        raise MistakenError(mistakes)
    body: dict[str, Any] = {
        "envelope": {"sender": said["from"], "recipients": said.getall("to", [])},
        "raw": "",
    }
    if "tenant" in said:
        body["tenant"] = said["tenant"]
    if "notify" in said:
        body["notify"] = "never" if said["notify"] == "never" else said["notify"].split(",")
    if "priority" in said:
        priority = said["priority"]
        body["priority"] = int(priority) if re.fullmatch("-?[0-9]", priority) else priority
    try:
        order = request.order(msgspec.convert(body, Body), wishes)
    except msgspec.ValidationError as error:
        name = str(error).partition("`$.")[2].partition("[")[0].rstrip("`")
        raise MistakenError([Mistake(name, "is not what it must be")]) from None
    except MistakenError as error:
        raise MistakenError([_in_query(one) for one in error.mistakes]) from None
    return msgspec.structs.replace(order, letter=content)


def _in_query(mistake: Mistake) -> Mistake:
    path = mistake.path.replace("envelope.sender", "from").replace("envelope.recipients", "to")
    return Mistake(path, mistake.problem)
