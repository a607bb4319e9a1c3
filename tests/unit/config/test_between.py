"""What tables must keep between them."""

import pytest

from backstamp.config import between
from backstamp.config.between import mistakes, repetitions

TABLES = ("listen", "admin", "http", "route", "destination", "provider", "source", "adapt", "delivery")
STRANGE = [None, 5, "x", [], [5], [{}], {"address": []}, {"source": 5}]
STRANGE += [
    [{key: value}] for key in ("address", "name", "match", "mx", "senders") for value in (5, [5], [[]])
]
STRANGE += [[{"match": "*", "from": []}], [{"addresses": [5, {}, {"address": 5}], "source": []}]]


def test_repetitions_are_found_in_every_spelling():
    document = {
        "listen": [{"address": "[::1]:25"}, {"address": "[0::1]:25"}, {"address": "127.0.0.1:25"}],
        "route": [{"match": "Example.org"}, {"match": "*"}, {"match": "example.ORG"}],
        "admin": {"address": "127.0.0.1:25"},
        "http": {"address": "[::1]:25"},
        "destination": [{"match": "*.Example.org"}, {"match": "*.example.org"}],
        "provider": [
            {"name": "a", "mx": ["MX.a.example", "mx.b.example"]},
            {"name": "a", "mx": ["mx.a.example"]},
        ],
        "source": [
            {"name": "p", "senders": ["A@b.example"], "addresses": [{"address": "::1"}, {"address": "0::1"}]},
            {"name": "p", "senders": ["a@B.example"], "addresses": [{"address": "::1"}]},
        ],
    }
    assert repetitions(document) == [
        (("listen", 1, "address"), '"[::1]:25" is listen[0].address already'),
        (("admin", "address"), '"127.0.0.1:25" is listen[2].address already'),
        (("http", "address"), '"[::1]:25" is listen[0].address already'),
        (("destination", 1, "match"), '"*.example.org" is destination[0].match already'),
        (("provider", 1, "name"), '"a" is provider[0].name already'),
        (("source", 1, "name"), '"p" is source[0].name already'),
        (("provider", 1, "mx", 0), '"mx.a.example" is provider[0].mx[0] already'),
        (("source", 1, "senders", 0), '"a@b.example" is source[0].senders[0] already'),
        (("route", 2, "match"), '"example.org" is route[0].match already'),
        (("source", 0, "addresses", 1, "address"), '"::1" is source[0].addresses[0].address already'),
    ]


def test_a_wildcard_takes_in_the_addresses_of_its_family_and_port():
    document = {
        "listen": [
            {"address": "127.0.0.1:25"},
            {"address": "0.0.0.0:25"},
            {"address": "127.0.0.1:26"},
            {"address": "[::]:26"},
            {"address": "[::]:25"},
            {"address": "0.0.0.0:0"},
            {"address": "127.0.0.1:0"},
            {"address": "unix:/run/x.sock"},
        ],
        "admin": {"address": "[::1]:26"},
        "http": {"address": "0.0.0.0:26"},
    }
    end = "is every address; write one of them, or another port"
    assert repetitions(document) == [
        (("listen", 1, "address"), f'"0.0.0.0:25" is taken with listen[0].address, for 0.0.0.0 {end}'),
        (("admin", "address"), f'"[::1]:26" is taken with listen[3].address, for :: {end}'),
        (("http", "address"), f'"0.0.0.0:26" is taken with listen[2].address, for 0.0.0.0 {end}'),
    ]


def test_routes_are_the_same_by_sender_and_destination():
    document = {
        "route": [
            {"match": "*"},
            {"match": "*", "from": "shop.example"},
            {"match": "a.example", "from": "shop.example"},
            {"match": "*", "from": "Shop.example"},
            {"match": "*", "from": "not a sender"},
        ]
    }
    assert repetitions(document) == [
        (("route", 3, "match"), '"* from shop.example" is route[1].match already')
    ]


def test_port_0_is_another_one_every_time():
    assert (
        repetitions({"listen": [{"address": "127.0.0.1:0"}] * 2, "admin": {"address": "127.0.0.1:0"}}) == []
    )


