"""A client has its time, and no more, however it spreads its octets."""

from hypothesis import given
from hypothesis import strategies as st

from backstamp.listener.pace import IDLE, SLOW, Pace
from backstamp.listener.settings import Limits

LIMITS = Limits(idle=300, message=3600, block=180, min_data_rate=500)


def test_a_command_that_trickles_in_is_late_as_one_that_does_not_come() -> None:
    """Security 14: one octet of a command now and then keeps no session open."""
    pace = Pace(LIMITS, 1000)
    for second in range(10, 300, 10):
        assert pace.took(1, 1000 + second) is None
    assert pace.deadline(1299) == 1300
    assert pace.late(1299.9) is None
    assert pace.late(1300) == pace.took(1, 1300) == IDLE


def test_the_time_for_a_command_begins_with_the_last_reply() -> None:
    pace = Pace(LIMITS, 0)
    pace.replied(200)
    assert pace.deadline(200) == 500
    pace.replied(499)
    assert pace.late(700) is None


def test_a_content_may_stand_still_for_a_block() -> None:
    """RFC 5321 §4.5.3.2.5: three minutes for a block of data."""
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    assert pace.took(500 * 180, 179) is None
    assert pace.took(500 * 180, 179 + 179) is None
    assert pace.deadline(400) == 179 + 179 + 180


def test_a_content_that_trickles_in_is_cut_off() -> None:
    """Security 14: one octet every ten seconds."""
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    now = 0
    while (reply := pace.took(1, now)) is None:
        now += 10
    assert reply == SLOW
    assert now == 190


def test_a_content_at_the_least_rate_is_taken_up_to_the_end_of_its_time() -> None:
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    now = 0
    while pace.took(5000, now) is None:
        now += 10
    assert now == 3600


def test_fast_octets_earn_no_more_than_one_block() -> None:
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    assert pace.took(50_000_000, 1) is None
    assert pace.deadline(1) == 181


def test_without_a_least_rate_any_octet_earns_a_block() -> None:
    pace = Pace(Limits(min_data_rate=0), 0)
    pace.begin(0)
    assert pace.took(1, 170) is None
    assert pace.late(349) is None
    assert pace.late(350) == SLOW


def test_the_relays_own_time_is_given_back() -> None:
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    pace.pause(100)
    pace.pause(150)
    assert pace.late(100_000) is None
    assert pace.deadline(100_000) == 100_080
    pace.resume(5100)
    pace.resume(5200)
    assert pace.deadline(5100) == 180 + 5000
    for at in range(5100, 8590, 10):
        assert pace.took(90_000, at) is None
    assert pace.deadline(8590) == 3600 + 5000


def test_a_reply_ends_a_content_and_what_was_paused() -> None:
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    pace.pause(10)
    pace.ended()
    pace.replied(50)
    assert pace.deadline(60) == 350
    pace.pause(100)
    pace.begin(120)
    assert pace.deadline(130) == 300


def test_all_chunks_of_a_content_have_one_end() -> None:
    """Security 14: one octet a chunk, a chunk every four minutes; commands between do not help."""
    pace = Pace(LIMITS, 0)
    for now in range(0, 3600, 240):
        pace.begin(now)
        assert pace.took(1, now) is None
        pace.pause(now)  # the relay takes a second of its own
        pace.replied(now + 1)
    assert pace.late(3613) is None
    assert pace.deadline(3614) == 3600 + 15
    assert pace.late(3615) == SLOW
    pace.ended()
    pace.replied(3614)
    assert pace.late(3913) is None
    assert pace.late(3914) == IDLE
    pace.begin(3900)
    assert pace.deadline(3900) == 4080


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 200_000)), max_size=40))
def test_who_is_not_late_sent_the_least_rate_but_for_one_block(steps: list[tuple[float, int]]) -> None:
    pace = Pace(LIMITS, 0)
    pace.begin(0)
    now, octets = 0.0, 0
    for step, count in steps:
        now += step
        if pace.took(count, now) is not None:
            assert pace.late(now) == SLOW
            return
        assert now < 180 + octets / 500 + 1e-6
        octets += count
        assert now < pace.deadline(now) <= min(now + 180, 3600)
