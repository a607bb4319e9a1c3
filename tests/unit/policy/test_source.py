"""Which address mail is sent from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.source import PoolAddress, SourcePool, SourceTable, choose, named

ONE = PoolAddress("192.0.2.1", "one.example.org", 3)
TWO = PoolAddress("192.0.2.2", "two.example.org")
SIX = PoolAddress("2001:db8::1")
POOL = SourcePool("bulk", (ONE, SIX, TWO))


@pytest.mark.parametrize(
    ("chance", "family", "found"),
    [(0.0, 4, ONE), (0.749, 4, ONE), (0.75, 4, TWO), (0.999, 4, TWO), (0.0, 6, SIX), (0.999, 6, SIX)],
)
def test_weights_are_shares_of_chance_within_a_family(chance, family, found):
    assert choose(POOL, chance, family) == found


def test_a_pool_without_the_family_has_nothing():
    assert choose(SourcePool("x", (ONE,)), 0.5, 6) is None


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5), st.floats(0, 1, exclude_max=True))
def test_every_chance_finds_one(weights, chance):
    pool = SourcePool("x", tuple(PoolAddress("192.0.2.1", str(n), w) for n, w in enumerate(weights)))
    assert choose(pool, chance, 4) in pool.addresses


def test_rounding_at_the_end_of_the_range_leaves_nobody_without():
    assert choose(POOL, 1.0, 4) == TWO


TABLE = SourceTable(
    [
        SourcePool("bulk", (ONE,), ("Shop.example", "*.shop.example")),
        SourcePool("one", (TWO,), ("Alice@shop.example",)),
        SourcePool("reports", (SIX,), ("<>",)),
        SourcePool("rest", (SIX,), ("*",)),
    ]
)


@pytest.mark.parametrize(
    ("sender", "pool"),
    [
        ("bob@shop.example", "bulk"),
        ("Bob@news.Shop.example", "bulk"),
        ("alice@SHOP.example", "one"),
        ("<>", "reports"),
        ("eve@example.org", "rest"),
    ],
)
def test_the_address_outweighs_the_domain(sender, pool):
    assert TABLE.for_sender(sender) == pool


def test_who_has_no_pool():
    table = SourceTable([SourcePool("bulk", (ONE,), ("shop.example",))])
    assert table.for_sender("eve@example.org") == ""
    assert table.for_sender("<>") == ""
    assert SourceTable().for_sender("a@b.example") == ""


def test_pools_by_name():
    assert TABLE.pool("one") == SourcePool("one", (TWO,), ("Alice@shop.example",))
    assert TABLE.pool("two") is None
    assert TABLE.pool("") is None


@pytest.mark.parametrize(
    ("route", "policy", "sender", "default", "pool"),
    [
        (None, "", "", "", ""),
        (None, "", "bulk", "", "bulk"),
        (None, "all", "bulk", "all", "bulk"),
        (None, "all", "", "all", "all"),
        (None, "far", "bulk", "all", "far"),
        (None, "", "bulk", "all", ""),
        ("relay", "far", "bulk", "all", "relay"),
        ("", "far", "bulk", "all", ""),
    ],
)
def test_who_names_a_pool_outweighs_whom(route, policy, sender, default, pool):
    assert named(route=route, policy=policy, sender=sender, default=default) == pool