def test_pools_nobody_has():
    document = {
        "source": [{"name": "bulk"}],
        "delivery": {"source": "bulk"},
        "destination": [{"source": ""}, {"source": "bluk"}],
        "provider": [{"source": "other"}],
        "route": [{"source": "bulk"}, {}, {"source": "x"}],
    }
    assert between.unknown_pools(document) == [
        (("destination", 1, "source"), '"bluk" is no pool; did you mean bulk?'),
        (("provider", 0, "source"), '"other" is no pool; write a [[source]] of that name'),
        (("route", 2, "source"), '"x" is no pool; write a [[source]] of that name'),
    ]
    assert between.unknown_pools({"delivery": {"source": "x"}}) == [
        (("delivery", "source"), '"x" is no pool; write a [[source]] of that name')
    ]


def test_providers_nobody_knows():
    document = {
        "provider": [
            {"name": "google"},
            {"name": "gogle"},
            {"name": "zzz"},
            {"name": "own", "mx": ["mx.own.example"]},
        ],
        "adapt": [
            {},
            {"provider": "*"},
            {"provider": "google"},
            {"provider": "own"},
            {"provider": "yaho"},
            {"provider": "?"},
        ],
    }
    assert between.unknown_providers(document, {"google": 1, "yahoo": 2}) == [
        (("provider", 1, "name"), '"gogle" is not known yet; did you mean google?'),
        (("provider", 2, "name"), '"zzz" is not known yet; write its mx'),
        (("adapt", 4, "provider"), '"yaho" is no provider; did you mean yahoo?'),
        (("adapt", 5, "provider"), '"?" is no provider; write a [[provider]] of that name'),
    ]


def test_more_connections_to_begin_with_than_ever():
    document = {
        "delivery": {"connections": 3, "initial_connections": 4},
        "destination": [{"connections": 3, "initial_connections": 3}, {"initial_connections": 50}],
        "provider": [{"connections": 1, "initial_connections": 2}],
    }
    assert between.more_than_all(document) == [
        (("delivery", "initial_connections"), "4 is more than connections, 3"),
        (("provider", 0, "initial_connections"), "2 is more than connections, 1"),
    ]


def test_priorities_above_the_limit():
    listens = [{"priority": 3, "priority_limit": 3}, {"priority": 3}, {"priority": 0, "priority_limit": -1}]
    assert between.above_the_limit({"listen": listens}) == [
        (("listen", 2, "priority"), "0 is more than priority_limit, -1")
    ]


def test_a_pause_has_no_factor():
    document = {"adapt": [{"action": "pause", "factor": 0.5}, {"action": "slower", "factor": 0.5}]}
    assert between.idle_factors(document) == [(("adapt", 0, "factor"), "means nothing with action = pause")]


@pytest.mark.parametrize("strange", STRANGE)
def test_what_cannot_be_read_is_passed_over(strange):
    document = dict.fromkeys(TABLES, strange)
    known = {"x": 1}
    document["provider"] = [] if document["provider"] == [{"name": 5}] else document["provider"]
    assert mistakes(document, known) == []


def test_keys_that_mean_nothing_on_what_is_listened_on():
    document = {
        "listen": [
            {"address": "unix:/run/x.sock", "allow": ["10.0.0.0/8"]},
            {"address": "127.0.0.1:25", "mode": "0660"},
            {"address": "unix:/run/y.sock", "mode": "0660"},
            {"address": "127.0.0.1:26", "allow": ["10.0.0.0/8"]},
        ]
    }
    assert between.socket_files(document) == [
        (
            ("listen", 0, "allow"),
            "means nothing with a socket file: whoever may open it may relay; write mode",
        ),
        (("listen", 1, "mode"), 'means something only with address = "unix:..."'),
    ]


@pytest.mark.parametrize("other", ["unix:/run/x:0", "unix:/run/./x:0", "unix:/run//x:0"])
def test_a_socket_file_is_one_listeners(other):
    document = {"listen": [{"address": "unix:/run/x:0"}, {"address": other}]}
    [(path, text)] = repetitions(document)
    assert (path, text) == (("listen", 1, "address"), '"unix:/run/x:0" is listen[0].address already')
