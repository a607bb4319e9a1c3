"""Mail exchangers: order by preference and chance, the relay itself, addresses nobody may be led to."""

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy import mx
from backstamp.policy.destination import Family
from backstamp.policy.mx import Exchanger, Exchangers

A, B, C = Exchanger(10, "a.test"), Exchanger(20, "b.test"), Exchanger(20, "c.test")
NONE: frozenset[str] = frozenset()
hosts = st.lists(st.builds(Exchanger, st.integers(0, 3), st.sampled_from("abcdef")), max_size=8).map(tuple)


def test_smaller_preferences_come_first() -> None:
    assert mx.ordered(Exchangers((C, A, B)), [0.1, 0.9, 0.2]) == (A, C, B)


def test_equal_preferences_stand_in_the_order_of_their_chances() -> None:
    assert mx.ordered(Exchangers((B, C)), [0.9, 0.1]) == (C, B)
    assert mx.ordered(Exchangers((B, C)), [0.1, 0.9]) == (B, C)


def test_every_exchanger_needs_a_chance() -> None:
    with pytest.raises(ValueError):
        mx.ordered(Exchangers((A, B)), [0.5])


@given(hosts, st.data())
def test_nothing_is_lost_and_preferences_never_fall(
    found: tuple[Exchanger, ...], data: st.DataObject
) -> None:
    size = len(found)
    chances = data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=size, max_size=size))
    result = mx.ordered(Exchangers(found), chances)
    assert sorted(result, key=repr) == sorted(found, key=repr)
    assert [host.preference for host in result] == sorted(host.preference for host in found)


def test_the_relay_and_all_that_is_not_better_are_removed() -> None:
    """Security 13, RFC 5321: §5.1."""
    assert mx.without_self((A, B, C), frozenset({"c.test"})) == (A,)
    assert mx.without_self((A, B, C), frozenset({"a.test"})) == ()
    assert mx.without_self((A, B, C), frozenset({"other.test"})) == (A, B, C)


def test_the_best_of_the_relays_own_names_counts() -> None:
    assert mx.without_self((A, B, Exchanger(30, "d.test")), frozenset({"b.test", "d.test"})) == (A,)


@given(hosts, st.frozensets(st.sampled_from("abcdef")))
def test_what_is_left_is_better_than_the_relay(found: tuple[Exchanger, ...], own: frozenset[str]) -> None:
    left = mx.without_self(found, own)
    mine = [host.preference for host in found if host.name in own]
    assert left == tuple(host for host in found if not mine or host.preference < min(mine))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("198.18.0.1", "private"),
        ("192.0.2.1", "private"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("2001:db8::1", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("0.1.2.3", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::127.0.0.1", "reserved"),
        ("fec0::1", "reserved"),
        ("64:ff9b:1::7f00:1", "reserved"),
        ("4000::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a00:1::1", "private"),
        ("2002:e000:1::1", "multicast"),
        ("2001:0:a00:1::1", "private"),
        ("127.1", "not an address"),
        ("0x7f.0.0.1", "not an address"),
        ("2130706433", "not an address"),
        ("127.0.0.01", "not an address"),
        ("localhost", "not an address"),
        ("", "not an address"),
    ],
)
def test_addresses_nobody_may_be_led_to(address: str, why: str) -> None:
    """Security 17."""
    told = mx.forbidden(address, private=False, own=NONE)
    assert told is not None
    assert why in told


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
@pytest.mark.parametrize("private", [False, True])
def test_addresses_of_the_internet_are_free(address: str, private: bool) -> None:
    assert mx.forbidden(address, private=private, own=NONE) is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "::ffff:192.168.0.1", "100.64.0.1"]
)
def test_private_and_loopback_may_be_allowed(address: str) -> None:
    assert mx.forbidden(address, private=True, own=frozenset({address})) is None


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1", "169.254.169.254", "fe80::1",
     "255.255.255.255", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1"],
)  # fmt: skip
def test_some_addresses_are_never_allowed(address: str) -> None:
    assert mx.forbidden(address, private=True, own=NONE) is not None


@pytest.mark.parametrize("address", ["8.8.4.4", "::ffff:8.8.4.4", "64:ff9b::808:404", "2a00:0:0::25"])
def test_the_relays_own_addresses_however_written(address: str) -> None:
    own = frozenset({"8.8.4.4", "2a00::25"})
    assert mx.forbidden(address, private=False, own=own) == "this relay's own address"


