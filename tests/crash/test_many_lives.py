"""Many lives of one queue on a disk that fails: the real engine does what comes, a model keeps the books.

Mail, deliveries, failures, reports, operators, compaction and keys come in any order while calls fail,
the disk is full or descriptors run out. A life ends in order, by a kill at any call, or by a power
cut; the next one goes on with what is left. At the end everything is delivered, and `books` compares.
A seed gives one run, on virtual time: `lives(seed)` does it again.
"""

import asyncio
import random

import pytest
from tests.crash import world
from tests.crash.books import Books
from tests.crash.failing import FailingFiles
from tests.crash.life import Life
from tests.crash.model import MODELS, left_by_a_cut
from tests.sim.virtual import VirtualLoop
from tests.support import queues

PARTS = 4
SEEDS = 600
SLOW_SEEDS = 12000

pytestmark = [
    pytest.mark.usefixtures("small_stamps"),
    # A kill leaves no time for what had not begun.
    pytest.mark.filterwarnings("ignore:coroutine 'Engine.append' was never awaited"),
]


def lives(seed: int) -> list[str]:
    """Live a few times; return what is wrong."""
    queues._numbers, world._reports = iter(range(1, 1 << 40)), iter(range(1 << 40, 1 << 41))
    chance, books, files = random.Random(seed), Books(), FailingFiles()
    epoch = world.NOW
    count = chance.randrange(2, 6)
    for number in range(count):
        loop = VirtualLoop(turns=200_000)
        with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:  # type: ignore[misc]
            in_order = runner.run(Life(books, files, chance, epoch, number == count - 1).run())
            loop.set_exception_handler(lambda *_: None)
        epoch += loop.time() + 1
        books.ended(crashed=not in_order)
        books.wrong += files.misused
        if books.wrong:
            return books.wrong
        if not in_order and chance.random() < 0.5:
            files = FailingFiles(left_by_a_cut(files.ops, chance.choice(MODELS), files.found, chance))
    books.check()
    return books.wrong


@pytest.mark.parametrize("part", range(PARTS))
def test_through_many_lives_on_a_disk_that_fails(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        assert not lives(seed), seed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_through_very_many_lives_on_a_disk_that_fails(part: int) -> None:
    for seed in range(SEEDS + part, SLOW_SEEDS, PARTS):
        assert not lives(seed), seed
