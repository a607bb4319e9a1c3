"""Turns: priorities, then tenants by octets, then large mail beside small; nobody waits for ever."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.delivery.turns import QUANTUM, STRICT, Place, Turns

A, B, C = b"a.example", b"b.example", b"c.example"


def filled(*items: tuple[str, bytes, int, bool]) -> Turns[str]:
    turns: Turns[str] = Turns()
    for item, tenant, priority, large in items:
        turns.add(item, tenant, priority, large=large)
    return turns


def taken(turns: Turns[str], count: int = 1000) -> list[str]:
    """Take so many, or all; nobody pays."""
    found = []
    while len(found) < count and (item := turns.take()) is not None:
        found.append(item)
    return found


def test_nothing_waits_in_new_turns() -> None:
    turns: Turns[str] = Turns()
    assert turns.take() is None
    assert not turns
    assert turns.clear() == []
    assert turns.place(A, bool) is None


def test_a_tenants_mail_keeps_its_order() -> None:
    assert taken(filled(*((str(number), A, 0, False) for number in range(5)))) == list("01234")


def test_tenants_alternate() -> None:
    turns = filled(*((f"a{n}", A, 0, False) for n in range(3)), *((f"b{n}", B, 0, False) for n in range(2)))
    assert taken(turns) == ["a0", "b0", "a1", "b1", "a2"]


def test_large_and_small_mail_of_a_tenant_alternate() -> None:
    turns = filled(("L1", A, 0, True), ("L2", A, 0, True), ("s1", A, 0, False), ("s2", A, 0, False))
    assert taken(turns) == ["s1", "L1", "s2", "L2"]


def test_whoever_is_new_goes_before_the_one_that_had_its_turn() -> None:
    turns = filled(("a1", A, 0, False), ("a2", A, 0, False), ("b1", B, 0, False), ("b2", B, 0, False))
    assert taken(turns, 1) == ["a1"]
    turns.add("c1", C, 0, large=False)
    assert taken(turns) == ["b1", "c1", "a2", "b2"]


def test_it_does_so_even_where_nobody_waited_meanwhile() -> None:
    turns = filled(("a1", A, 0, True))
    assert taken(turns) == ["a1"]
    turns.add("a2", A, 0, large=True)
    turns.add("b1", B, 0, large=False)
    assert taken(turns) == ["b1", "a2"]


def test_newcomers_without_end_pass_nobody_twice() -> None:
    turns = filled(("a1", A, 0, False), ("a2", A, 0, False), ("b1", B, 0, False))
    found = []
    for number in range(5):
        turns.add(f"n{number}", b"%d" % number, 0, large=False)
        found += taken(turns, 1)
    assert {"a1", "a2", "b1"} <= set(found)


def test_a_higher_priority_goes_first_but_for_one_turn_in_ten() -> None:
    turns = filled(*(("high", A, 4, False) for _ in range(30)), *(("low", B, -4, False) for _ in range(3)))
    found = taken(turns, 30)
    assert [place for place, item in enumerate(found, 1) if item == "low"] == [10, 20, 30]
    assert found.count("high") == 27
    assert STRICT == 9


def test_the_lower_ones_share_that_turn() -> None:
    turns = filled(
        *(("9", A, 9, False) for _ in range(60)),
        *((str(low), B, low, False) for low in (3, 0, -5) for _ in range(10)),
    )
    assert taken(turns, 60)[9::10] == ["3", "0", "-5", "3", "0", "-5"]


def test_a_priority_that_comes_and_goes_starves_none_below_it() -> None:
    """The turn that the lower ones share goes down from the last that had it, whoever else is there then."""
    turns = filled(*(("high", A, 9, False) for _ in range(100)), ("5", A, 5, False), ("-9", A, -9, False))
    found: list[str] = []
    for _ in range(5):
        turns.add("5", A, 5, large=False)
        found += taken(turns, 9)
        turns.add("3", A, 3, large=False)
        found += taken(turns, 1)
        for _ in range(9):
            found += taken(turns, 1)
        found += taken(turns, 1)
    assert "-9" in found


def test_who_sent_much_waits_until_the_others_had_as_much() -> None:
    turns = filled(*(("A", A, 0, False) for _ in range(3)), *(("B", B, 0, False) for _ in range(10)))
    found = ""
    for _ in range(8):
        item = turns.take()
        assert item is not None
        found += item
        turns.charge(A if item == "A" else B, 0, 3 * QUANTUM if item == "A" else QUANTUM)
    assert found == "ABBBABBB"


def test_all_in_debt_are_as_good_as_none() -> None:
    turns = filled(("A", A, 0, False), ("B", B, 0, False), ("B", B, 0, False))
    assert turns.charge(A, 0, 900 * QUANTUM) == 0
    assert turns.charge(B, 0, 500 * QUANTUM) == 0
    assert taken(turns) == ["B", "B", "A"]


def test_who_is_alone_pays_nothing() -> None:
    turns = filled(("A", A, 0, False), ("A", A, 0, False))
    assert turns.charge(A, 0, 900 * QUANTUM) == 0
    turns.add("B", B, 0, large=False)
    turns.add("B", B, 0, large=False)
    assert taken(turns) == ["A", "B", "A", "B"]


def test_who_has_nothing_more_waiting_owes_until_it_is_back() -> None:
    turns = filled(("A", A, 0, True), *(("B", B, 0, False) for _ in range(9)))
    assert taken(turns, 1) == ["A"]
    assert turns.charge(A, 0, 3 * QUANTUM) == 2
    turns.add("A", A, 0, large=True, owed=2)
    assert "".join(taken(turns, 4)) == "BBBA"
    # Nobody else waits: nothing to pay with.
    alone = filled(("A", A, 0, True))
    assert taken(alone) == ["A"]
    owed = alone.charge(A, 0, 3 * QUANTUM)
    alone.add("A", A, 0, large=True, owed=owed)
    alone.add("B", B, 0, large=True)
    alone.add("B", B, 0, large=True)
    assert "".join(taken(alone, 4)) == "BAB"


def test_nobody_pays_for_another() -> None:
    turns = filled(("A", A, 0, False))
    assert turns.charge(A, 7, QUANTUM) == 0
    assert taken(turns) == ["A"]
    assert turns.charge(B, 0, QUANTUM) == 0


def crowded() -> Turns[str]:
    return filled(
        *((f"small {number}", A, 0, False) for number in range(3)),
        *((f"large {number}", A, 0, True) for number in range(3)),
        *((f"other {number}", B, 0, False) for number in range(5)),
        ("urgent", C, 5, False),
        ("patient", A, -5, False),
    )


@pytest.mark.parametrize(
    ("item", "tenant", "place"),
    [
        ("small 0", A, Place(0, 5, 1, 1)),
        # Two of one transaction before it, and two of many in between.
        ("small 2", A, Place(4, 5, 1, 1)),
        ("large 1", A, Place(2, 5, 1, 1)),
        ("urgent", C, Place(0, 0, 0, 0)),
        ("patient", A, Place(0, 0, 0, 12)),
        ("small 9", A, None),
        ("small 0", B, None),
    ],
)
def test_where_one_stands(item: str, tenant: bytes, place: Place | None) -> None:
    assert crowded().place(tenant, lambda one: one == item) == place


def test_all_that_waits_can_be_looked_at() -> None:
    turns = crowded()
    assert sorted([*turns]) == sorted(turns.clear())


def test_all_can_be_taken_out_and_new_ones_come() -> None:
    turns = filled(("1", A, 0, False), ("2", B, 5, True))
    assert sorted(turns.clear()) == ["1", "2"]
    assert len(turns) == 0
    turns.add("3", A, 0, large=False)
    assert taken(turns) == ["3"]


TENANTS = st.sampled_from((A, B, C))
ADD = st.tuples(TENANTS, st.integers(-9, 9), st.booleans())
STEPS = st.lists(st.one_of(ADD, st.just(None), st.integers(0, 50 * QUANTUM)), max_size=100)


@given(STEPS)
def test_everybody_gets_one_turn_and_each_tenant_its_order(steps: list) -> None:  # type: ignore[type-arg]
    """Whatever is added, taken and charged: the count is right, nothing is lost, nothing comes twice."""
    turns: Turns[int] = Turns()
    waiting: dict[int, tuple[bytes, int, bool]] = {}
    last: tuple[bytes, int] | None = None
    for number, step in enumerate([*steps, *[None] * len(steps)]):
        if isinstance(step, tuple):
            turns.add(number, step[0], step[1], large=step[2])
            waiting[number] = step
        elif isinstance(step, int):
            if last is not None:
                turns.charge(*last, step)
        else:
            item = turns.take()
            assert (item is None) == (not waiting)
            if item is not None:
                found = waiting.pop(item)
                assert not any(one < item and other == found for one, other in waiting.items())
                last = found[:2]
        assert len(turns) == len(waiting)
        assert sorted(turns) == sorted(waiting)
    assert turns.take() is None


SIZES = st.lists(st.integers(1, 40 * QUANTUM), min_size=1, max_size=8)


@given(SIZES, SIZES, st.booleans())
def test_tenants_share_by_octets(first: list[int], second: list[int], returning: bool) -> None:
    """While both wait, what they were let send differs by no more than a message of each.

    Small messages count as a quantum. `returning`: one of them has but one job, which comes back after
    each turn, as a mailing's does; what it owes is charged when it is back.
    """
    turns: Turns[bytes] = Turns()
    sizes = {A: first, B: second}
    for tenant in sizes:
        for _ in range(1 if returning and tenant == A else 1000):
            turns.add(tenant, tenant, 0, large=False)
    sent: Counter[bytes] = Counter()
    count: defaultdict[bytes, int] = defaultdict(int)
    bound = sum(max(QUANTUM, *their) for their in sizes.values()) + 2 * QUANTUM
    for _ in range(300):
        tenant = turns.take()
        assert tenant is not None
        size = sizes[tenant][count[tenant] % len(sizes[tenant])]
        count[tenant] += 1
        owed = turns.charge(tenant, 0, size)
        turns.add(tenant, tenant, 0, large=returning, owed=owed)
        sent[tenant] += max(QUANTUM, size)
        assert abs(sent[A] - sent[B]) <= bound


@pytest.mark.parametrize("levels", [2, 5, 19])
def test_every_priority_has_its_turns_while_higher_mail_never_ends(levels: int) -> None:
    turns: Turns[int] = Turns()
    for level in range(levels):
        for _ in range(2):
            turns.add(level, A, level, large=False)
    found: Counter[int] = Counter()
    for _ in range(10 * (levels - 1)):
        item = turns.take()
        assert item is not None
        found[item] += 1
        turns.add(item, A, item, large=False)
    assert set(found) == set(range(levels))
