"""The power is cut at every write, with every legal remainder: no promise breaks.

For each workload and each model of a file system the real engine runs on files that remember;
then every state that a cut may leave is recovered by the real recovery, everything that waits is
delivered, every report made, and the promises are checked. Recovery itself is cut as well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.crash.model import MODELS, Mark, ModelFiles, Name, State, SyncDirectory, kills, states
from tests.crash.workloads import WORKLOADS, at_random
from tests.crash.world import (
    NOW,
    ROOT,
    YEAR,
    Aftermath,
    Script,
    Workload,
    check,
    check_keys,
    finish,
    finish_for_real,
    start,
)

from backstamp.queue.files import DiskFiles
from backstamp.queue.port import Message
from backstamp.queue.views import stopped

PARTS = 8
SEEDS = 400
SLOW_SEEDS = 4000


pytestmark = pytest.mark.usefixtures("small_stamps")


async def run(
    script: Script,
    *,
    dropped: frozenset[str] = frozenset(),
    fails: dict[int, str] | None = None,
    lives: int = 1,
) -> tuple[ModelFiles, dict[bytes, Message]]:
    """Run a workload to its end; return the files with all that was done, and the mail by id.

    With more lives it is killed then, and the next one, which finds what the page cache holds,
    delivers what waits.
    """
    files = ModelFiles()
    files.dropped = {one for one in dropped if not one.startswith("recovery: ")}
    files.fails = dict(fails or {})
    queue = await start(files, segment_size=2500)
    await script(Workload(files, queue))
    for _ in range(1, lives):
        files.fails.clear()
        files.dropped |= {one.removeprefix("recovery: ") for one in dropped}
        queue = await start(files, segment_size=2500)
        files.dropped = {one for one in dropped if not one.startswith("recovery: ")}
        await again(Workload(files, queue))
    known = {
        op.about.queue_id: op.about for op in files.ops if isinstance(op, Mark) and op.what == "accepted"
    }
    return files, known


async def again(work: Workload) -> None:
    """The next life: deliver some of what waits, report what is owed."""
    for _ in range(2):
        if work.queue.ledger.scheduled():
            delivery = await work.claim()
            await work.deliver(delivery)
            work.give_back(delivery)
    if work.queue.ledger.report_ready:
        await work.report()


async def violations(state: State, known: dict[bytes, Message]) -> list[str]:
    after = Aftermath()
    files = ModelFiles(state.files)
    keys = {one.key for one in known.values() if one.key}
    # The clock may be anywhere after a crash: a year ahead, a year behind. Keys are over then.
    await finish(files, after, now=NOW + (0 if keys else state.cut % 3 - 1) * YEAR, keys=keys)
    wrong = check(state.marks, known, after)
    again = Aftermath()
    files = ModelFiles(files.contents())
    await finish(files, again, keys=keys)
    if keys:
        # In the second life everything was finished, and its segments went; the third knows only their keys.
        last = Aftermath()
        await finish(ModelFiles(files.contents()), last, keys=keys)
        wrong += check_keys(state.marks, [after, again, last])
    if again.taken:
        wrong.append(f"still waiting after everything was delivered: {dict(again.taken)}")
    return wrong


async def explore(name: str, script: Script, model: str, **how: Any) -> tuple[int, list[str]]:
    """Run a workload and check every state a cut may leave; return how many, and what is wrong first."""
    files, known = await run(script, **how)
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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", WORKLOADS)
async def test_power_cuts_after_a_kill(name: str, model: str, say: Callable[[str], None]) -> None:
    """What a killed relay wrote and did not sync is read by the next one, and may still be lost."""
    if name == "an_orderly_stop":
        pytest.skip("it is not killed")
    count, wrong = await explore(name, WORKLOADS[name], model, lives=2)
    assert not wrong
    say(f"{count} states")


@pytest.mark.parametrize("name", WORKLOADS)
async def test_a_sample_of_states_on_a_real_directory(
    name: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """What the model says of files is true of a file system, and threads change nothing."""
    files, known = await run(WORKLOADS[name])
    found = list(states(files.ops, "posix"))
    sample = found[:: max(1, len(found) // 12)]
    for number, state in enumerate(sample):
        directory = tmp_path / str(number)
        directory.mkdir()
        after = Aftermath()
        await finish_for_real(directory, state.files, after, NOW)
        assert not check(state.marks, known, after), state.cut
        assert not stopped(DiskFiles(), str(directory / ROOT)) or after.held
    say(f"{len(sample)} states")


@pytest.mark.parametrize("failing", ["old", "new"])
@pytest.mark.parametrize("part", range(4))
async def test_power_cuts_after_a_sync_that_failed(
    part: int, failing: str, say: Callable[[str], None]
) -> None:
    """Each durable write fails once; what it wrote may be on the platter or not, whatever is synced later."""
    total = 0
    for seed in range(part, 60, 4):
        script = at_random(seed)
        files, _ = await run(script)
        for number in range(1, files.durable_writes + 1, 3):
            count, wrong = await explore(f"seed {seed}", script, "posix", fails={number + part % 3: failing})
            assert not wrong, number
            total += count
    say(f"{total} states")


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


def test_what_a_life_writes_into_a_file_that_it_found_is_cut_too() -> None:
    """Recovery writes into files of the life before: without this the cuts below would try nothing there."""
    files = ModelFiles({"queue/0/1.mail": b"old"})
    descriptor = files.open("queue/0/1.mail", write=True)
    files.write(descriptor, [b"new and longer"], 0)
    files.sync(descriptor)
    left = [state.files["queue/0/1.mail"] for state in states(files.ops, "posix", {"queue/0/1.mail": b"old"})]
    assert left[0] == b"old"
    assert b"new" in left
    assert left[-1] == b"new and longer"


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
async def test_a_power_cut_while_recovering_from_a_kill(name: str, say: Callable[[str], None]) -> None:
    """The kill comes before names are durable: recovery sees them, and a cut may take them away again."""
    files, known = await run(WORKLOADS[name])
    count = 0
    for at in [at for at, op in enumerate(files.ops) if isinstance(op, Name | SyncDirectory)]:
        recovering = files.killed(at)
        queue = await start(recovering)
        await queue.close()
        for state in states(recovering.ops, "posix", begin=at):
            count += 1
            wrong = await violations(state, known)
            assert not wrong, (at, state.cut)
    say(f"{count} states")


@pytest.mark.parametrize("name", WORKLOADS)
async def test_a_kill_loses_nothing_and_doubles_only_what_is_in_flight(name: str) -> None:
    """What the page cache shows after a kill is all there: the state behind every single step."""
    files, known = await run(WORKLOADS[name])
    for state in kills(files.ops):
        assert not await violations(state, known), state.cut
