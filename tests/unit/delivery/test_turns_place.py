"""Where something stands that waits in a lane."""

from backstamp.delivery.turns import Place, Turns


def waiting() -> Turns[str]:
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.add(f"small {number}", b"a", 0, large=False)
        turns.add(f"large {number}", b"a", 0, large=True)
    for number in range(5):
        turns.add(f"other {number}", b"b", 0, large=False)
    turns.add("urgent", b"c", 5, large=False)
    turns.add("patient", b"a", -5, large=False)
    return turns


def place(item: str, tenant: bytes = b"a", priority: int = 0) -> Place | None:
    return waiting().place(tenant, priority, lambda one: one == item)


def test_those_before_it_are_its_tenants_own_in_their_turns() -> None:
    assert place("small 0") == Place(0, 5, 1, 1)
    # Two of one transaction, and two of many in between.
    assert place("small 2") == Place(4, 5, 1, 1)
    assert place("large 1") == Place(2, 5, 1, 1)


def test_other_priorities() -> None:
    assert place("urgent", b"c", 5) == Place(0, 0, 0, 0)
    assert place("patient", b"a", -5) == Place(0, 0, 0, 12)


def test_what_is_not_there_has_no_place() -> None:
    assert place("small 9") is None
    assert place("small 0", b"z") is None
    assert place("small 0", b"a", 1) is None


def test_all_that_waits() -> None:
    assert sorted([*waiting()]) == sorted(waiting().clear())
