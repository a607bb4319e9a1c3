"""Who is suppressed, and when a bounce suppresses."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backstamp.mail.address import AddressError, parse_path
from backstamp.policy.suppression import (
    DAY,
    At,
    Entry,
    Match,
    Source,
    SuppressionPolicy,
    canonical,
    class_name,
    counts,
    learn,
    refusal,
    wanted,
)

ON = SuppressionPolicy(enabled=True)
NOW = 1_764_000_000.5


@pytest.mark.parametrize(
    ("address", "same"),
    [
        (b"Joe@Example.ORG", "joe@example.org"),
        (b'"joe"@example.org', "joe@example.org"),
        (b'"j\\oe"@example.org', "joe@example.org"),
        (b'"Joe Doe"@example.org', '"joe doe"@example.org'),
        (b'"a\\"b\\\\c"@example.org', '"a\\"b\\\\c"@example.org'),
        (b'"a@b"@example.org', '"a@b"@example.org'),
        (b'""@example.org', '""@example.org'),
        (b'"a..b"@example.org', '"a..b"@example.org'),
        (b"joe+news@example.org", "joe+news@example.org"),
        ("JÖRG@BÜCHER.example".encode(), "jörg@xn--bcher-kva.example"),
        ("jo\u0308rg@example.org".encode(), "jörg@example.org"),
        (b"@Example.org", "@example.org"),
        (b"user@[IPv6:::1]", "user@[ipv6:::1]"),
    ],
)
def test_one_mailbox_is_one_address(address: bytes, same: str) -> None:
    assert canonical(address) == same


def test_a_tag_is_a_mailbox_of_its_own() -> None:
    assert canonical(b"joe+news@example.org") != canonical(b"joe@example.org")


@given(st.binary(max_size=40))
@example("İ@example.org".encode())
@example(b'"\\')
@example(b"\xff@\xff")
def test_what_is_canonical_stays_so(octets: bytes) -> None:
    once = canonical(octets)
    assert canonical(once.encode()) == once


@given(st.text(max_size=20), st.sampled_from(["example.org", "bücher.example"]))
def test_what_the_listener_takes_can_be_written_into_the_list(local: str, domain: str) -> None:
    try:
        address, _ = parse_path(f"<{local}@{domain}>".encode("utf-8", "surrogatepass"), utf8=True)
    except AddressError:
        return
    assert wanted(canonical(address)) == canonical(address)


def test_a_mailbox_named_by_a_star_is_no_whole_domain() -> None:
    assert canonical(b"*@example.org") == canonical(b'"*"@example.org') == '"*"@example.org'
    assert wanted('"*"@example.org') == '"*"@example.org'


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Joe@Example.org ", "joe@example.org"),
        ("@Example.org", "@example.org"),
        ("*@example.org", "@example.org"),
        ("@bücher.example", "@xn--bcher-kva.example"),
    ],
)
def test_what_a_person_names(text: str, address: str) -> None:
    assert wanted(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "joe",
        "joe@",
        "@",
        "*",
        "joe@example.org SIZE=1",
        "<joe@example.org>",
        "a@b\nc",
        "@1.2",
        "\ud800@x",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|domain|UTF-8"):
        wanted(text)


@pytest.mark.parametrize("name", ["", "invalid-recipient", "x" * 64, "4ever"])
def test_names_of_classes(name: str) -> None:
    assert class_name(name) == name


@pytest.mark.parametrize("name", ["-x", "Invalid", "a b", "x" * 65, "é", "a\r\n250 ok"])
def test_what_is_no_name_of_a_class(name: str) -> None:
    with pytest.raises(ValueError, match="bounce class"):
        class_name(name)


def bounce(policy: SuppressionPolicy, *earlier: float, name: str = "invalid-recipient") -> Entry | None:
    return learn(policy, b"Joe@Example.org", b"tenant", name, "550 5.1.1 no", now=NOW, earlier=earlier)


def test_nothing_is_learned_unless_it_is_switched_on() -> None:
    assert bounce(SuppressionPolicy(), NOW - 1, NOW - 2) is None
    assert not counts(SuppressionPolicy(), "invalid-recipient")


def test_the_second_bounce_in_thirty_days_suppresses_for_thirty_days() -> None:
    assert bounce(ON) is None
    assert bounce(ON, NOW - 30 * DAY) is None
    assert bounce(ON, NOW + 1) is None, "a clock that went back makes no bounce count twice"
    assert bounce(ON, NOW - 30 * DAY + 1) == Entry(
        "joe@example.org",
        "tenant",
        "invalid-recipient",
        "550 5.1.1 no",
        int(NOW),
        int(NOW + 30 * DAY),
        Source.BOUNCE,
    )


@pytest.mark.parametrize("name", ["spam-block", "suppressed", "mailbox-full", ""])
def test_other_bounces_suppress_nobody(name: str) -> None:
    assert bounce(ON, NOW - 1, NOW - 2, name=name) is None


def test_how_often_and_how_long_are_settings() -> None:
    at_once = msgspec.structs.replace(ON, after=1, expiry=None)
    found = bounce(at_once)
    assert found is not None
    assert found.expires is None
    thrice = msgspec.structs.replace(ON, after=3)
    assert bounce(thrice, NOW - 1) is None
    assert bounce(thrice, NOW - 1, NOW - 2) is not None


def test_what_the_client_reads() -> None:
    assert refusal(Match("invalid-recipient", Source.BOUNCE, None)) == (
        "550 5.7.1 Recipient is on the suppression list: invalid-recipient"
    )
    assert refusal(Match("", Source.OPERATOR, None)) == "550 5.7.1 Recipient is on the suppression list"


def test_by_default_the_list_says_no_as_early_as_it_can() -> None:
    assert SuppressionPolicy().at is At.ACCEPT
