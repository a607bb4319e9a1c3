"""What happens often is told now and then, and nothing is told twice or lost."""

from hypothesis import given
from hypothesis import strategies as st

from backstamp.listener.tally import Tally


def test_the_first_is_told_at_once_and_those_of_a_minute_with_the_next() -> None:
    tally = Tally()
    assert tally.count(("a",), 0) == 1
    assert [tally.count(("a",), second) for second in (1, 30, 59)] == [0, 0, 0]
    assert tally.count(("b",), 59) == 1
    assert tally.count(("a",), 60) == 4
    assert tally.count(("a",), 119) == 0


def test_what_nothing_follows_is_told_when_its_minute_is_over() -> None:
    tally = Tally()
    for second in (0, 1, 2):
        tally.count(("a",), second)
    tally.count(("b",), 30)
    assert list(tally.due(59)) == []
    assert list(tally.due(60)) == [(("a",), 2)]
    assert list(tally.due(90)) == []
    assert len(tally) == 0


def test_of_too_many_the_one_told_first_is_forgotten() -> None:
    tally = Tally(2)
    for key in "abc":
        tally.count((key,), 0)
    assert len(tally) == 2
    assert tally.count(("a",), 1) == 1
    assert tally.count(("c",), 1) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 70), st.booleans()), max_size=60))
def test_everything_is_told_once(steps: list[tuple[str, int, bool]]) -> None:
    tally = Tally()
    now, told, told_at = 0.0, dict.fromkeys("abc", 0), dict.fromkeys("abc", -60.0)
    for key, step, asked in steps:
        now += step
        if asked:
            for (one,), count in tally.due(now):
                told[one] += count
        if count := tally.count((key,), now):
            told[key] += count
            assert now - told_at[key] >= 60
            told_at[key] = now
    for (one,), count in tally.due(now + 60):
        told[one] += count
    assert told == {one: sum(key == one for key, *_ in steps) for one in "abc"}
