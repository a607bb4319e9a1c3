"""What values must keep between them."""

from ipaddress import ip_network

import pytest

from backstamp.config.address import Address
from backstamp.config.rules import ComplaintError, bounce_class, named_proxies, not_an_open_relay, via

PUBLIC = Address("0.0.0.0", 25)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "8.0.0.0/8",
        "10.0.0.0/7",
        "::/0",
        "2000::/3",
        "2002::/16",
        "::ffff:0:0/96",
        "::ffff:0:0/97",
    ],
)
def test_strangers_are_refused(text):
    with pytest.raises(ComplaintError) as raised:
        not_an_open_relay(PUBLIC, [ip_network("10.0.0.0/8"), ip_network(text)])
    assert raised.value.places == (
        ((1,), f'"{ip_network(text)}" on 0.0.0.0:25 is an open relay; write your own networks'),
    )


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "fc00::/7",
        "::1/128",
        "203.0.113.0/24",
        "198.51.0.0/16",
        "2001:db8::/32",
        "::ffff:10.0.0.0/104",
    ],
)
@pytest.mark.parametrize("address", [PUBLIC, Address("::", 25), Address("192.0.2.1", 25)])
def test_own_networks_are_not(text, address):
    not_an_open_relay(address, [ip_network(text)])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1"])
def test_strangers_cannot_reach_loopback(host):
    not_an_open_relay(Address(host, 25), [ip_network("0.0.0.0/0"), ip_network("::/0")])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("mx", ()),
        ("sink:25", (Address("sink", 25),)),
        (["sink:25", "[::1]:2526"], (Address("sink", 25), Address("::1", 2526))),
    ],
)
def test_next_hops_of_a_route(value, found):
    assert via(value) == found


def test_bad_next_hops_are_told_by_their_index():
    with pytest.raises(ComplaintError) as raised:
        via(["a:25", "mx", 5, "A:25"])
    wrong = "is not a host and a port; write smtp.example.net:25 or [::1]:2526"
    assert raised.value.places == (
        ((1,), f'"mx" {wrong}'),
        ((2,), f"5 {wrong}"),
        ((3,), '"a:25" stands there already'),
    )


@pytest.mark.parametrize("value", ["MX", "", 5, None, []])
def test_what_is_no_next_hop(value):
    with pytest.raises(ValueError, match=r"is not a host|is empty; write at least one"):
        via(value)


def test_classes_of_bounces():
    assert bounce_class("invalid-recipient") == "invalid-recipient"
    for value in ("suppressed", "invalid", 5, []):
        with pytest.raises(ValueError, match="is not a class of bounces; known are invalid-recipient, "):
            bounce_class(value)


def test_strangers_reach_loopback_through_a_proxy():
    """Security 10: whom a proxy speaks for is judged, wherever the relay listens."""
    with pytest.raises(ComplaintError, match="open relay"):
        not_an_open_relay(Address("127.0.0.1", 25), [ip_network("0.0.0.0/0")], proxied=True)
    not_an_open_relay(Address("127.0.0.1", 25), [ip_network("10.0.0.0/8")], proxied=True)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "::ffff:0:0/96", "128.0.0.0/1"])
def test_strangers_are_no_proxies(text):
    """Security 10: who may say whose connection it is may say it is anybody's."""
    with pytest.raises(ComplaintError) as raised:
        named_proxies([ip_network("10.0.0.5/32"), ip_network(text)])
    assert raised.value.places == (
        ((1,), f'"{text}" would let strangers say who they are; write your proxies'),
    )
    named_proxies([ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("::1/128")])
