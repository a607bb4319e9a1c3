"""Policies: the domain's rule, then the provider's, then the default; and RFC 5321's bounds."""

import pytest

from backstamp.policy.destination import DestinationPolicy, PolicyTable, Provider, Rule, Timeouts

TABLE = PolicyTable(
    DestinationPolicy(connections=20, idle=2.0),
    [Rule("big.example", {"connections": 2}), Rule("*.big.example", {"idle": 9.0})],
    [
        Provider("google", ("*.google.com", "*.googlemail.com"), {"connections": 10, "idle": 5.0}),
        Provider("tiny", ("mx.tiny.example",)),
    ],
)


@pytest.mark.parametrize(
    ("domain", "hosts", "connections", "idle", "rule", "provider"),
    [
        ("x.example", ["mx.x.example"], 20, 2.0, "", ""),
        ("x.example", [], 20, 2.0, "", ""),
        ("x.example", ["aspmx.l.google.com"], 10, 5.0, "", "google"),
        ("x.example", ["own.x.example", "alt1.googlemail.com"], 10, 5.0, "", "google"),
        ("x.example", ["google.com"], 20, 2.0, "", ""),
        ("big.example", ["mx.big.example"], 2, 2.0, "big.example", ""),
        ("big.example", ["aspmx.l.google.com"], 2, 5.0, "big.example", "google"),
        ("eu.big.example", ["aspmx.l.google.com"], 10, 9.0, "*.big.example", "google"),
        ("x.example", ["mx.tiny.example"], 20, 2.0, "", "tiny"),
    ],
)
def test_what_holds_for_a_destination(
    domain: str, hosts: list[str], connections: int, idle: float, rule: str, provider: str
) -> None:
    found = TABLE.lookup(domain, hosts)
    assert (found.policy.connections, found.policy.idle) == (connections, idle)
    assert (found.rule, found.provider) == (rule, provider)
    assert (found.shared is not None) == bool(provider)


def test_a_rule_for_a_domain_does_not_change_what_the_provider_is_owed() -> None:
    found = TABLE.lookup("big.example", ["aspmx.l.google.com"])
    assert found.shared is not None and found.shared.connections == 10


def test_no_wait_is_shorter_than_rfc_5321_allows() -> None:
    least = Timeouts(greeting=300, mail=300, rcpt=300, data=120, block=180, final=600)
    default = DestinationPolicy().timeouts
    for name in ("greeting", "mail", "rcpt", "data", "block", "final"):
        assert getattr(default, name) >= getattr(least, name)


def test_a_transaction_carries_no_more_than_a_hundred_recipients() -> None:
    assert DestinationPolicy().recipients_per_transaction == 100


@pytest.mark.parametrize(
    ("rule", "provider", "origins"),
    [
        ("", "", {}),
        ("big.example", "", {"connections": "rule"}),
        ("big.example", "google", {"connections": "rule", "idle": "provider"}),
        ("*.big.example", "google", {"connections": "provider", "idle": "rule"}),
        ("gone.example", "gone", {}),
    ],
)
def test_who_says_a_value(rule: str, provider: str, origins: dict[str, str]) -> None:
    assert TABLE.origins(rule, provider) == origins
