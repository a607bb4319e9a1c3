"""Every barrier is left out once: a promise must break, or the enumerator would not notice a bug either.

The table in docs/queue-format.md is this one. A barrier is a sync, an order or a check; what
breaks first without it is printed.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest
from tests.crash import workloads
from tests.crash.test_power_cuts import explore
from tests.crash.workloads import at_random
from tests.crash.world import Script

from backstamp.queue import fold, reader, segment
from backstamp.queue.files import Files
from backstamp.queue.keeping import Keeping
from backstamp.queue.record import Damage, Header, decode_header
from backstamp.queue.segment import Segment, mail_path, stamps_path

BROKEN = (AssertionError, OSError, KeyError)
"""What a queue without a barrier may also do: fall over."""

SYNCS = [
    ("write mail", "ordered", 1),
    ("write stamps", "ordered", 1),
    ("sync stamps", "ordered", 1),
    ("sync directory", "posix", 1),
    ("write keys", "ordered", 1),
    ("sync mail.new", "ordered", 1),
    ("recovery: sync directory", "posix", 2),
]
"""What is not synced, under which model it is missed first, and how many lives that takes."""


pytestmark = pytest.mark.usefixtures("small_stamps")


def scripts() -> Iterator[tuple[str, Script]]:
    yield from workloads.WORKLOADS.items()
    for seed in range(100):
        yield f"seed {seed}", at_random(seed)


async def first_violation(model: str, dropped: frozenset[str] = frozenset(), lives: int = 1) -> str:
    """Return the first thing that is noticed, empty if nothing is."""
    for name, script in scripts():
        if lives > 1 and name == "an_orderly_stop":
            continue
        try:
            _, wrong = await explore(name, script, model, dropped=dropped, lives=lives)
        except BROKEN as error:
            wrong = [f"{name}: {error!r}"]
        if wrong:
            return wrong[0]
    return ""


@pytest.mark.parametrize(("barrier", "model", "lives"), SYNCS, ids=str)
async def test_without_a_sync(barrier: str, model: str, lives: int, say: Callable[[str], None]) -> None:
    found = await first_violation(model, frozenset({barrier}), lives)
    say(f"{barrier}: {found}")
    assert found


def stamps_go_first(files: Files, one: Segment) -> None:
    files.unlink(stamps_path(one.directory, one.number))
    files.sync_directory(one.directory)
    files.unlink(mail_path(one.directory, one.number))


def without_a_sync_between(files: Files, one: Segment) -> None:
    files.unlink(mail_path(one.directory, one.number))
    files.unlink(stamps_path(one.directory, one.number))


def unkept(keeping: Keeping, chosen: Sequence[Segment]) -> asyncio.Future[None]:
    kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for one in chosen:
        one.keys.clear()
    kept.set_result(None)
    return kept


def copied_without_saying_from_what(*_: object) -> tuple[int, ...]:
    return ()


def wherever_it_stands(data: bytes, offset: int, seed: int) -> Header | Damage:
    found = decode_header(data, int.from_bytes(data[8:16], "little"), seed)
    return msgspec.structs.replace(found, offset=offset) if isinstance(found, Header) else found


def unchecked(*_: object) -> None:
    """Take what looks like a record for one."""


ORDERS = [
    ("stamps are removed first", segment, "remove", stamps_go_first, "ordered"),
    ("no sync between the two removals", segment, "remove", without_a_sync_between, "posix"),
    ("the sources of a copy are not removed", reader, "sources", copied_without_saying_from_what, "ordered"),
    ("content is not checked above the durable mark", reader, "_verify_tail", unchecked, "ordered"),
    ("a record may stand anywhere", reader, "decode_header", wherever_it_stands, "ordered"),
    ("keys go with their segments", Keeping, "keep", unkept, "ordered"),
    ("reports are not proved by their record", fold.Fold, "_covers", unchecked, "ordered"),
]
"""What is done otherwise: where, what in its place, and under which model it is missed."""


@pytest.mark.parametrize(
    ("what", "where", "name", "instead", "model"),
    ORDERS,
    ids=[order[0].replace(" ", "-") for order in ORDERS],
)
async def test_without_an_order_or_a_check(
    what: str,
    where: object,
    name: str,
    instead: object,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[[str], None],
) -> None:
    monkeypatch.setattr(where, name, instead)
    found = await first_violation(model)
    say(f"{what}: {found}")
    assert found


async def test_without_a_salt(monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]) -> None:
    """Checksums that anybody can make, and so a record of anybody's inside an attachment."""
    for module in (segment, reader):
        monkeypatch.setattr(module, "seed_of", lambda _: 0)
    found = await first_violation("ordered")
    say(f"checksums are not salted: {found}")
    assert found
