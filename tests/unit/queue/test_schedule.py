"""The schedule: by time, then in the order things came."""

from hypothesis import given
from hypothesis import strategies as st

from backstamp.queue.schedule import Schedule


@given(st.lists(st.integers(0, 5)))
def test_items_leave_by_time_and_then_in_order(times: list[int]) -> None:
    schedule: Schedule[tuple[int, int]] = Schedule()
    for number, due in enumerate(times):
        schedule.add(due, (due, number))
    assert len(schedule) == len(times)
    assert sorted(item for _, item in schedule.items()) == sorted((due, n) for n, due in enumerate(times))
    taken = []
    for now in range(7):
        while (item := schedule.take(now)) is not None:
            assert item[0] <= now
            taken.append(item)
    assert taken == sorted((due, number) for number, due in enumerate(times))
    assert schedule.next_due() is None


def test_nothing_leaves_before_its_time() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add(5.0, "later")
    assert schedule.take(4.9) is None
    assert schedule.next_due() == 5.0
    assert schedule.take(5.0) == "later"
