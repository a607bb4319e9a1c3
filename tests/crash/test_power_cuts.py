"""The power is cut at every write, with every legal remainder: no promise breaks.

For each workload and each model of a file system the real engine runs on files that remember;
then every state that a cut may leave is recovered by the real recovery, everything that waits is
delivered, every report made, and the promises are checked. Recovery itself is cut as well.
"""

from collections.abc import Callable

import pytest
from tests.crash.model import MODELS, Mark, ModelFiles, State, kills, states
from tests.crash.workloads import WORKLOADS, at_random
from tests.crash.world import Aftermath, Script, Workload, check, finish, start

from backstamp.queue import fold, local, reader, segment, store
from backstamp.queue.port import Message

SMALL = 2048
PARTS = 8
SEEDS = 400
SLOW_SEEDS = 4000

MUTATIONS = [
    ("write mail", "ordered"),
    ("write stamps", "ordered"),
    ("sync stamps", "ordered"),
    ("sync directory", "posix"),
]
BROKEN = (AssertionError, OSError)
"""What a queue without a barrier may also do: fall over."""


@pytest.fixture(autouse=True)
def small_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sectors of stamps instead of 128: the same order of writes, and all their subsets."""
    for module in (segment, reader, fold, store, local):
        monkeypatch.setattr(module, "CAPACITY", SMALL - 16)


async def run(
    script: Script, *, dropped: frozenset[str] = frozenset()
) -> tuple[ModelFiles, dict[bytes, Message]]:
    """Run a workload to its end; return the files with all that was done, and the mail by id."""
    files = ModelFiles()
    files.dropped = set(dropped)
    queue = await start(files, segment_size=2500)
    work = Workload(files, queue)
    await script(work)
    known = {
        op.about.queue_id: op.about for op in files.ops if isinstance(op, Mark) and op.what == "accepted"
    }
    return files, known


async def violations(state: State, known: dict[bytes, Message]) -> list[str]:
    after = Aftermath()
    files = ModelFiles(state.files)
    await finish(files, after)
    wrong = check(state.marks, known, after)
    again = Aftermath()
    await finish(ModelFiles(files.contents()), again)
    if again.taken:
        wrong.append(f"still waiting after everything was delivered: {dict(again.taken)}")
    return wrong


async def explore(
    name: str, script: Script, model: str, dropped: frozenset[str] = frozenset()
) -> tuple[int, list[str]]:
    """Run a workload and check every state a cut may leave; return how many, and what is wrong first."""
    files, known = await run(script, dropped=dropped)
    count = 0
    for state in states(files.ops, model):
        count += 1
        if wrong := await violations(state, known):
            return count, [f"{name}, {model}, cut {state.cut}: {one}" for one in wrong]
    return count, []


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", WORKLOADS)
async def test_power_cuts(name: str, model: str, say: Callable[[str], None]) -> None:
    count, wrong = await explore(name, WORKLOADS[name], model)
    assert not wrong
    assert count > 20
    say(f"{count} states")


@pytest.mark.parametrize("part", range(PARTS))
async def test_power_cuts_in_random_workloads(part: int, say: Callable[[str], None]) -> None:
    total = 0
    for seed in range(part, SEEDS, PARTS):
        for model in MODELS:
            count, wrong = await explore(f"seed {seed}", at_random(seed), model)
            assert not wrong
            total += count
    say(f"{total} states of {SEEDS // PARTS} workloads")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
async def test_power_cuts_in_many_random_workloads(part: int, say: Callable[[str], None]) -> None:
    total = 0
    for seed in range(SEEDS + part, SLOW_SEEDS, PARTS):
        for model in MODELS:
            count, wrong = await explore(f"seed {seed}", at_random(seed), model)
            assert not wrong
            total += count
    say(f"{total} states")


@pytest.mark.parametrize("name", WORKLOADS)
async def test_a_power_cut_while_recovering_from_a_power_cut(name: str, say: Callable[[str], None]) -> None:
    """Recovery's own writes are cut too, on a sample of what the first cut left."""
    files, known = await run(WORKLOADS[name])
    first = list(states(files.ops, "posix"))
    count = 0
    for state in first[:: max(1, len(first) // 12)]:
        recovering = ModelFiles(state.files)
        queue = await start(recovering)
        await queue.close()
        for second in states(recovering.ops, "posix", state.files):
            count += 1
            wrong = await violations(State(second.files, state.marks, second.cut), known)
            assert not wrong, (state.cut, second.cut)
    say(f"{count} states")


@pytest.mark.parametrize("name", WORKLOADS)
async def test_a_kill_loses_nothing_and_doubles_only_what_is_in_flight(name: str) -> None:
    """What the page cache shows after a kill is all there: the state behind every single step."""
    files, known = await run(WORKLOADS[name])
    for state in kills(files.ops):
        assert not await violations(state, known), state.cut


@pytest.mark.parametrize(("barrier", "model"), MUTATIONS, ids=str)
async def test_without_a_barrier_a_promise_breaks(
    barrier: str, model: str, say: Callable[[str], None]
) -> None:
    """Mutation control: the enumerator notices that a sync is missing, and so would notice a bug."""
    found: list[str] = []
    for name, script in WORKLOADS.items():
        try:
            _, found = await explore(name, script, model, frozenset({barrier}))
        except BROKEN as error:
            found = [f"{name}: {error!r}"]
        if found:
            break
    assert found
    say(found[0].partition(" (")[0])
