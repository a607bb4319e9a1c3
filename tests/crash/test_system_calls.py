"""A real relay is killed at every system call it makes on its queue, and every such call fails once.

For each file and kind of call: the first call of the relay, the second, ..., until there is
none. Then a life without strace, and the books (`lives`): what was acknowledged has
arrived, octet for octet, or is reported once; who was said to be delivered gets no second
copy. A call that fails costs no mail either: 4yz to the client, one alarm, no traceback.
`make test` runs a handful of these, `make crash` all.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from tests.crash.lives import Lives
from tests.support import strace
from tests.support.strace import Fault

if (reason := strace.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

WIDTH = 4
"""Relays at a time: most of a life is waiting."""
LIMIT = 60
"""Calls of one kind on one file; far more than a life makes."""
KILL = "signal=SIGKILL"
EIO, ENOSPC, EMFILE = "error=EIO", "error=ENOSPC", "error=EMFILE"

DIRECTORY = "openat newfstatat getdents64 close fsync"
FILE = "openat close pwritev2 fdatasync"
SEGMENT = {
    "mail": FILE + " newfstatat pread64 unlink",
    "stamps": FILE + " pread64 unlink",
}

BESIDE = {
    "learned.json": "openat",
    "learned.json.new": FILE + " rename unlink",
    "suppression.sqlite": "newfstatat",
}
"""What is no mail and stands beside it: without it the relay runs as well."""

FRESH = {
    **BESIDE,
    "": DIRECTORY + " mkdir statfs",
    "0": DIRECTORY + " mkdir",
    "corrupt": "mkdir",
    "LOCK": "openat flock close",
    "FORMAT.new": FILE + " rename",
    "0/1.mail": FILE + " pread64",
    "0/1.stamps": FILE + " pwrite64",
}
"""Where there is no queue yet: what → calls."""

LEFT = {
    **BESIDE,
    "": DIRECTORY + " statfs",
    "0": DIRECTORY,
    "corrupt": DIRECTORY,
    "LOCK": "openat flock close",
    "FORMAT": "openat pread64 close",
    "TAIL.new": FILE + " unlink rename",
    "0/1.mail": SEGMENT["mail"],
    "0/1.stamps": SEGMENT["stamps"] + " pwrite64",
    "0/2.mail": SEGMENT["mail"],
    "0/2.stamps": SEGMENT["stamps"] + " rename pwrite64",
    "0/2.stamps.new": FILE + " rename",
    "0/3.stamps": "unlink",
    "0/4.mail": FILE + " pread64",
    "0/4.stamps": FILE + " pwrite64",
}
"""Where a crash left one (`left_behind`)."""

SERVING = {
    "0": "openat fsync close",
    "LOCK": "close",
    "0/1.mail": "close unlink",
    "0/1.stamps": "close unlink pwrite64 pwritev2",
    "0/2.mail": "close unlink",
    "0/2.stamps": "close unlink pwrite64 pwritev2",
    "0/4.mail": "close fdatasync pread64 pwritev2",
    "0/4.stamps": "close pwrite64 pwritev2",
}
"""The same queue, but the fault comes when the relay serves: its start made calls of the same kind."""

STATES = {"fresh": FRESH, "left": LEFT, "serving": SERVING}

ERRORS = {
    EIO: frozenset(strace.CALLS),
    ENOSPC: frozenset({"openat", "mkdir", "rename", "pwrite64", "pwritev2", "fdatasync", "fsync"}),
    EMFILE: frozenset({"openat"}),
}
"""What the kernel may say to which call."""


PLACES = [
    (state, path, call)
    for state, table in STATES.items()
    for path, calls in table.items()
    for call in calls.split()
]


def failures() -> Iterator[ParameterSet]:
    for error, calls in ERRORS.items():
        for place in PLACES:
            if place[2] in calls:
                yield pytest.param(*place, error)


def name(parameter: object) -> str:
    return str(parameter).replace("/", ".").removeprefix("error=") or "."


async def live(directory: Path, state: str, *faults: Fault) -> tuple[bool, list[str]]:
    """Run one relay through both its lives; tell whether the call was made, and what was wrong."""
    lives = Lives(directory, fresh=state == "fresh")
    life = await lives.run(faults, serving=state == "serving")
    return life.hit, [f"{state}: {', '.join(map(str, faults))}: {problem}" for problem in lives.wrong]


async def every_call(
    directory: Path, state: str, path: str, call: str, what: str, burst: int
) -> tuple[int, list[str]]:
    """Let the fault hit the first call, the second, ... until there is none; return how many there were."""
    wrong: list[str] = []
    reached = 0
    first = 1
    while first < LIMIT:
        # Most kinds of call are made once or twice.
        numbers = range(first, first + (2 if first == 1 else WIDTH))
        first = numbers.stop
        whens = [f"{number}..{number + burst - 1}" if burst > 1 else str(number) for number in numbers]
        results = await asyncio.gather(
            *(live(directory, state, Fault(call, path, what, when)) for when in whens)
        )
        for hit, problems in results:
            reached += hit
            wrong += problems
        if not all(hit for hit, _ in results):
            return reached, wrong
    return reached, [*wrong, f"more than {LIMIT} calls"]


@pytest.mark.crash
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("state", "path", "call"), PLACES, ids=name)
async def test_killed_at_every_call(
    tmp_path: Path, say: Callable[[str], None], state: str, path: str, call: str
) -> None:
    reached, wrong = await every_call(tmp_path, state, path, call, KILL, 1)
    say(f"{reached} kills")
    assert reached
    assert not wrong, "\n".join(wrong)


@pytest.mark.crash
@pytest.mark.timeout(900)
@pytest.mark.parametrize("burst", [1, 4])
@pytest.mark.parametrize(("state", "path", "call", "error"), list(failures()), ids=name)
async def test_every_call_fails(
    tmp_path: Path, say: Callable[[str], None], state: str, path: str, call: str, error: str, burst: int
) -> None:
    reached, wrong = await every_call(tmp_path, state, path, call, error, burst)
    say(f"{reached} failures")
    assert reached
    assert not wrong, "\n".join(wrong)


@pytest.mark.crash
@pytest.mark.parametrize("state", ["fresh", "left"])
async def test_the_tables_name_every_call(tmp_path: Path, state: str) -> None:
    lives = Lives(tmp_path, fresh=state == "fresh")
    await lives.run([])
    assert not lives.wrong
    known = {(path, call) for one, path, call in PLACES if one == state}
    unknown = lives.made - known
    assert not unknown, f"calls nobody fails, for the tables: {unknown}"


NEXT = [
    Fault("openat", "0/5.stamps", ENOSPC),
    Fault("fdatasync", "0/5.stamps", EIO),
    Fault("openat", "0/5.mail", EMFILE),
    Fault("fsync", "0", EIO, "1..4"),
    Fault("ftruncate", "0/4.mail", EIO),
    Fault("fdatasync", "0/4.mail", EIO),
]


@pytest.mark.crash
@pytest.mark.parametrize("fault", NEXT, ids=name)
@pytest.mark.parametrize("when", ["1", "2", "1..3"])
async def test_a_segment_fails_and_so_does_what_follows(tmp_path: Path, fault: Fault, when: str) -> None:
    hit, wrong = await live(tmp_path, "serving", Fault("pwritev2", "0/4.mail", EIO, when), fault)
    assert hit
    assert not wrong, "\n".join(wrong)


SAMPLE = [
    ("fresh", Fault("pwritev2", "0/1.mail", KILL, "2")),
    ("left", Fault("fdatasync", "0/1.stamps", KILL, "1")),
    ("serving", Fault("pwritev2", "0/4.stamps", KILL, "2")),
    ("fresh", Fault("pwritev2", "0/1.mail", EIO, "3")),
    ("fresh", Fault("openat", "0/1.stamps", EMFILE, "1")),
    ("serving", Fault("pwritev2", "0/4.stamps", ENOSPC, "1..2")),
]


@pytest.mark.parametrize(("state", "fault"), SAMPLE, ids=name)
async def test_a_handful(tmp_path: Path, state: str, fault: Fault) -> None:
    hit, wrong = await live(tmp_path, state, fault)
    assert hit
    assert not wrong, "\n".join(wrong)
