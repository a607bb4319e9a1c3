"""Each client has its share; who is on this host has what it likes; nobody costs memory for ever."""

import tracemalloc
from ipaddress import ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backstamp.listener.crowd import FULL, Client, Crowd, Refusal
from backstamp.listener.settings import Limits
from backstamp.mail.headers import LOCAL
from backstamp.policy.destination import Rate

A, B = "192.0.2.1", "192.0.2.2"
ONE, TWO, ELSEWHERE = "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"
RATED = Limits(connection_rate=Rate(2, 60.0), message_rate=Rate(2, 60.0), recipient_rate=Rate(3, 60.0))


def refused(refusal: Refusal | None) -> str:
    return "" if refusal is None else refusal.limit


def test_all_connections_together() -> None:
    """Security 15: connections are bounded in all."""
    crowd = Crowd(Limits(connections=2))
    assert crowd.admit("127.0.0.1", 0) is None
    assert crowd.admit(A, 0) is None
    assert crowd.admit("127.0.0.1", 0) == Refusal("connections", "127.0.0.1", FULL, 1)
    crowd.leave(A)
    assert crowd.admit(B, 0) is None
    assert crowd.connections == 2


def test_connections_of_an_address() -> None:
    """Security 15: by address."""
    crowd = Crowd(Limits(connections_per_client=2))
    assert [refused(crowd.admit(A, 0)) for _ in range(3)] == ["", "", "connections_per_client"]
    assert crowd.admit(B, 0) is None
    assert refused(crowd.admit(f"::ffff:{A}", 0)) == "connections_per_client"
    crowd.leave(f"::ffff:{A}")
    assert crowd.admit(A, 0) is None


def test_connections_of_an_ipv6_network() -> None:
    """Security 15: by /64, and by address in it."""
    crowd = Crowd(Limits(connections_per_client=2, connections_per_network=3))
    assert [refused(crowd.admit(ONE, 0)) for _ in range(3)] == ["", "", "connections_per_client"]
    assert crowd.admit(f"{TWO}%eth0", 0) is None
    refusal = crowd.admit(TWO, 0)
    assert refusal is not None
    assert (refusal.limit, refusal.client) == ("connections_per_network", "2001:db8::/64")
    assert refusal.reply.startswith(b"421 4.7.0 ")
    assert crowd.admit(ELSEWHERE, 0) is None


def test_no_limit_where_none_is_set() -> None:
    crowd = Crowd(Limits(connections=5000, connections_per_client=0, connections_per_network=0))
    assert not any(crowd.admit(ONE, 0) for _ in range(1000))
    client = crowd.client(ONE)
    assert not any(crowd.message(client, 0, before) or crowd.recipient(client, 0) for before in range(1000))


def test_exempt_clients_are_counted_in_all_only() -> None:
    limits = Limits(
        connections_per_client=1,
        connections_per_network=1,
        messages_per_connection=1,
        exempt=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        connection_rate=Rate(1, 60.0),
        message_rate=Rate(1, 60.0),
        recipient_rate=Rate(1, 60.0),
    )
    crowd = Crowd(limits)
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", ONE):
        client = crowd.client(peer, "shop")
        for before in range(5):
            assert crowd.admit(peer, 0) is None
            assert crowd.message(client, 0, before) is None
            assert crowd.recipient(client, 0) is None
    assert crowd.connections == 15
    assert [refused(crowd.admit("127.0.0.1", 0)) for _ in range(2)] == ["", "connections_per_client"]


def test_rates_of_connections() -> None:
    crowd = Crowd(RATED)
    said = [refused(crowd.admit(peer, 0)) for peer in (ONE, TWO, ONE, ELSEWHERE)]
    assert said == ["", "", "connection_rate", ""]
    assert crowd.connections == 3
    assert crowd.admit(TWO, 30) is None


def test_rates_of_messages_and_recipients_are_per_client() -> None:
    crowd = Crowd(RATED)
    client = crowd.client(A)
    assert [refused(crowd.message(client, 0)) for _ in range(3)] == ["", "", "message_rate"]
    assert [refused(crowd.recipient(client, 0)) for _ in range(4)] == ["", "", "", "recipient_rate"]
    refusal = crowd.recipient(client, 0)
    assert refusal is not None
    assert refusal.reply.startswith(b"450 4.7.1 ")
    assert crowd.message(crowd.client(B), 0) is None
    assert [refused(crowd.message(client, 30)) for _ in range(2)] == ["", "message_rate"]


@pytest.mark.parametrize(
    ("peer", "user", "client"),
    [
        (A, "", Client(A)),
        (f"::ffff:{A}", "", Client(A)),
        (ONE, "", Client("2001:db8::/64")),
        (ONE, "shop", Client("user shop")),
        (A, A, Client(f"user {A}")),
        ("127.0.0.1", "", Client("127.0.0.1", True)),
        ("::1", "shop", Client("user shop", True)),
        ("", "", Client("")),
        (LOCAL, "", Client(LOCAL, True)),
        ("/run/socket", "", Client("/run/socket")),
    ],
)
def test_whose_the_rates_are(peer: str, user: str, client: Client) -> None:
    assert Crowd(Limits()).client(peer, user) == client


