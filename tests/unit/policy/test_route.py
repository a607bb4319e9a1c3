"""Routes: the longest match wins, and a parent's rule does not cover the parent itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.route import Credentials, NextHop, Route, RouteTable, Smarthost, sender_name

labels = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)
matches = st.one_of(labels, labels.map("*.{}".format), st.just("*"))


def table(*found: str) -> RouteTable:
    return RouteTable(Route(match, Smarthost((NextHop(match, 25),))) for match in found)


@pytest.mark.parametrize(
    ("matches", "domain", "expected"),
    [
        ((), "example.org", None),
        (("example.org",), "example.org", "example.org"),
        (("example.org",), "mail.example.org", None),
        (("Example.ORG",), "example.org", "Example.ORG"),
        (("*.example.org",), "example.org", None),
        (("*.example.org",), "mail.example.org", "*.example.org"),
        (("*.example.org",), "a.b.example.org", "*.example.org"),
        (("*.example.org",), "notexample.org", None),
        (("*.org", "*.example.org"), "mail.example.org", "*.example.org"),
        (("*.org", "*.example.org"), "other.org", "*.org"),
        (("*", "*.org"), "example.org", "*.org"),
        (("*", "*.org"), "example.com", "*"),
        (("*", "*.example.org", "mail.example.org"), "mail.example.org", "mail.example.org"),
        (("*",), "localhost", "*"),
        (("example.org", "example.org"), "example.org", "example.org"),
    ],
)
def test_which_route_is_found(matches: tuple[str, ...], domain: str, expected: str | None) -> None:
    found = table(*matches).lookup(domain)
    assert (found.match if found is not None else None) == expected


@given(st.lists(matches, max_size=8), labels)
def test_no_longer_rule_would_match(rules: list[str], domain: str) -> None:
    def covers(rule: str) -> bool:
        return rule in {"*", domain} or (rule.startswith("*.") and domain.endswith(rule[1:]))

    found = table(*rules).lookup(domain)
    fitting = [rule for rule in rules if covers(rule)]
    if found is None:
        assert not fitting
    else:
        best = max(fitting, key=lambda rule: (rule == domain, len(rule)))
        assert found.match == best


HUB = Smarthost((NextHop("hub.example", 25),))


@pytest.mark.parametrize(
    ("sender", "domain", "expected"),
    [
        ("boss@shop.example", "x.example", "boss"),
        ("Boss@Shop.Example", "x.example", "boss"),
        ("anna@shop.example", "x.example", "shop"),
        ("anna@eu.shop.example", "x.example", "below"),
        ("anna@else.example", "x.example", "all"),
        ("anna@shop.example", "special.example", "special"),
        ("<>", "x.example", "null"),
        ("", "x.example", "all"),
    ],
)
def test_a_route_for_a_sender_outweighs_one_for_everybody(sender: str, domain: str, expected: str) -> None:
    def route(name: str, sender: str, match: str = "*") -> Route:
        return Route(match, Smarthost((NextHop(name, 25),)), sender)

    found = RouteTable(
        [
            route("all", ""),
            route("shop", "shop.example", "x.example"),
            route("below", "*.shop.example"),
            route("boss", "boss@shop.example"),
            route("special", "", "special.example"),
            route("null", "<>"),
        ]
    ).lookup(domain, sender)
    assert found is not None and found.via is not None
    assert found.via.hosts[0].host == expected


def test_a_route_may_lead_back_to_mx() -> None:
    table = RouteTable([Route("*", HUB), Route("direct.example", None)])
    found = table.lookup("direct.example")
    assert found is not None and found.via is None
    assert not table.by_sender


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("user", "secret"))


@given(st.lists(matches, max_size=8), labels)
def test_the_route_that_decides_is_the_first_of_those_that_fit(rules: list[str], domain: str) -> None:
    def covers(rule: str) -> bool:
        return rule in {"*", domain} or (rule.startswith("*.") and domain.endswith(rule[1:]))

    found = [route.match for route in table(*rules).fitting(domain)]
    decides = table(*rules).lookup(domain)
    assert (found[0] if found else None) == (decides.match if decides is not None else None)
    assert sorted(found) == sorted({rule for rule in rules if covers(rule)})


def test_routes_that_are_outweighed_follow_in_their_order() -> None:
    found = RouteTable(
        [
            Route("*", None),
            Route("*", None, sender="a@x.test"),
            Route("y.test", None),
            Route("y.test", None, sender="x.test"),
            Route("z.test", None, sender="a@x.test"),
        ]
    )
    named = [(route.sender, route.match) for route in found.fitting("y.test", "a@x.test")]
    assert named == [("a@x.test", "*"), ("x.test", "y.test"), ("", "y.test"), ("", "*")]
    assert [route.sender for route in found.fitting("y.test")] == ["", ""]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"", "<>"),
        (b"A.b@Shop.Example", "A.b@shop.example"),
        ("ü@bücher.example".encode(), "ü@xn--bcher-kva.example"),
        (b'"a@b"@c.example', '"a@b"@c.example'),
        (b"\xff@c.example", "\\xff@c.example"),
    ],
)
def test_a_reverse_path_is_named_with_its_domain_in_a_labels(path: bytes, name: str) -> None:
    assert sender_name(path) == name
