"""Traffic is what it says: in order, from a seed, as popular and as frequent as asked for."""

import random
from collections import Counter

import pytest
from tests.sim import traffic
from tests.sim.traffic import Post

DOMAINS = [f"d{number}.example" for number in range(100)]


def test_steady_traffic_has_its_rate_and_order() -> None:
    posts = list(traffic.steady(random.Random(1), 2.0, 5000, traffic.zipf(DOMAINS), since=100))
    times = [post.at for post in posts]
    assert times == sorted(times)
    assert times[0] > 100
    assert times[-1] < 5100
    assert 9500 < len(posts) < 10500


def test_the_first_domains_are_the_popular_ones() -> None:
    chance = random.Random(1)
    pick = traffic.zipf(DOMAINS)
    seen = Counter(pick(chance) for _ in range(20000))
    assert seen[b"d0.example"] / seen[b"d9.example"] == pytest.approx(10, rel=0.3)
    assert set(seen) <= {domain.encode() for domain in DOMAINS}


@pytest.mark.parametrize(("each", "messages"), [(1, 1000), (100, 10), (1000, 1)])
def test_a_mailing_reaches_everybody_once(each: int, messages: int) -> None:
    people = traffic.people(1000, "d.example")
    posts = list(traffic.mailing(people, each=each, at=5, rate=10))
    assert len(posts) == messages
    assert [one for post in posts for one in post.recipients] == people
    assert [post.at for post in posts[:3]] == [5 + number / 10 for number in range(3)][:messages]


def test_a_crowd_lives_everywhere_and_nobody_is_in_it_twice() -> None:
    crowd = traffic.crowd(random.Random(1), 1000, traffic.zipf(DOMAINS))
    assert len(set(crowd)) == 1000
    assert len({one.partition(b"@")[2] for one in crowd}) > 50


def test_streams_come_together_in_order() -> None:
    pick = traffic.zipf(DOMAINS)
    chance = random.Random(1)
    posts = list(
        traffic.merged(
            traffic.resets(chance, 1, 100, pick, priority=4),
            traffic.mailing(traffic.people(50, "d.example"), at=10, rate=1),
        )
    )
    assert [post.at for post in posts] == sorted(post.at for post in posts)
    assert Counter(post.sender for post in posts)[b"news@mailing.example"] == 50
    assert {post.priority for post in posts if post.tenant == b"accounts.example"} == {4}


def test_one_seed_gives_one_stream() -> None:
    def stream(seed: int) -> list[Post]:
        return list(traffic.steady(random.Random(seed), 1, 500, traffic.zipf(DOMAINS), sizes=(1, 2, 3)))

    assert stream(1) == stream(1)
    assert stream(1) != stream(2)
