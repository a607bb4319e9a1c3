"""What values must keep between them."""

from ipaddress import ip_network

import pytest

from backstamp.config.rules import ComplaintError, not_an_open_relay, repetitions
from backstamp.config.units import Address

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


def test_repetitions_are_found_in_every_spelling():
    document = {
        "listen": [{"address": "[::1]:25"}, {"address": "[0::1]:25"}, {"address": "127.0.0.1:25"}],
        "route": [{"match": "Example.org"}, {"match": "*"}, {"match": "example.ORG"}],
        "admin": {"address": "127.0.0.1:25"},
    }
    assert repetitions(document) == [
        (("listen", 1, "address"), '"[::1]:25" is listen[0].address already'),
        (("admin", "address"), '"127.0.0.1:25" is listen[2].address already'),
        (("route", 2, "match"), '"example.org" is route[0].match already'),
    ]


def test_port_0_is_another_one_every_time():
    assert (
        repetitions({"listen": [{"address": "127.0.0.1:0"}] * 2, "admin": {"address": "127.0.0.1:0"}}) == []
    )


@pytest.mark.parametrize("strange", [None, 5, "x", [], [5], [{}], [{"address": 5}], {"address": []}])
def test_what_cannot_be_read_is_passed_over(strange):
    assert repetitions({"listen": strange, "admin": strange, "route": strange}) == []
