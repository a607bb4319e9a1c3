"""Memory is never more than the budget, whoever waits has its turn, and nobody waits for ever."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backstamp.listener.budget import LEAST, SMALLEST, SPARE, UNKNOWN, Budget, Hold, share

KIB = 1024


@pytest.mark.parametrize(
    ("declared", "octets"),
    [
        (None, UNKNOWN),
        (0, SMALLEST),
        (100 * KIB, 100 * KIB + 12_800),
        (SPARE, SPARE),
        (10**20, SPARE),
    ],
)
def test_what_a_message_takes_before_it_is_read(declared: int | None, octets: int) -> None:
    assert share(declared) == octets


async def soon() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_is_taken_at_once_while_there_is_some() -> None:
    budget = Budget(LEAST)
    hold = budget.take(SPARE)
    assert hold is not None
    assert budget.take(1) is None
    assert budget.used == SPARE
    hold.release()
    hold.release()
    assert budget.used == 0
    assert budget.take(1) is not None


async def test_who_waits_goes_on_in_order() -> None:
    """Security 15: a large request is not overtaken by small ones."""
    budget = Budget(LEAST)
    first = await budget.wait(SPARE)
    order: list[str] = []

    async def message(name: str, octets: int) -> None:
        hold = await budget.wait(octets)
        order.append(name)
        await soon()
        hold.release()

    tasks = [
        asyncio.create_task(message(name, octets)) for name, octets in (("large", SPARE), ("b", 1), ("c", 1))
    ]
    await soon()
    assert (order, budget.waiting) == ([], 3)
    assert budget.take(0) is None
    first.release()
    await asyncio.gather(*tasks)
    assert order == ["large", "b", "c"]
    assert budget.used == 0


async def test_who_is_cancelled_while_waiting_takes_nothing_and_holds_nobody_up() -> None:
    budget = Budget(LEAST)
    first = await budget.wait(SPARE - 10)
    large = asyncio.create_task(budget.wait(SPARE))
    small = asyncio.create_task(budget.wait(10))
    await soon()
    large.cancel()
    await soon()
    assert small.done()
    assert large.cancelled()
    assert budget.used == SPARE
    (await small).release()
    first.release()
    assert budget.used == 0


async def test_who_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    budget = Budget(LEAST)
    first = await budget.wait(SPARE)
    second = asyncio.create_task(budget.wait(SPARE))
    third = asyncio.create_task(budget.wait(SPARE))
    await soon()
    first.release()
    second.cancel()
    await soon()
    assert second.cancelled()
    (await third).release()
    assert budget.used == 0


async def test_octets_that_come_between_a_cancel_and_its_end_are_not_lost() -> None:
    budget = Budget(LEAST)
    first = await budget.wait(SPARE)
    second = asyncio.create_task(budget.wait(SPARE))
    await soon()
    second.cancel()
    first.release()
    await soon()
    assert second.cancelled()
    assert (budget.used, budget.waiting) == (0, 0)


async def test_all_who_said_too_little_come_through() -> None:
    """Security 15: clients that all declare one octet and send a megabyte end in no deadlock."""
    budget = Budget(LEAST)
    done: list[int] = []

    async def message(number: int) -> None:
        hold = await budget.wait(share(1))
        await asyncio.sleep(0)
        await hold.grow(SPARE)
        assert hold.octets == SPARE
        assert budget.used <= budget.limit
        await asyncio.sleep(0)
        hold.release()
        done.append(number)

    async with asyncio.timeout(20):
        await asyncio.gather(*(message(number) for number in range(600)))
    assert sorted(done) == list(range(600))
    assert budget.used == 0


async def test_to_grow_to_what_is_held_takes_nothing() -> None:
    budget = Budget(LEAST)
    hold = await budget.wait(10)
    await hold.grow(5)
    assert (hold.octets, budget.used) == (10, 10)


async def test_a_cancelled_growth_leaves_the_hold_as_it_was() -> None:
    budget = Budget(LEAST)
    one, two, three = [await budget.wait(share(1)) for _ in range(3)]
    await one.grow(SPARE)
    rest = budget.limit - budget.used
    await two.grow(rest)
    growing = asyncio.create_task(three.grow(SPARE))
    await soon()
    assert not growing.done()
    growing.cancel()
    await soon()
    assert three.octets == share(1)
    for hold in (one, two, three):
        hold.release()
    assert budget.used == 0


async def test_another_limit_holds_from_then_on() -> None:
    budget = Budget(LEAST)
    await budget.wait(SPARE)
    waiting = asyncio.create_task(budget.wait(SPARE))
    await soon()
    budget.resize(LEAST + SPARE)
    hold = await waiting
    budget.resize(1)
    assert budget.limit == LEAST
    assert budget.take(1) is None
    hold.release()
    assert budget.used == SPARE


class Sessions(RuleBasedStateMachine):
    """Sessions take, grow, are cancelled and end, in any order: never too much, and all come through."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.budget = Budget(LEAST + SPARE)
        self.coming: list[asyncio.Task[Hold]] = []
        self.holds: list[Hold] = []
        self.growing: list[tuple[asyncio.Task[None], Hold]] = []
        self.grown: list[Hold] = []

    def run(self) -> None:
        self.loop.run_until_complete(soon())
        for task in [one for one in self.coming if one.done()]:
            self.coming.remove(task)
            if not task.cancelled():
                self.holds.append(task.result())
        for pair in [one for one in self.growing if one[0].done()]:
            self.growing.remove(pair)
            (self.holds if pair[0].cancelled() else self.grown).append(pair[1])

    @rule(octets=st.sampled_from([SMALLEST, UNKNOWN, SPARE // 2, SPARE, 2 * SPARE]), run=st.booleans())
    def come(self, octets: int, run: bool) -> None:
        self.coming.append(self.loop.create_task(self.budget.wait(octets)))
        if run:
            self.run()

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), run=st.booleans())
    def grow(self, data: st.DataObject, run: bool) -> None:
        hold = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        self.growing.append((self.loop.create_task(hold.grow(SPARE)), hold))
        if run:
            self.run()

    @precondition(lambda self: self.coming or self.growing)
    @rule(data=st.data(), run=st.booleans())
    def cancel(self, data: st.DataObject, run: bool) -> None:
        tasks = [*self.coming, *(task for task, _ in self.growing)]
        tasks[data.draw(st.integers(0, len(tasks) - 1))].cancel()
        if run:
            self.run()

    @precondition(lambda self: self.holds or self.grown)
    @rule(data=st.data(), run=st.booleans())
    def end(self, data: st.DataObject, run: bool) -> None:
        held = [*self.holds, *self.grown]
        hold = held[data.draw(st.integers(0, len(held) - 1))]
        hold.release()
        (self.holds if hold in self.holds else self.grown).remove(hold)
        if run:
            self.run()

    @rule()
    def pass_time(self) -> None:
        self.run()

    @invariant()
    def never_too_much(self) -> None:
        assert 0 <= self.budget.used <= self.budget.limit

    def teardown(self) -> None:
        """Whoever can go on goes on: in the end all have been served, and everything is back."""
        self.run()
        while self.coming or self.growing or self.holds or self.grown:
            before = len(self.coming), len(self.growing), len(self.holds), len(self.grown)
            if self.grown:
                self.grown.pop(0).release()
            elif self.holds and not self.growing:
                self.holds.pop(0).release()
            elif self.holds:
                # Those who hold their first share may all want more, too.
                hold = self.holds.pop(0)
                self.growing.append((self.loop.create_task(hold.grow(SPARE)), hold))
            self.run()
            after = len(self.coming), len(self.growing), len(self.holds), len(self.grown)
            assert before != after, "nobody can go on"
        assert self.budget.used == 0
        assert self.budget.waiting == 0
        self.loop.close()


Sessions.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestSessions = Sessions.TestCase