def test_an_authenticated_user_has_one_rate_wherever_it_comes_from() -> None:
    crowd = Crowd(RATED)
    said = [refused(crowd.message(crowd.client(peer, "shop"), 0)) for peer in (A, B, ONE)]
    assert said == ["", "", "message_rate"]
    assert crowd.message(crowd.client(A), 0) is None


def test_messages_of_a_connection() -> None:
    crowd = Crowd(Limits(messages_per_connection=2))
    client = crowd.client(A)
    said = [refused(crowd.message(client, 0, before)) for before in range(3)]
    assert said == ["", "", "messages_per_connection"]


def test_events_are_told_once_a_minute_with_a_count() -> None:
    crowd = Crowd(Limits(connections_per_client=1, connections_per_network=1))
    crowd.admit(A, 0)
    crowd.admit(ONE, 0)
    told = [crowd.admit(peer, now) for now in (0, 1, 59, 60, 61) for peer in (A, TWO)]
    assert [one and one.told for one in told] == [1, 1, 0, 0, 0, 0, 3, 3, 0, 0]
    owed = [(one.limit, one.client, one.told) for one in crowd.due(120)]
    assert owed == [("connections_per_client", A, 1), ("connections_per_network", "2001:db8::/64", 1)]
    assert list(crowd.due(300)) == []


def test_other_limits_hold_from_then_on() -> None:
    crowd = Crowd(Limits(connections_per_client=1))
    crowd.admit(A, 0)
    crowd.limits = Limits(connections_per_client=2)
    assert [refused(crowd.admit(A, 0)) for _ in range(2)] == ["", "connections_per_client"]


def test_who_left_and_whose_rates_say_nothing_is_forgotten() -> None:
    """Security 15: what was there once costs nothing."""
    crowd = Crowd(RATED)
    for number in range(100):
        peer = f"2001:db8:0:{number:x}::1"
        assert crowd.admit(peer, number) is None
        crowd.message(crowd.client(peer), number)
        crowd.leave(peer)
    assert len(crowd) <= 2 * 60
    assert list(crowd.due(1000)) == []
    assert len(crowd) == 0


def test_a_flood_of_clients_costs_bounded_memory() -> None:
    """Security 15: whoever comes from however many networks."""
    crowd = Crowd(RATED, clients=1000)

    def flood(first: int) -> None:
        for number in range(first, first + 5000):
            client = crowd.client(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
            for _ in range(3):
                crowd.message(client, 0)

    flood(0)
    tracemalloc.start()
    flood(5000)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(crowd) <= 2000
    assert grown < 2_000_000


def test_of_too_many_the_one_that_did_something_longest_ago_is_forgotten() -> None:
    crowd = Crowd(Limits(message_rate=Rate(2, 60.0)), clients=2)
    first, second, third = (Client(name) for name in "abc")
    for client in (first, second, first, third):
        crowd.message(client, 0)
    assert refused(crowd.message(first, 0)) == "message_rate"
    assert crowd.message(second, 0) is None


class Comings(RuleBasedStateMachine):
    """Clients come and go: the counts are those of who is here."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(connections=6, connections_per_client=2, connections_per_network=3)
        self.crowd = Crowd(self.limits)
        self.here: list[str] = []

    @rule(peer=st.sampled_from([A, B, ONE, TWO, ELSEWHERE, "127.0.0.1"]))
    def come(self, peer: str) -> None:
        refusal = self.crowd.admit(peer, 0)
        network = [one for one in self.here if one in {ONE, TWO}] if peer in {ONE, TWO} else []
        full = len(self.here) >= 6
        many = peer != "127.0.0.1" and (self.here.count(peer) >= 2 or len(network) >= 3)
        assert (refusal is not None) == (full or many)
        if refusal is None:
            self.here.append(peer)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(self.here))
        self.here.remove(peer)
        self.crowd.leave(peer)

    @invariant()
    def counted(self) -> None:
        assert self.crowd.connections == len(self.here)
        if not self.here:
            assert not self.crowd._by_address
            assert not self.crowd._by_network


Comings.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestComings = Comings.TestCase


def test_programs_by_the_socket_file_are_of_this_host() -> None:
    """They share a name: counted as one client, the hundredth would shut out the rest."""
    crowd = Crowd(Limits(connections_per_client=1))
    assert crowd.admit(LOCAL, 0) is None
    assert crowd.admit(LOCAL, 0) is None
    strict = Crowd(Limits(connections_per_client=1, exempt=()))
    assert strict.admit(LOCAL, 0) is None
    assert refused(strict.admit(LOCAL, 0)) == "connections_per_client"
