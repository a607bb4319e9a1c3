"""Routes: the longest match wins, and a parent's rule does not cover the parent itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.policy.destination import DestinationPolicy, NextHop, Route, RouteTable, Timeouts

labels = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)
matches = st.one_of(labels, labels.map("*.{}".format), st.just("*"))


def table(*found: str) -> RouteTable:
    return RouteTable(Route(match, NextHop(match, 25)) for match in found)


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


def test_no_wait_is_shorter_than_rfc_5321_allows() -> None:
    least = Timeouts(greeting=300, mail=300, rcpt=300, data=120, block=180, final=600)
    default = DestinationPolicy().timeouts
    for name in ("greeting", "mail", "rcpt", "data", "block", "final"):
        assert getattr(default, name) >= getattr(least, name)


def test_a_transaction_carries_no_more_than_a_hundred_recipients() -> None:
    assert DestinationPolicy().recipients_per_transaction == 100
