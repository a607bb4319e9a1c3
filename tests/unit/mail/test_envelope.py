"""Envelopes: the domain of an address, the order of recipients, their runs, and parameters."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstamp.mail.envelope import (
    DomainRun,
    Recipient,
    domain_of,
    domain_runs,
    notifies,
    ordered,
    parameter,
    replaced,
    same,
)

addresses = st.sampled_from(
    [b"a@x.test", b"b@x.test", b"A@X.TEST", b"a@y.test", b"a@z.test", b'"a@y.test"@x.test', b"postmaster"]
)
recipients = st.lists(st.builds(Recipient, addresses, st.sampled_from([b"", b"NOTIFY=NEVER"])), max_size=20)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        (b"user@example.org", b"example.org"),
        (b"User@Example.ORG", b"example.org"),
        (b'"a@b"@example.org', b"example.org"),
        (b"user@[192.0.2.1]", b"[192.0.2.1]"),
        (b"user@[IPv6:2001:DB8::1]", b"[ipv6:2001:db8::1]"),
        ("ü@BÜCHER.example".encode(), "bÜcher.example".encode()),
        (b"postmaster", b""),
        (b"", b""),
        (b"user@", b""),
    ],
)
def test_the_domain_of_an_address(address: bytes, domain: bytes) -> None:
    assert domain_of(address) == domain


def test_recipients_are_ordered_by_domain_and_otherwise_stay_as_they_came() -> None:
    found = [Recipient(a) for a in (b"z@b.test", b"c@a.test", b"a@b.test", b"b@A.test", b"z@b.test")]
    assert [one.address for one in ordered(found)] == [b"c@a.test", b"b@A.test", b"z@b.test", b"a@b.test"]


def test_only_exact_repetitions_are_dropped() -> None:
    found = [Recipient(b"a@x.test"), Recipient(b"A@x.test"), Recipient(b"a@x.test", b"NOTIFY=NEVER")]
    assert ordered([*found, *found]) == tuple(found)


@given(recipients)
def test_nobody_is_lost_and_nobody_comes_twice(found: list[Recipient]) -> None:
    result = ordered(found)
    assert set(result) == set(found)
    assert len(set(result)) == len(result)
    assert ordered(result) == result
    for one, two in pairwise(result):
        if domain_of(one.address) == domain_of(two.address):
            assert found.index(one) < found.index(two)


@given(recipients)
def test_runs_cover_every_recipient_once_and_each_domain_has_one(found: list[Recipient]) -> None:
    result = ordered(found)
    runs = domain_runs(result)
    assert len({run.domain for run in runs}) == len(runs)
    assert [o for run in runs for o in range(run.first, run.first + run.count)] == list(range(len(result)))
    for run in runs:
        members = result[run.first : run.first + run.count]
        assert {domain_of(one.address) for one in members} == {run.domain}


def test_runs() -> None:
    found = [Recipient(a) for a in (b"a@a.test", b"b@A.test", b"a@b.test")]
    assert domain_runs(found) == [DomainRun(b"a.test", 0, 2), DomainRun(b"b.test", 2, 1)]
    assert domain_runs([]) == []


@pytest.mark.parametrize(
    ("parameters", "keyword", "value"),
    [
        (b"", b"BODY", None),
        (b"BODY=8BITMIME SMTPUTF8", b"BODY", b"8BITMIME"),
        (b"BODY=8BITMIME SMTPUTF8", b"SMTPUTF8", b""),
        (b"body=8bitmime", b"BODY", b"8bitmime"),
        (b"ENVID=QQ=314 RET=HDRS", b"ENVID", b"QQ=314"),
        (b"ENVID=AbC", b"ENVID", b"AbC"),
        (b"XBODY=1", b"BODY", None),
        (b"RET=HDRS BODY=", b"BODY", b""),
        (b"ORCPT=rfc822;a+2Bb@x.test", b"ORCPT", b"rfc822;a+2Bb@x.test"),
    ],
)
def test_parameters(parameters: bytes, keyword: bytes, value: bytes | None) -> None:
    assert parameter(parameters, keyword) == value


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (b"", {b"FAILURE", b"DELAY"}),
        (b"ORCPT=rfc822;a@b", {b"FAILURE", b"DELAY"}),
        (b"NOTIFY=NEVER", set()),
        (b"notify=never", set()),
        (b"NOTIFY=SUCCESS", {b"SUCCESS"}),
        (b"ORCPT=rfc822;FAILURE NOTIFY=Delay,success", {b"SUCCESS", b"DELAY"}),
        (b"NOTIFY=SUCCESS,FAILURE,DELAY", {b"SUCCESS", b"FAILURE", b"DELAY"}),
    ],
)
def test_rfc_3461_what_a_sender_wants_to_know(parameters: bytes, told: set[bytes]) -> None:
    assert {one for one in (b"SUCCESS", b"FAILURE", b"DELAY") if notifies(parameters, one)} == told


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (b"", b"TENANT=new"),
        (b"TENANT=old", b"TENANT=new"),
        (b"BODY=7BIT tenant=old RET=FULL TENANT=older", b"BODY=7BIT RET=FULL TENANT=new"),
        (b"ENVID=TENANT", b"ENVID=TENANT TENANT=new"),
    ],
)
def test_a_parameter_is_replaced(parameters: bytes, expected: bytes) -> None:
    assert replaced(parameters, b"TENANT", b"new") == expected


def test_a_mailbox_is_one_however_its_domain_is_written() -> None:
    """RFC 5321 §2.4: a domain is the same in any case, a local part is not."""
    found = [Recipient(one) for one in (b"a@y.example", b"b@z.example", b"a@Y.example", b"A@y.example")]
    assert [one.address for one in ordered(found)] == [b"a@y.example", b"A@y.example", b"b@z.example"]
    assert same(b"postmaster") == b"postmaster"