@given(st.ip_addresses(v=4), st.booleans())
def test_an_address_inside_another_is_judged_alike(inner: ipaddress.IPv4Address, private: bool) -> None:
    """Security 17."""
    told = mx.forbidden(str(inner), private=private, own=NONE)
    assert mx.forbidden(f"::ffff:{inner}", private=private, own=NONE) == told
    assert mx.forbidden(f"64:ff9b::{inner}", private=private, own=NONE) == told
    wrapped = ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80 | 1)
    assert (mx.forbidden(str(wrapped), private=private, own=NONE) is None) == (told is None)


@given(st.text(max_size=40))
def test_any_text_gets_an_answer(address: str) -> None:
    mx.forbidden(address, private=False, own=NONE)


# ---- addresses by family ----

FOUR, SIX = ("192.0.2.1", "192.0.2.2", "192.0.2.3"), ("2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (Family.IPV4, FOUR),
        (Family.IPV6, SIX),
        (Family.IPV4_FIRST, (*FOUR, *SIX)),
        (Family.IPV6_FIRST, (*SIX, *FOUR)),
        (Family.BOTH, (SIX[0], FOUR[0], SIX[1], FOUR[1], FOUR[2])),
    ],
)
def test_addresses_stand_as_the_policy_says(family: Family, expected: tuple[str, ...]) -> None:
    assert mx.by_family((*SIX, *FOUR), family) == expected


def test_the_resolvers_first_answer_says_which_family_begins() -> None:
    assert mx.by_family((FOUR[0], SIX[0], FOUR[1]), Family.BOTH) == (FOUR[0], SIX[0], FOUR[1])
    assert mx.by_family((*SIX, FOUR[0]), Family.BOTH) == (SIX[0], FOUR[0], SIX[1])


@pytest.mark.parametrize("family", Family)
def test_of_nothing_comes_nothing(family: Family) -> None:
    assert mx.by_family((), family) == ()


@given(st.lists(st.sampled_from((*FOUR, *SIX)), unique=True), st.sampled_from(Family))
def test_no_address_is_lost_and_each_family_keeps_its_order(addresses: list[str], family: Family) -> None:
    found = mx.by_family(addresses, family)
    six, four = ([one for one in addresses if (":" in one) is wanted] for wanted in (True, False))
    assert [one for one in found if ":" in one] == ([] if family is Family.IPV4 else six)
    assert [one for one in found if ":" not in one] == ([] if family is Family.IPV6 else four)
    if family is Family.BOTH:
        turns = [":" in one for one in found[: 2 * min(len(six), len(four))]]
        assert all(one is not other for one, other in pairwise(turns))


# ---- sites ----


def test_a_site_names_its_exchangers_in_order() -> None:
    assert mx.site(Exchangers((C, A, B))) == "a.test,b.test|c.test"
    assert mx.site(Exchangers((A,), implicit=True)) == "a.test"


def test_domains_with_the_same_order_have_the_same_site_whatever_their_numbers() -> None:
    other = (Exchanger(5, "c.test"), Exchanger(5, "b.test"), Exchanger(1, "a.test"))
    assert mx.site(Exchangers(other)) == mx.site(Exchangers((A, B, C)))
    turned = (Exchanger(1, "b.test"), Exchanger(1, "c.test"), Exchanger(5, "a.test"))
    assert mx.site(Exchangers(turned)) != mx.site(Exchangers((A, B, C)))
    apart = (A, B, Exchanger(30, "c.test"))
    assert mx.site(Exchangers(apart)) != mx.site(Exchangers((A, B, C)))


@given(hosts, st.permutations(range(8)))
def test_the_order_of_the_answer_makes_no_other_site(found: tuple[Exchanger, ...], order: list[int]) -> None:
    turned = tuple(found[place] for place in order if place < len(found))
    assert mx.site(Exchangers(turned)) == mx.site(Exchangers(found))


@pytest.mark.parametrize(
    ("family", "six", "four"),
    [
        (Family.BOTH, True, True),
        (Family.IPV6_FIRST, True, True),
        (Family.IPV4_FIRST, True, True),
        (Family.IPV6, True, False),
        (Family.IPV4, False, True),
    ],
)
def test_an_answer_that_is_owed_counts_for_a_family_that_is_used(
    family: Family, six: bool, four: bool
) -> None:
    fault = mx.DnsFault(mx.DnsProblem.TIMEOUT, "mx.example")
    assert mx.unanswered(mx.Addresses((), six=fault), family) == (fault if six else None)
    assert mx.unanswered(mx.Addresses((), four=fault), family) == (fault if four else None)
    assert mx.unanswered(mx.Addresses(()), family) is None
