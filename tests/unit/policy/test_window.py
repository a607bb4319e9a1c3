"""A window: slow start, feedback, and a ceiling that one connection at a time tries."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.window import PROBE, PROBE_MOST, TOGETHER, Window


def grown(most: int, *, size: float | None = None) -> Window:
    return Window(most, most, float(most) if size is None else size)


def test_it_opens_when_the_first_is_answered() -> None:
    window = Window(20, 5)
    assert window.limit(0.0) == 1
    assert not window.answered(0.0)
    assert window.limit(0.0) == 5
    small = Window(3, 5)
    small.answered(0.0)
    assert small.limit(0.0) == 3


def test_it_grows_by_one_for_every_window_of_answers() -> None:
    window = Window(20, 5, 5.0)
    for _ in range(5):
        window.answered(0.0)
    assert window.limit(0.0) == 5
    window.answered(0.0)
    assert window.limit(0.0) == 6
    for _ in range(1000):
        window.answered(0.0)
    assert window.limit(0.0) == 20


def test_failures_halve_it_once_for_those_that_come_together() -> None:
    window = grown(20)
    assert window.failed(10.0)
    assert not window.failed(10.0 + TOGETHER / 2)
    assert window.limit(10.0) == 10
    assert window.failed(10.0 + TOGETHER)
    assert window.limit(11.0) == 5
    for number in range(10):
        window.failed(20.0 + number)
    assert window.limit(30.0) == 1
    assert not window.failed(50.0)


def test_a_refusal_teaches_a_ceiling() -> None:
    window = grown(20)
    assert window.refused(0.0, 7)
    assert window.limit(0.0) == 7
    # Others that were on the way are refused as well: there are fewer than was thought.
    assert window.refused(0.1, 4)
    assert window.limit(0.1) == 4
    assert window.refused(0.2, 0)
    assert window.limit(0.2) == 1


def test_one_at_a_time_tries_for_more_after_a_pause_that_doubles() -> None:
    window = grown(20)
    window.refused(0.0, 3)
    window.size = 20.0
    now, pause = 0.0, PROBE
    for _ in range(10):
        assert window.limit(now + pause - 0.1) == 3
        now += pause
        assert window.limit(now) == 4
        assert window.probes(4)
        assert not window.probes(3)
        assert not window.refused(now, 3)
        assert window.limit(now) == 3
        pause = min(2 * pause, PROBE_MOST)
    assert window.pause == PROBE_MOST


def test_a_probe_that_is_answered_raises_the_ceiling() -> None:
    window = grown(5)
    window.refused(0.0, 3)
    window.size = 5.0
    window.pause = 1000.0
    assert not window.answered(70.0, held=4)
    assert not window.answered(70.0, probe=True, held=3)
    assert window.answered(70.0, probe=True, held=4)
    assert (window.ceiling, window.pause, window.probe_at) == (4, PROBE, 70.0 + PROBE)
    assert window.limit(70.0) == 4
    # The policy's bound is no ceiling any more.
    assert window.answered(140.0, probe=True, held=5)
    assert window.ceiling is None
    assert not window.answered(140.0, probe=True, held=5)
    assert not window.probes(100)


def test_without_a_ceiling_nothing_is_a_probe() -> None:
    assert not grown(5).probes(5)


def test_fewer_holds_for_its_time() -> None:
    window = grown(20)
    window.lower(0.0, 0.25, 600.0)
    assert window.limit(599.0) == 5
    window.size = 20.0
    assert window.limit(600.0) == 6
    window.lower(700.0, 0.01, 10.0)
    assert window.limit(700.0) == 1
    assert window.pause == PROBE


def test_other_bounds_keep_what_was_learned() -> None:
    window = grown(20)
    window.refused(0.0, 8)
    window.adopt(5, 2)
    assert (window.ceiling, window.limit(0.0)) == (8, 5)
    window.adopt(30, 10)
    assert window.limit(0.0) == 5
    window.adopt(0, 0)
    assert window.limit(0.0) == 1


ACTS = st.one_of(
    st.tuples(st.just("answered"), st.booleans(), st.integers(0, 50)),
    st.tuples(st.just("failed"), st.none(), st.none()),
    st.tuples(st.just("refused"), st.none(), st.integers(0, 50)),
    st.tuples(st.just("lower"), st.floats(0.0, 1.0), st.floats(0.0, 1e5)),
    st.tuples(st.just("adopt"), st.integers(1, 50), st.integers(0, 60)),
)


@given(st.integers(1, 50), st.integers(0, 60), st.lists(st.tuples(st.floats(0.0, 1000.0), ACTS), max_size=60))
def test_the_limit_stays_within_its_bounds(most: int, initial: int, acts: list[Any]) -> None:
    window, now = Window(most, initial), 0.0
    for step, (act, one, two) in acts:
        now += step
        ceiling, before = window.ceiling, window.limit(now)
        match act:
            case "answered":
                raised = window.answered(now, probe=one, held=two)
                assert not raised or (ceiling is not None and ceiling < two)
                assert window.limit(now) >= before
            case "failed":
                window.failed(now)
                assert window.limit(now) <= before
            case "refused":
                assert window.refused(now, two) == (window.ceiling != ceiling)
                assert window.limit(now) <= before
            case "lower":
                window.lower(now, one, two)
                assert window.limit(now) <= before
            case "adopt":
                most = one
                window.adopt(one, two)
        assert 1 <= window.limit(now) <= most
        assert window.pause <= max(PROBE_MOST, 1e5)
